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


def bound_endpoint(**tables):
    """(Endpoint, its port) on 127.0.0.1; raises check.Skip where there is no such interface."""
    if coap.socket is None:
        raise check.Skip("no sockets")
    begin = int.from_bytes(os.urandom(2), "big")
    for n in range(TRIES):
        port = FIRST + (begin + n) % COUNT
        try:
            return coap.Endpoint(port, "127.0.0.1", **tables), port
        except OSError:
            pass
    raise check.Skip("no loopback interface, or no free port on it")
