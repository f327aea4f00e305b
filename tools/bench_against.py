"""Measures lib/ as it is beside lib/ as it was in a revision of git, in turn: what a change is worth.

Closer than the ratios to other programs, for nothing but the change differs. Ours on MicroPython alone.
"""

import bench_client
from bench_process import json_of, library_of, micropython
from bench_server import measure, ours
from budgets import Row

NOW, THEN = " now", " then"
FIELDS = (
    ("server: CPU per GET", "server", "cpu_us"),
    ("server: latency", "server", "latency_us"),
    ("client: CPU per request", "client", "cpu_us"),
    ("client: requests per second", "client", "rps"),
    ("codec: index per second", "codec", "index"),
    ("codec: write per second", "codec", "write"),
    ("codec: decode and read per second", "codec", "decode"),
    ("codec: construct and encode per second", "codec", "build"),
    ("codec: a GET in Engine.receive per second", "codec", "engine"),
)
ROWS = [Row(what, f"{group}{NOW}.{name}", f"{group}{THEN}.{name}") for what, group, name in FIELDS]


def measure_all(revision):
    """Returns {group: figures} of both."""
    found = measure({"server" + NOW: ours(), "server" + THEN: ours()._replace(revision=revision)})
    for name, which in ((NOW, None), (THEN, revision)):
        with library_of(which):
            found["codec" + name] = json_of(micropython("codec.py", 5000))
            found["client" + name] = bench_client.measure(micropython, "client.py", bench_client.COUNT, 0)
    return found
