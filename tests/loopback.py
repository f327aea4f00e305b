"""Endpoints on the loopback interface, on ports that nobody else has: on CPython and MicroPython alike.

MicroPython cannot be asked which port the system chose, so ports are tried. They are below those that the system gives
to clients' sockets, and begin elsewhere in each run: another may be under way.
"""

import os

import check
import coap

FIRST = 10000
COUNT = 10000
TRIES = 100


def carries(sock, address):
    """Whether a datagram of the socket `sock` to `address`, its own, arrives: a Pico W has no loopback."""
    try:
        sock.sendto(b"x", address)
    except OSError:
        return False
    for _ in range(20):
        try:
            return sock.recvfrom(1)[0] == b"x"
        except OSError:
            coap.sleep_ms(5)
    return False


def bound_endpoint(**tables):
    """(Endpoint, its port) on 127.0.0.1; raises check.Skip where there is no such interface."""
    if coap.socket is None:
        raise check.Skip("no sockets")
    begin = int.from_bytes(os.urandom(2), "big")
    for n in range(TRIES):
        port = FIRST + (begin + n) % COUNT
        try:
            endpoint = coap.Endpoint(port, "127.0.0.1", **tables)
        except OSError:
            continue
        if carries(endpoint.socket, endpoint.resolve("127.0.0.1:%d" % port)):
            return endpoint, port
        endpoint.close()
        break
    raise check.Skip("no loopback interface, or no free port on it")
