"""Sends each datagram back, polling before each as a server has to that also keeps time. echo_poll.py PORT"""

import select
import socket
import sys

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(socket.getaddrinfo("127.0.0.1", int(sys.argv[1]))[0][-1])
poller = select.poll()
poller.register(sock, select.POLLIN)
while True:
    for _ in poller.ipoll(1000):
        data, peer = sock.recvfrom(1153)
        sock.sendto(data, peer)
