"""Measures what OSCORE costs: bytes and microseconds of a protected exchange beside a plain one, RAM of a context.

    python tools/bench_oscore.py

prints the table; bench.py calls measure_all and print_table.
"""

import json
import subprocess

from bench_memory import WASM
from bench_process import PROGRAMS, cpython, json_of, library, micropython, program

ROUNDS = 300
COLUMNS = ("request_bytes", "response_bytes", "client_us", "server_us", "allocated")


def on_32_bits():
    """Returns what tools/bench/oscore.py prints on 32-bit MicroPython (WebAssembly); None where that is missing."""
    if not WASM.is_dir():
        return None
    command = [program("node", "apt-get install nodejs npm"), PROGRAMS.parent / "wasm_run.mjs"]
    command += [PROGRAMS / "oscore.py", *library()[1].glob("*.mpy")]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout) if done.returncode == 0 else None


def measure_all():
    """Returns {where: {"plain": {...}, "protected": {...}, "context": bytes}}."""
    found = {
        "oscore MicroPython": json_of(micropython("oscore.py", ROUNDS, heap="2m")),
        "oscore CPython": json_of(cpython("oscore.py", ROUNDS)),
        "oscore 32 bits": on_32_bits(),
    }
    return {where: figures for where, figures in found.items() if figures}


def print_table(found):
    """Prints what measure_all found, a line for each interpreter and kind of exchange."""
    print("OSCORE, GET with a response of 6 bytes, no socket")
    print("%-20s %-10s" % ("", "") + "".join([" %14s" % name for name in COLUMNS]))
    for where, figures in found.items():
        for kind in ("plain", "protected") if where != "oscore 32 bits" else ():
            values = "".join([" %14s" % figures[kind][name] for name in COLUMNS])
            print("%-20s %-10s%s" % (where[7:], kind, values))
        if figures["context"]:
            print("%-20s a context keeps %d bytes" % (where[7:], figures["context"]))


if __name__ == "__main__":
    print_table(measure_all())
