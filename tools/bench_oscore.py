"""Measures what OSCORE costs: bytes and microseconds of a protected exchange beside a plain one, RAM of a context.

    python tools/bench_oscore.py

prints the table; bench.py calls measure_all and print_table.
"""

import json
import subprocess

from bench_memory import WASM
from bench_process import PROGRAMS, cpython, json_of, library, micropython, program

ROUNDS = 300
KINDS = ("plain", "protected")
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
    """Returns {"oscore MicroPython plain": figures, "... protected": ..., "... context": ...}, and for the others.

    On 32 bits nothing but the context, for there is no AES and no fine clock.
    """
    found = {
        "MicroPython": json_of(micropython("oscore.py", ROUNDS, heap="2m")),
        "CPython": json_of(cpython("oscore.py", ROUNDS)),
    }
    flat = {f"oscore {where} {kind}": figures[kind] for where, figures in found.items() for kind in KINDS}
    flat["oscore MicroPython context"] = {"kept": found["MicroPython"]["context"]}
    on_32 = on_32_bits()
    return flat | {"oscore 32 bits context": {"kept": on_32["context"]}} if on_32 else flat


def print_table(found):
    """Prints what measure_all found, a line for each interpreter and kind of exchange."""
    print("OSCORE, GET with a response of 6 bytes, no socket")
    print("%-24s" % "" + "".join([" %14s" % name for name in COLUMNS]))
    for group, figures in found.items():
        if group.startswith("oscore ") and "kept" in figures:
            print("%-24s keeps %d bytes" % (group[7:], figures["kept"]))
        elif group.startswith("oscore "):
            print("%-24s" % group[7:] + "".join([" %14.0f" % figures[name] for name in COLUMNS]))


if __name__ == "__main__":
    print_table(measure_all())
