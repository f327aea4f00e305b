"""Sends datagrams from one socket and prints what comes back, for test_join.py.

    python tests/host/join_ask.py ADDRESS PORT DEVICE COUNT WAIT_S HEX...

Waits WAIT_S, and longer while there are less than COUNT replies. Prints a line for each: the milliseconds since the
last datagram was sent, the sender, the bytes.
"""

import socket
import sys
import time

PATIENCE_S = 20  # with a busy computer


def main(address, port, device, count, wait_s, *datagrams):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        scope = (0, socket.if_nametoindex(device)) if ":" in address else ()
        for datagram in datagrams:
            sock.sendto(bytes.fromhex(datagram), (address, int(port), *scope))
        begin_s = time.monotonic()
        missing = int(count)
        while (left_s := begin_s + (PATIENCE_S if missing > 0 else float(wait_s)) - time.monotonic()) > 0:
            sock.settimeout(left_s)
            try:
                reply, sender = sock.recvfrom(2048)
            except TimeoutError:
                return
            missing -= 1
            print(round(1000 * (time.monotonic() - begin_s)), sender[0], reply.hex())


main(*sys.argv[1:])
