"""Measures what coaps costs beside coap: our client and our server on MicroPython, one request after the other.

Both run on one processor, as in bench_client.
"""

import socket
import sys
import time

from bench_load import HOST
from bench_process import BenchError, cpu_s, json_of, micropython
from bench_server import START_TIMEOUT_S, failure, serving, started

COUNT = 2000
COLUMNS = ("cpu_us", "server_cpu_us", "request_bytes", "response_bytes")


def wait_until_bound(up):
    """Returns when the server has its port, for it answers no datagram without DTLS; raises BenchError when it ends."""
    until_s = time.monotonic() + START_TIMEOUT_S
    while up.process.poll() is None and time.monotonic() < until_s:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((HOST, up.port))
            except OSError:
                return
        time.sleep(0.02)
    raise failure(up)


def measure(up, script, *arguments):
    """Returns the figures of a client, and server_cpu_us, the CPU time of the server per request."""
    before_s = cpu_s(up.process.pid)
    figures = json_of(micropython(script, *arguments, COUNT), 0)
    return figures | {"server_cpu_us": (cpu_s(up.process.pid) - before_s) / COUNT * 1e6}


def measure_all():
    """Returns {"coaps plain": figures, "coaps protected": figures}; {} where there is no DTLS, which is said."""
    try:
        with started(lambda port: micropython("serve_coaps.py", port)) as up:
            wait_until_bound(up)
            protected = measure(up, "coaps.py", up.port)
    except BenchError as problem:
        print(f"coaps is not measured: {problem}", file=sys.stderr)
        return {}
    with serving(lambda port: micropython("serve.py", port)) as up:
        plain = measure(up, "client.py", f"coap://{HOST}:{up.port}/temp")
    return {"coaps plain": plain, "coaps protected": protected}


def print_table(found):
    """Prints what measure_all found, if it found something."""
    if not found:
        return
    print("coaps with a pre-shared key, GET with a response of 5 bytes; the bytes are those that DTLS adds")
    print("%-24s" % "" + "".join([" %14s" % name for name in COLUMNS]))
    for group, figures in found.items():
        print("%-24s" % group[6:] + "".join([" %14.0f" % figures.get(name, 0) for name in COLUMNS]))
    handshake = [found["coaps protected"]["handshake_" + name] for name in ("datagrams", "bytes", "ms")]
    print("the handshake: %.0f datagrams, %.0f bytes, %.1f ms" % tuple(handshake))


if __name__ == "__main__":
    print_table(measure_all())
