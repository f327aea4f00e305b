"""The sensor server on this computer, on MicroPython's unix port or CPython:

    micropython ports/unix/main.py [port [host]]

port: 5683 if not given; host: the address to serve, 127.0.0.1 if not given, 0.0.0.0 for all.
Exits with 1 and one sentence if it cannot serve there, with 0 at Ctrl-C.
"""

import errno
import sys

_HERE = __file__.rpartition("/")[0] or "."
sys.path[:0] = [_HERE, _HERE + "/..", _HERE + "/../../lib"]

import board  # noqa: E402
import sensor_server  # noqa: E402


def _arguments(words):
    """The port and host of a command line; raises ValueError."""
    port = int(words[0]) if words else 5683
    if len(words) > 2 or not 0 < port < 65536:
        raise ValueError
    return port, words[1] if len(words) > 1 else "127.0.0.1"


def main(words):
    """Serve until Ctrl-C; returns the exit code."""
    try:
        port, host = _arguments(words)
    except ValueError:
        print("usage: main.py [port [host]], with a port from 1 to 65535")
        return 2
    try:
        sensor_server.run(board.Board(), port, host)
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            print("port %d on %s is taken; stop what uses it, or give another port" % (port, host))
        else:
            print("cannot serve port %d on %s: %r" % (port, host, error))
        return 1


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):  # CPython keeps lines back when it prints into a pipe
        sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main(sys.argv[1:]))
