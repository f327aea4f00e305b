"""Measures clients: requests per second against libcoap's server, one after the other, each from a URI as text."""

from bench_process import cpython, json_of, micropython
from bench_server import HOST, libcoap, serving


def measure(command, script, count):
    """Returns {"rps": requests per second} of a client; `command` is micropython or cpython."""
    with serving(libcoap, "time") as up:
        return json_of(command(script, f"coap://{HOST}:{up.port}/time", count))


def measure_all():
    """Returns {group: measure of it}. 60,000 requests would be the most: message IDs repeat."""
    return {
        "client ours": measure(micropython, "client.py", 3000),
        "client aiocoap": measure(cpython, "client_aiocoap.py", 1000),
        "client ours CPython": measure(cpython, "client.py", 3000),
    }
