"""Measures speed and memory, and prints both against what they must reach: make bench

    python tools/bench.py [--quick] [--only PART...] [--rounds N] [--strict]
    python tools/bench.py --against REVISION [--rounds N]

Everything is measured in turn, N times, so that what disturbs the computer meanwhile disturbs all; printed are the
medians, ratios of figures of one round, and their spread. build/bench.json keeps all of it, build/bench.svg shows it.
Takes about six minutes, on Linux, --quick less than one. The server runs on one processor and what loads it on another,
if there are two. Nothing else should run meanwhile; a turn in which something did is repeated.
"""

import argparse
import functools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib import metadata

import bench_against
import bench_blocks
import bench_client
import bench_coaps
import bench_codec
import bench_memory
import bench_oscore
import bench_plot
import bench_process
import bench_server
import budgets

LEAST_ROUNDS = 7
BUSY_LOAD = 0.5
LEAST_BUSY = 0.9  # below that the load was too slow for the server, whose rate is a lower limit then
PARTS = {
    "server": bench_server.measure_all,
    "codec": bench_codec.measure_all,
    "client": bench_client.measure_all,
    "blocks": bench_blocks.measure_all,
    "oscore": bench_oscore.measure_all,
    "coaps": bench_coaps.measure_all,
    "memory": bench_memory.measure_all,
    "size": bench_memory.measure_sizes,
}
ONCE = (bench_memory.measure_all, bench_memory.measure_sizes)  # bytes do not vary
QUICK = (bench_server.measure_main, bench_codec.measure_main, bench_client.measure_main, bench_memory.measure_all)


def measure(parts, rounds):
    """Measures all parts in turn, `rounds` times, bytes once; returns [{group: {name: figure}}], a dict per round."""
    measured = []
    begin_s = time.monotonic()
    for number in range(rounds):
        bench_process.begin_round(number)
        figures = {}
        for part in parts:
            if part not in ONCE or number == 0:
                figures |= part()
        measured.append(figures)
        print(f"round {number + 1} of {rounds} done after {time.monotonic() - begin_s:.0f} s", file=sys.stderr)
    return measured


def medians(rounds):
    """Returns {group: {name: median over the rounds}}."""
    found = {}
    for group in rounds[0]:
        dicts = [figures[group] for figures in rounds if group in figures]
        found[group] = {name: statistics.median(d[name] for d in dicts) for name in dicts[0]}
    return found


def print_figures(found):
    """Prints the medians, a line for each thing measured."""
    for group in sorted(found):
        if group.startswith(("server", "codec", "client", "blocks")):
            figures = sorted(found[group].items())
            print("%-32s %s" % (group, "  ".join(f"{name} {value:,.4g}" for name, value in figures)))
    print()


def print_doubts(found, rounds):
    """Prints what may make the figures wrong."""
    servers = {group: figures for group, figures in found.items() if "disturbed" in figures}
    disturbed = [g for g, figures in servers.items() if figures["disturbed"] > bench_server.MOST_DISTURBED]
    idle = [g for g, figures in servers.items() if figures["busy"] < LEAST_BUSY and g not in disturbed]
    if disturbed:
        print(f"something else ran on the processors during: {', '.join(disturbed)}")
    if idle:
        print(f"the load was too slow for: {', '.join(idle)} (CPU per request holds, requests per second do not)")
    if rounds < LEAST_ROUNDS:
        print(f"medians of {rounds}: rough, {LEAST_ROUNDS} are needed")


