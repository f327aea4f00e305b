"""Measures speed and memory, and prints both against what they must reach: make bench

    python tools/bench.py [--quick] [--only codec server client memory] [--rounds N] [--strict]

Everything is measured in turn, N times, so that what disturbs the computer meanwhile disturbs all; printed are the
medians, ratios of figures of one round, and their spread. build/bench.json keeps all of it, build/bench.svg shows it.
Takes about five minutes, on Linux. The server runs on one processor and what loads it on another, if there are two;
nothing else should run meanwhile.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time

import bench_client
import bench_codec
import bench_memory
import bench_plot
import bench_process
import bench_server
import budgets

LEAST_ROUNDS = 7
BUSY_LOAD = 0.5
PARTS = {
    "codec": bench_codec.measure_all,
    "server": bench_server.measure_all,
    "client": bench_client.measure_all,
    "memory": bench_memory.measure_all,
}
QUICK = (bench_server.measure_main, bench_codec.measure_main, bench_memory.measure_all)


def measure(parts, rounds):
    """Measures all parts in turn, `rounds` times, memory once; returns [{group: {name: figure}}], a dict per round."""
    measured = []
    begin_s = time.monotonic()
    for number in range(rounds):
        figures = {}
        for part in parts:
            if part is not bench_memory.measure_all or number == 0:
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
        print("%-26s %s" % (group, "  ".join(f"{name} {value:,.1f}" for name, value in found[group].items())))
    print()


def computer():
    """Returns what the figures were measured on, and when."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "heap": bench_process.HEAP,
        "load": os.getloadavg()[0],
    }


def arguments_given():
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the main ratios alone, in less than a minute")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="one or more of " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, metavar="N")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a ratio misses what it must reach")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds needs a number of at least 1")
    return arguments


def record(before, rounds, judged):
    """Writes build/bench.json. before: computer() of when the measuring began."""
    content = {"computer": before, "rounds": rounds, "ratios": judged}
    (bench_process.ROOT / "build").mkdir(exist_ok=True)
    (bench_process.ROOT / "build/bench.json").write_text(json.dumps(content, indent=1) + "\n")


def main():
    """Measures, prints and records; returns the exit code."""
    arguments = arguments_given()
    bench_process.library()
    if os.getloadavg()[0] > BUSY_LOAD:
        print("this computer is busy: requests per second will be too low, CPU per request less so", file=sys.stderr)
    before = computer()
    parts = QUICK if arguments.quick else [PARTS[name] for name in arguments.only or PARTS]
    rounds = measure(parts, arguments.rounds)
    ratios = budgets.judge(rounds, budgets.SPEED)
    if arguments.quick or arguments.only:
        ratios = [entry for entry in ratios if entry["n"]]
    allocated = budgets.judge(rounds, budgets.ALLOCATED)
    print_figures(medians(rounds))
    budgets.print_ratios(ratios)
    if not arguments.only or "memory" in arguments.only:
        print()
        budgets.print_bytes(allocated)
    if arguments.rounds < LEAST_ROUNDS:
        print(f"medians of {arguments.rounds}: rough, {LEAST_ROUNDS} are needed")
    if not arguments.quick and not arguments.only:
        record(before, rounds, ratios + allocated)
        bench_plot.draw(medians(rounds), bench_process.ROOT / "build/bench.svg")
        print("build/bench.json and build/bench.svg are written")
    return 1 if arguments.strict and budgets.misses(ratios + allocated) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except bench_process.BenchError as problem:
        sys.exit(f"cannot be measured: {problem}")
