"""Prints the heap that the library takes on a 32-bit MicroPython of the unix port: make size32

    python tools/size32.py

The first time it fetches MicroPython's source and builds it, see tools/unix32.py. Measured is each module, imported
from .mpy files, from ROMFS, where code is executed in place, and frozen; the smallest heap in which
ports/sensor_server.py starts and answers by a socket; the smallest in which source is compiled. None of this is
hardware: what a board's firmware itself takes, WiFi for one, is not in it.
"""

import argparse
import collections
import sys
import tempfile
from pathlib import Path

import size_serve
import unix32
from size_heap import (
    ROOT,
    MeasureError,
    compile_library,
    in_kb,
    kept_beside_coap,
    kept_by_all,
    or_reason,
    run_on_32_bits,
    run_on_64_bits,
    smallest_heap_to_compile_kb,
    why_no_32_bits,
)

WITH_SIBLINGS = ["coap", "coap_observe", "coap_block"]
SERVER_SOURCES = [ROOT / "lib/coap.py", ROOT / "lib/coap_observe.py", unix32.APPLICATION]
# As MicroPython does by itself: undoes what main.py of a board says
COLLECTS_LATE = "gc.threshold(-1)\n"
# On 64 bits no program has the image as a constant: it is in the heap before it is measured.
MOUNTS_FILE = f"""
import sys, vfs
with open({str(unix32.ROM_IMAGE)!r}, "rb") as file:
    image = file.read()
vfs.mount(vfs.VfsRom(image), "/rom")
sys.path.insert(0, "/rom")
"""

# Where code comes from. run: see size_heap; folder: that it imports from; prelude: lines that go before
Way = collections.namedtuple("Way", "name run folder prelude", defaults=("",))


def ways_on_32_bits(mpy, empty):
    """Returns the three ways of the 32-bit builds; mpy, empty: a folder with all .mpy, and one without."""
    return (
        Way(".mpy", unix32.run_plain, mpy),
        Way("ROMFS", unix32.run_plain, empty, unix32.MOUNTS_ROM),
        Way("frozen", unix32.run_frozen, empty),
    )


def ways_to_compare(mpy, empty):
    """Returns what else is measured: WebAssembly, where it is there, and 64 bits."""
    on_wasm = () if why_no_32_bits() else (Way("wasm .mpy", run_on_32_bits, mpy),)
    on_64 = (Way("64-bit .mpy", run_on_64_bits, mpy), Way("64-bit ROMFS", run_on_64_bits, empty, MOUNTS_FILE))
    return on_wasm + on_64


def print_kept(names, ways):
    """Prints for each module and for sets of them what importing keeps; a line for each, a column for each way."""
    columns = "%-32s" + " %12s" * len(ways)
    print(columns % ("bytes of heap kept", *[way.name for way in ways]))
    for name in names:
        print(columns % (name, *[or_reason(kept_beside_coap, way.run, name, way.folder, way.prelude) for way in ways]))
    for what, several in ((", ".join(WITH_SIBLINGS), WITH_SIBLINGS), ("all of them", names)):
        print(columns % (what, *[or_reason(kept_by_all, way.run, several, way.folder, way.prelude) for way in ways]))
    print()


def smallest_to_serve(way, prelude=""):
    """Returns the smallest heap in KB in which the sensor server serves; prelude: lines that go before it."""
    return size_serve.smallest_heap_to_serve_kb(way.folder, way.run.args[0], way.prelude + prelude)


def print_serving(ways):
    """Prints the smallest heaps in which the sensor server serves."""
    columns = "%-32s" + " %12s" * len(ways)
    print("ports/sensor_server.py with a socket, %d requests, 32 bits:" % size_serve.EXCHANGES)
    print(columns % ("smallest heap", *[way.name for way in ways]))
    blocks = size_serve.ATTACHES_BLOCKS
    rows = {"with coap_observe": "", "with coap_block, too": blocks, "... collected when full": COLLECTS_LATE + blocks}
    for what, prelude in rows.items():
        print(columns % (what, *[in_kb(or_reason(smallest_to_serve, way, prelude)) for way in ways]))
    print()


def print_compiling():
    """Prints the smallest heaps in which source is compiled."""
    print("compiling on 32 bits, smallest heap")
    for sources in (SERVER_SOURCES[:1], SERVER_SOURCES):
        kb = or_reason(smallest_heap_to_compile_kb, sources, unix32.run_plain)
        print("%-42s %s" % (", ".join(source.name for source in sources), in_kb(kb)))


def budget_figures(mpy):
    """Returns what the budgets ask for, measured on the 32-bit builds: {name: bytes}; mpy: a folder with all .mpy."""
    unix32.build()
    with tempfile.TemporaryDirectory() as name:
        from_mpy, _, frozen = ways_on_32_bits(mpy, Path(name))
        return {
            "frozen": kept_by_all(frozen.run, WITH_SIBLINGS, frozen.folder),
            "serving": smallest_to_serve(from_mpy, size_serve.ATTACHES_BLOCKS) * 1024,
            "compiling": smallest_heap_to_compile_kb(SERVER_SOURCES[:1], unix32.run_plain) * 1024,
        }


def measure():
    """Builds what is missing and prints all tables."""
    unix32.build()
    print(f"MicroPython {unix32.VERSION}, unix port, 32-bit objects, GC blocks of 16 bytes; a PC, not hardware")
    print(f"image of ROMFS with lib/ and the sensor server: {unix32.ROM_IMAGE.stat().st_size} bytes")
    print()
    with tempfile.TemporaryDirectory() as mpy, tempfile.TemporaryDirectory() as empty:
        folders = Path(mpy), Path(empty)
        names = compile_library(folders[0])
        ways = ways_on_32_bits(*folders)
        print_kept(names, ways + ways_to_compare(*folders))
        size_serve.compile_port(folders[0])
        print_serving(ways)
        print_compiling()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    try:
        measure()
    except MeasureError as problem:
        sys.exit(f"cannot be measured: {problem}")
