"""The sensor server on this computer, on MicroPython's unix port or CPython:

    micropython ports/unix/main.py [port [host [keys]]]
    micropython ports/unix/main.py new-keys keys
    micropython ports/unix/main.py coaps coaps_keys [port [host]]

port: 5683 if not given, of coaps 5684; host: the address to serve, 127.0.0.1 if not given, 0.0.0.0 for all; keys: the
path of a file as oscore_example.json, then only requests protected with these keys are answered; coaps_keys: that of
one as coaps_example.json, then it speaks coaps only, on MicroPython. Without either it is what sensor_server.py has as
OSCORE or COAPS. new-keys begins the sequence numbers of OSCORE for keys that were never used.
Exits with 1 and one sentence if it cannot serve there, with 2 if it is called otherwise, with 0 at Ctrl-C.
"""

import errno
import os
import sys

_HERE = __file__.rpartition("/")[0] or "."
_LIB = _HERE + "/../../lib"
try:
    os.stat(_LIB + "/coap.py")
    sys.path[:0] = [_HERE, _HERE + "/..", _LIB]
except OSError:  # deployed: all that it needs is beside it, or in the board's own lib
    pass

import board  # noqa: E402
import sensor_server  # noqa: E402

_USAGE = """usage: main.py [port [host [keys]]], with a port from 1 to 65535
   or: main.py new-keys keys
   or: main.py coaps coaps_keys [port [host]]"""


def _arguments(words):
    """The port, host and files of keys, for OSCORE and coaps, of a command line; raises ValueError, SetupError."""
    oscore = coaps = None
    if words[:1] == ["coaps"]:
        if not 1 < len(words) < 5:
            raise ValueError
        coaps = words[1]
        words = words[2:]
    elif len(words) > 2:
        oscore = words[2]
    oscore, coaps, usual_port = sensor_server.choose(oscore, coaps)
    port = int(words[0]) if words else usual_port
    if len(words) > 3 or not 0 < port < 65536:
        raise ValueError
    return port, words[1] if len(words) > 1 else "127.0.0.1", oscore, coaps


def main(words):
    """Serve until Ctrl-C; returns the exit code."""
    try:
        if len(words) == 2 and words[0] == "new-keys":
            import oscore_setup

            oscore_setup.new_keys(words[1])
            return 0
        port, host, oscore, coaps = _arguments(words)
    except sensor_server.SetupError as error:
        print(error)
        return 1
    except ValueError:
        print(_USAGE)
        return 2
    try:
        sensor_server.run(board.Board(), port, host, oscore, coaps)
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
