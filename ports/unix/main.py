"""The sensor server on this computer, on MicroPython's unix port or CPython:

    micropython ports/unix/main.py [port [host [keys]]]
    micropython ports/unix/main.py new-keys keys

port: 5683 if not given; host: the address to serve, 127.0.0.1 if not given, 0.0.0.0 for all; keys: the path of a file
as oscore_example.json, then only requests protected with these keys are answered, and of what is in sensor_server.py as
OSCORE if not given. new-keys begins the sequence numbers for keys that were never used.
Exits with 1 and one sentence if it cannot serve there, with 0 at Ctrl-C.
"""

import errno
import sys

_HERE = __file__.rpartition("/")[0] or "."
sys.path[:0] = [_HERE, _HERE + "/..", _HERE + "/../../lib"]

import board  # noqa: E402
import sensor_server  # noqa: E402


def _arguments(words):
    """The port, host and keys of a command line; raises ValueError."""
    port = int(words[0]) if words else 5683
    if len(words) > 3 or not 0 < port < 65536:
        raise ValueError
    return port, words[1] if len(words) > 1 else "127.0.0.1", words[2] if len(words) > 2 else None


def main(words):
    """Serve until Ctrl-C; returns the exit code."""
    try:
        if len(words) == 2 and words[0] == "new-keys":
            import oscore_setup

            oscore_setup.new_keys(words[1])
            return 0
        port, host, keys = _arguments(words)
    except sensor_server.SetupError as error:
        print(error)
        return 1
    except ValueError:
        print("usage: main.py [port [host [keys]]], with a port from 1 to 65535; or: main.py new-keys keys")
        return 2
    try:
        sensor_server.run(board.Board(), port, host, keys)
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except sensor_server.SetupError as error:
        print(error)
        return 1
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
