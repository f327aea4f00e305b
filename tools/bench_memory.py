"""Measures memory: bytes of heap that an exchange allocates on 64 and on 32 bits, and what more resources take."""

import json
import subprocess

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


def measure_all():
    """Returns {group: bytes by name}; they are the same each time."""
    return {"memory 64 bits": json_of(micropython("memory.py", heap="2m")), "memory 32 bits": on_32_bits()}
