"""Measures clients: requests per second against libcoap's server, one after the other, each from a URI as text.

A fresh endpoint each time. Client and server run on one processor, for never do both have something to do; on two of
them most of the time goes by while one wakes the other, above all in a virtual machine. Measured so, too, as
"..., 2 processors".
"""

from bench_load import HOST
from bench_process import cpython, json_of, micropython
from bench_server import libcoap, serving

COUNT, COUNT_AIOCOAP = 2000, 700  # requests; 60,000 would be the most, for message IDs repeat
BESIDE = ", 2 processors"


def measure(command, script, count, place):
    """Returns {"rps": requests per second, "cpu_us": per request} of a client; `command` is micropython or cpython.

    place: the client's processor, 0 (which is the server's) or -1.
    """
    with serving(libcoap, "time") as up:
        return json_of(command(script, f"coap://{HOST}:{up.port}/time", count), place)


def measure_main():
    """Returns {group: measure of it} of what the main ratio needs."""
    return {
        "client ours": measure(micropython, "client.py", COUNT, 0),
        "client aiocoap": measure(cpython, "client_aiocoap.py", COUNT_AIOCOAP, 0),
    }


def measure_all():
    """Returns {group: measure of it}."""
    return measure_main() | {
        "client ours CPython": measure(cpython, "client.py", COUNT, 0),
        "client ours" + BESIDE: measure(micropython, "client.py", COUNT, -1),
        "client aiocoap" + BESIDE: measure(cpython, "client_aiocoap.py", COUNT_AIOCOAP, -1),
    }
