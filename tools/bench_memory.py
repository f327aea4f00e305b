"""Measures memory: bytes of heap that an exchange allocates on 64 and on 32 bits, by part, what more resources take,
and what tools/size.py tells of imports and smallest heaps."""

import json
import subprocess
import tempfile
from pathlib import Path

import size
import size_heap
from bench_process import NODE_MODULES, PROGRAMS, ROOT, BenchError, json_of, library, micropython, program

WASM = NODE_MODULES / "@micropython/micropython-webassembly-pyscript"


def on_32_bits():
    """Returns what tools/bench/memory.py prints on 32-bit MicroPython (WebAssembly)."""
    if not WASM.is_dir():
        raise BenchError("MicroPython for WebAssembly is missing: make peers")
    node = program("node", "apt-get install nodejs npm")
    command = [node, ROOT / "tools/wasm_run.mjs", PROGRAMS / "memory.py", *library()[1].glob("*.mpy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise BenchError(f"memory.py failed on 32 bits: {(done.stdout.strip().splitlines() or [''])[-1]}")
    return json.loads(done.stdout)


def measure_sizes():
    """Returns {"size": bytes by name}: heap after import, smallest heaps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            names = size.compile_library(folder)
            return {"size": size.budget_figures(names, folder, size.serving_figures(folder, True))["size"]}
        except size_heap.MeasureError as problem:
            raise BenchError(f"tools/size.py says: {problem}") from None


def measure_all():
    """Returns {group: bytes by name}; they are the same each time."""
    return {"memory 64 bits": json_of(micropython("memory.py", heap="2m")), "memory 32 bits": on_32_bits()}


def print_parts(found):
    """Prints the bytes that an exchange of a server allocates, by part."""
    figures = found["memory 64 bits"]
    print("bytes of heap per exchange of a server, 64 bits (on 32 bits about half)")
    parts = (
        ("recvfrom", "recvfrom", "a datagram of 21 bytes and its address: no library can avoid it"),
        ("engine", "server", "decode, duplicates, routing, response, sendto"),
        ("handler", "handler_text", '"%.1f C" % 22.5; a constant: 0'),
    )
    for part, name, what in parts:
        print("%-10s %6.0f  %s" % (part, figures[name], what))
