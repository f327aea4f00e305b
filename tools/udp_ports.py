"""UDP ports of this computer for servers that tests and benchmarks start.

A port that the system chooses (bind to 0) is in the range from which it also gives one to every client's socket. One
that is freed, to be bound by a server that starts, may so be a client's by then: at worst that of the very socket which
asks whether the server is up, which then hears itself. Ports here are below that range.
"""

import itertools
import random
import socket

FIRST, LAST = 10000, 19999


def _candidates():
    """The ports, none twice before all had their turn; where they begin differs between runs, which may overlap."""
    begin = random.SystemRandom().randrange(LAST - FIRST + 1)  # some tests seed the module's own generator
    for n in itertools.count(begin):
        yield FIRST + n % (LAST - FIRST + 1)


_ports = _candidates()


def is_free(port):
    """Whether nobody has a UDP port, at whatever address of this computer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def free_port(following=0):
    """Returns the number of a UDP port that nobody uses, nor the `following` ones."""
    for _ in range(LAST - FIRST):
        port = next(_ports)
        if all([is_free(port + n) for n in range(following + 1)]):
            return port
    raise OSError(f"no free UDP port from {FIRST} to {LAST}")
