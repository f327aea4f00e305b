"""Prints how big the library is, and what its budgets say of it: make size

    python tools/size.py [--strict]
    python tools/size.py --functions [MODULE [FILE]]

--strict     exit with 1 when something is over what it must keep to, or was not measured
--functions  instead: what each function, class, method and table of a module (coap) costs on 32 bits; FILE is
             another version of it than that in lib/

Measured for each file of lib/: the bytes of its source and of its .mpy, the heap that importing the .mpy
keeps, on 64-bit MicroPython and on 32-bit MicroPython (WebAssembly, where objects are as big as on a
board), and the smallest heap in which the import works on 64 bits. The other files import coap; their
heap is what they keep in addition to it. Then what serving takes, a session of coaps, and the things of a program,
and the budgets. Smallest heaps on 32 bits are estimated, unless `make size32` has built what they are measured with.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import budgets
import size32
import size_dtls
import size_functions
import size_serve
import unix32
from size_heap import (
    ROOT,
    MeasureError,
    compile_library,
    in_kb,
    kept_beside_coap,
    kept_by_all,
    lines_of,
    or_reason,
    run_on_32_bits,
    run_on_64_bits,
    smallest_heap_to_compile_kb,
    smallest_heap_to_import_kb,
    why_no_32_bits,
)

# What is made, how many of them, how; of a slot or byte, what it takes in addition to an Engine.
PRICES = (
    ("an Engine with the default tables", 1, "coap.Engine(bytes)"),
    ("an Endpoint with the default tables", 1, "coap.Endpoint(sock=Transport(), random=bytes)"),
    ("a slot of recent", 64, "coap.Engine(bytes, recent=80)"),
    ("a slot of kept", 64, "coap.Engine(bytes, kept=96)"),
    ("a byte of datagram_len", 4096, "coap.Engine(bytes, datagram_len=5248)"),
    ("a resource with a handler", 20, "[resource(n) for n in range(20)]"),
    ("Message()", 20, "[coap.Message() for _ in range(20)]"),
    ("Message.decode of 16 bytes", 20, "[coap.Message.decode(datagram) for _ in range(20)]"),
    ("a message in send's queue, of 25 bytes", 20, "[send() for _ in range(20)]"),
    ("a Tuning", 20, "[coap.Tuning() for _ in range(20)]"),
)
PRICE_SCRIPT = """
import coap
import gc


class Transport:
    def recvfrom(self, n):
        return None


engine = coap.Engine(bytes, queued=40)
message = coap.Message(coap.GET, uri_path=("sensors", "temp"))
datagram = b"\\x42\\x01\\x7d\\x34tk\\xb4temp\\x02in\\x61\\x32"


def resource(n):
    return engine.resource("sensors/%d" % n, rt="temperature", ct=0).get(len)


def send():
    return engine.send(message, "peer")


results = [0, 0, 0]
resource(99), send()
engine.end(engine.send(message, "peer"), None)
"""
PRICE_STEP = """
results[0] = results[2] = None
gc.collect()
gc.collect()
results[1] = gc.mem_alloc()
try:
    results[0] = {made}
except Exception as error:
    results[2] = "%s: %s" % (type(error).__name__, error)
