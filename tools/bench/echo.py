"""Sends each datagram back: what recvfrom and sendto alone cost. echo.py PORT; CPython and MicroPython."""

import socket
import sys

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(socket.getaddrinfo("127.0.0.1", int(sys.argv[1]))[0][-1])
while True:
    data, peer = sock.recvfrom(1153)
    sock.sendto(data, peer)