def said_by(pattern, *command):
    """Returns what a pattern's first group finds in what a program prints, "" if that is nothing or it is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, cwd=bench_process.ROOT)
    except OSError:
        return ""
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else ""


def versions():
    """Returns the version of everything that is measured, "" for what is missing."""
    micropython = bench_process.program("micropython", "make venv")
    package = bench_process.NODE_MODULES / "coap/package.json"
    return {
        "commit": said_by(r"^([0-9a-f]{7}\S*)$", "git", "describe", "--always", "--dirty", "--exclude=*"),
        "processor": said_by(r"model name\s*: (.*)", "cat", "/proc/cpuinfo"),
        "python": platform.python_version(),
        "micropython": said_by(r"(MicroPython .*)", micropython, "-c", "import sys; print(sys.version)"),
        "aiocoap": metadata.version("aiocoap"),
        "CoAPthon3": metadata.version("CoAPthon3"),
        "libcoap": said_by(r"coap-server-notls v([0-9.]+)", "coap-server-notls", "-?"),
        "node": said_by(r"v([0-9.]+)", "node", "--version"),
        "node-coap": json.loads(package.read_text())["version"] if package.exists() else "",
    }


def computer():
    """Returns what the figures are measured on, and when."""
    return versions() | {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": platform.machine(),
        "processors": len(bench_process.PROCESSORS),
        "heap": bench_process.HEAP,
        "load": os.getloadavg()[0],
    }


def caption(before, rounds):
    """Returns what stands below the picture. before: as computer() returns it."""
    where = f"{before['processor'] or before['machine']}, {before['processors']} processors, loopback"
    return f"{where}; {before['micropython']}, heap {before['heap']}; medians of {rounds}; {before['time'][:10]}"


def arguments_given():
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the main ratios alone, in less than a minute")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="one or more of " + ", ".join(PARTS))
    parser.add_argument("--against", metavar="REVISION", help="compare lib/ with that of a revision of git, as HEAD")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, metavar="N")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a row misses what it must reach")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds needs a number of at least 1")
    return arguments


def record(before, rounds, judged):
    """Writes build/bench.json. before: computer() of when the measuring began."""
    content = {"computer": before, "rounds": rounds, "rows": judged}
    (bench_process.ROOT / "build").mkdir(exist_ok=True)
    (bench_process.ROOT / "build/bench.json").write_text(json.dumps(content, indent=1) + "\n")


def print_all(found, ratios, in_bytes):
    """Prints every table that has something in it."""
    print_figures(found)
    if "memory 64 bits" in found:
        bench_memory.print_parts(found)
        print()
    if "oscore MicroPython plain" in found:
        bench_oscore.print_table(found)
        print()
    if "coaps protected" in found:
        bench_coaps.print_table({group: found[group] for group in ("coaps plain", "coaps protected")})
        print()
    if ratios:
        budgets.print_ratios(ratios)
        print()
    if in_bytes:
        budgets.print_bytes(in_bytes)
        print()


def compare(revision, count):
    """Prints how lib/ stands to that of a revision of git, in `count` rounds."""
    bench_process.library(revision)
    rounds = measure([functools.partial(bench_against.measure_all, revision)], count)
    found = medians(rounds)
    print_figures(found)
    print(f"lib/ now / lib/ of {revision}")
    budgets.print_ratios(budgets.judge(rounds, bench_against.ROWS))
    print()
    print_doubts(found, count)


def main():
    """Measures, prints and records; returns the exit code."""
    arguments = arguments_given()
    bench_process.library()
    if os.getloadavg()[0] > BUSY_LOAD:
        print("this computer is busy: turns that are disturbed are repeated, and it takes longer", file=sys.stderr)
    if arguments.against:
        compare(arguments.against, arguments.rounds)
        return 0
    before = computer()
    is_whole = not arguments.quick and not arguments.only
    parts = QUICK if arguments.quick else [PARTS[name] for name in arguments.only or PARTS]
    rounds = measure(parts, arguments.rounds)
    ratios, in_bytes = budgets.judge(rounds, budgets.SPEED), budgets.judge(rounds, budgets.memory(rounds))
    if not is_whole:
        ratios, in_bytes = ([entry for entry in table if entry["n"]] for table in (ratios, in_bytes))
    found = medians(rounds)
    print_all(found, ratios, in_bytes)
    print_doubts(found, arguments.rounds)
    print(budgets.summary(ratios + in_bytes))
    if is_whole:
        record(before, rounds, ratios + in_bytes)
        bench_plot.draw(found, bench_process.ROOT / "build/bench.svg", caption(before, arguments.rounds))
        print("build/bench.json and build/bench.svg are written")
    return 1 if arguments.strict and budgets.misses(ratios + in_bytes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except bench_process.BenchError as problem:
        sys.exit(f"cannot be measured: {problem}")