gc.collect()
gc.collect()
print(results[2] or gc.mem_alloc() - results[1])
"""


def print_modules(names, folder, has_32_bits):
    """Prints a line of figures for each module, and one for the whole set."""
    columns = "%-18s %8s %8s %12s %14s %12s"
    print(columns % ("bytes", "source", ".mpy", "64-bit heap", "smallest heap", "32-bit heap"))
    totals = [0, 0]
    for name in names:
        source_len = (ROOT / f"lib/{name}.py").stat().st_size
        mpy_len = (folder / f"{name}.mpy").stat().st_size
        totals = [totals[0] + source_len, totals[1] + mpy_len]
        kept_64 = or_reason(kept_beside_coap, run_on_64_bits, name, folder)
        kept_32 = or_reason(kept_beside_coap, run_on_32_bits, name, folder) if has_32_bits else "-"
        smallest = or_reason(smallest_heap_to_import_kb, name, folder)
        print(columns % (name + ".py", source_len, mpy_len, kept_64, in_kb(smallest), kept_32))
    if len(names) > 1:
        all_64 = or_reason(kept_by_all, run_on_64_bits, names, folder)
        all_32 = or_reason(kept_by_all, run_on_32_bits, names, folder) if has_32_bits else "-"
        print(columns % ("all of them", *totals, all_64, "", all_32))
    print()


def print_serving(figures, has_32_bits):
    """Prints what serving and compiling take."""
    print("ports/sensor_server.py from .mpy, %d requests:" % size_serve.EXCHANGES)
    print("    smallest heap, 64 bits, with a socket          %s" % in_kb(figures["observe_kb"]))
    print("    ... with coap_block, too                       %s" % in_kb(figures["serving_kb"]))
    if has_32_bits:
        print("    kept afterwards, 32 bits, transport played     %s bytes" % figures["serving_kept"])
        print("    allocated per exchange, 32 bits, handlers too  %s bytes" % figures["serving_allocated"])
    print("compiling coap.py on the device, smallest heap, 64 bits  %s" % in_kb(figures["compiling_kb"]))
    print()


def serving_figures(folder, has_32_bits):
    """Returns what print_serving prints, a dict."""
    size_serve.compile_port(folder)
    figures = {
        "observe_kb": or_reason(size_serve.smallest_heap_to_serve_kb, folder),
        "serving_kb": or_reason(size_serve.smallest_heap_to_serve_kb, folder, None, size_serve.ATTACHES_BLOCKS),
        "compiling_kb": or_reason(smallest_heap_to_compile_kb, [ROOT / "lib/coap.py"]),
    }
    if has_32_bits:
        got = or_reason(size_serve.kept_on_32_bits, folder)
        figures["serving_allocated"], figures["serving_kept"] = got if isinstance(got, tuple) else (got, got)
    return figures


def print_prices(folder):
    """Prints the bytes that the things of a program keep on 32 bits; of a slot or byte, in addition to an Engine."""
    script = folder / "prices.py"
    script.write_text(PRICE_SCRIPT + "".join(PRICE_STEP.format(made=made) for _, _, made in PRICES))
    kept = lines_of(run_on_32_bits(script, folder))
    for (what, count, made), kept_len in zip(PRICES, kept):
        if not kept_len.lstrip("-").isdigit():
            print("%-40s cannot be told: %s" % (what, kept_len))
            continue
        beside = int(kept[0]) if made.startswith("coap.Engine(bytes, ") else 0
        print("%-40s %8.1f bytes on 32 bits" % (what, (int(kept_len) - beside) / count))
    print()


def smallest_heaps(folder, serving, share):
    """Returns the smallest heaps on 32 bits that the budgets ask for, measured or estimated: {name: bytes}.

    The 32-bit heap of WebAssembly grows by itself. An estimate is that of 64 bits times what importing coap keeps on
    32 bits by what it keeps on 64, `share`; it was found within 10 % of what is measured.
    """
    if unix32.is_built():
        return size32.budget_figures(folder)
    known = [name for name in ("serving", "compiling") if isinstance(serving[f"{name}_kb"], int)]
    return {name: round(serving[f"{name}_kb"] * 1024 * share) for name in known}


def budget_figures(names, folder, serving):
    """Returns the figures that the budgets of memory ask for, {group: {name: bytes}}."""
    kept_32 = kept_beside_coap(run_on_32_bits, "coap", folder)
    share = kept_32 / kept_beside_coap(run_on_64_bits, "coap", folder)
    figures = {"size": {"coap": kept_32} | smallest_heaps(folder, serving, share)}
    if set(size32.WITH_SIBLINGS) <= set(names):
        figures["size"]["coap_observe_block"] = kept_by_all(run_on_32_bits, size32.WITH_SIBLINGS, folder)
    memory = lines_of(run_on_32_bits(ROOT / "tools/bench/memory.py", folder))
    return figures | {"memory 32 bits": json.loads(memory[-1])}


def measure(is_strict):
    """Prints all tables; returns the exit code."""
    missing = why_no_32_bits()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = compile_library(folder)
        print_modules(names, folder, has_32_bits=not missing)
        serving = serving_figures(folder, has_32_bits=not missing)
        print_serving(serving, has_32_bits=not missing)
        size_dtls.print_each(*[or_reason(size_dtls.kept_by_each, folder, is_whole) for is_whole in (True, False)])
        if missing:
            print(f"{missing}; until then nothing is known of the budgets")
            return 1 if is_strict or os.environ.get("CI") == "true" else 0
        print_prices(folder)
        figures = [budget_figures(names, folder, serving)]
        judged = budgets.judge(figures, budgets.memory(figures))
        budgets.print_bytes(judged)
        return 1 if is_strict and budgets.misses(judged) else 0


def main():
    """Does what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true", help="exit with 1 when over budget, or when that is not known")
    parser.add_argument("--functions", nargs="*", metavar="NAME", help="[MODULE [FILE]]")
    arguments = parser.parse_args()
    if arguments.functions is None:
        return measure(arguments.strict)
    if len(arguments.functions) > 2:
        parser.error("--functions takes a module, and a file with another version of it")
    size_functions.run(*arguments.functions)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeasureError as problem:
        sys.exit(f"cannot be measured: {problem}")
