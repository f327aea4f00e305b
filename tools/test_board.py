"""Runs the tests on a board and reports what it measured: make test-board PORT=/dev/ttyACM0 [HOST=192.0.2.1]

    python tools/test_board.py [PORT] [--host HOST] [pytest arguments]

Copies the library to the board's /lib as .mpy, then runs `pytest --board PORT tests`: the portable tests on the
board, one piece after the other, each in a fresh interpreter, and tests/board, where this computer is the peer. At the
end the board goes on with its main.py.
"""

import argparse
import ast
import binascii
import functools
import re
import sys
from pathlib import Path

from mpremote.transport import TransportExecError

import deploy
from device import Device, DeviceError, MpyCross, describe_ports
from split_tests import imported_modules

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PIECE_SOURCE_LEN = 4000  # bytes of source that go to the board at once
SEND_LEN = 768  # bytes of a module in one command
SILENCE_S = 300  # a test may take so long without a word: a board is a hundred times slower than a PC

# A file system in the heap: a module is imported from there, and its file is gone.
RAM_SCRIPT = """
import gc, io, os, sys
from binascii import a2b_base64
class RAM:
    def __init__(self): self.files = {}
    def mount(self, readonly, mkfs): pass
    def umount(self): pass
    def stat(self, path):
        if path.strip('/') not in self.files: raise OSError(2)
        return 0x8000, 0, 0, 0, 0, 0, len(self.files[path.strip('/')]), 0, 0, 0
    def open(self, path, mode): return io.BytesIO(self.files.pop(path.strip('/')))
ram = RAM()
os.mount(ram, '/ram')
sys.path.insert(0, '/ram')
gc.threshold(gc.mem_free() // 16)
"""
HEAP_SCRIPT = """
import gc
gc.collect()
free = gc.mem_free()
import coap
gc.collect()
print((free, gc.mem_free()))
"""
# Whatever the port: the application's board.py brings the network up; the unix port has none to bring up.
NETWORK_SCRIPT = """
try:
    import network
except ImportError:
    network = None
if network:
    import board
    b = board.Board()
    b.connect()
    print(repr(b.address()))
else:
    print(repr('127.0.0.1'))
"""


class Result:
    """How a test ended: outcome "ok", "skip" or "FAIL", and its reason or traceback."""

    def __init__(self, outcome, text=""):
        self.outcome = outcome
        self.text = text


def parse_results(output):
    """Returns {"test_file.test_name": Result} of what tests/run.py printed."""
    results = {}
    result = None
    for line in output.splitlines():
        found = re.match(r"(ok|FAIL|skip) (test_[^ :]+)(?:: (.*))?$", line)
        if found:
            result = results[found[2]] = Result(found[1], found[3] or "")
        elif result is not None and result.outcome == "FAIL":
            result.text += line + "\n"
    return results


@functools.cache
def imports_of(path):
    """Returns the names of the modules that a file imports, a set."""
    return imported_modules(ast.parse(path.read_text()).body)


def module_closure(names):
    """Returns the paths of those of the modules `names` that lie in tests/, after those that they import in turn."""
    found = []
    for name in sorted(names):
        path = TESTS / f"{name}.py"
        if path.exists():
            found += module_closure(imports_of(path)) + [path]
    return list(dict.fromkeys(found))


class BoardTests:
    """Runs portable tests on the board on `port`; raises DeviceError.

    port: path; library: whether to bring the library onto the board first.
    """

    def __init__(self, port, library=True):
        self.compiler = MpyCross()
        self.device = Device(port)
        self._compiled = {}
        try:
            self.device.about.check(self.compiler.version)
            if library:
                self.library_sizes = self._install_library()
        except BaseException:
            self.close()
            raise

    def _install_library(self):
        """Brings all of lib/ to the board's /lib; returns {name: bytes}."""
        files = []
        for path in sorted((ROOT / "lib").glob("*.py")):
            data = self.compiler.compile(path.read_bytes(), path.name, 3, self.device.about.architecture)
            files.append(deploy.File(f"{path.stem}.mpy", True, data))
        deploy.install(self.device, files, say=lambda text: None)
        return {file.name: len(file.data) for file in files}

    def close(self):
        """Resets the board, which goes on with its main.py, and closes the port."""
        deploy.restart(self.device)
        self.device.close()

    def run(self, piece):
        """Runs a Piece in a fresh interpreter; returns {test name: Result} with all of its tests."""
        module = piece.module
        try:
            self.prepare(piece.imports | {"check", "run"})
            self.send(module, self._compile(f"{module}.py", piece.source))
        except TransportExecError as error:
            output, ended = "", error.error_output
        else:
            code = f"tally = run.Tally()\nrun.run_file({module!r}, tally, {piece.tests!r})"
            output, ended = self.device.run(code, SILENCE_S)
        results = parse_results(output)
        lost = results.get(module, Result("FAIL", ended or output or "no result"))  # the import may have failed
        return {name: results.get(f"{module}.{name}", lost) for name in piece.tests}

    def prepare(self, modules):
        """Gives a fresh interpreter in which those of `modules` that lie in tests/ are imported."""
        self.device.reset()
        self.device.exec(RAM_SCRIPT + "import coap\ngc.collect()")
        for path in module_closure(modules):
            self.send(path.stem, self._compile(path.name, path.read_text()))
            self.device.exec(f"import {path.stem}\ngc.collect()")

    def send(self, module, data):
        """Puts a compiled module into the board's heap, to be imported once."""
        self.device.exec(f"data = bytearray({len(data)})\nram.files['{module}.mpy'] = data")
        for begin in range(0, len(data), SEND_LEN):
            text = binascii.b2a_base64(data[begin : begin + SEND_LEN], newline=False)
            self.device.exec(f"data[{begin}:{min(begin + SEND_LEN, len(data))}] = a2b_base64({text})")
        self.device.exec("del data\ngc.collect()")

    def _compile(self, name, source):
        """With asserts and line numbers; what was compiled before is not compiled again."""
        key = name, source
        if key not in self._compiled:
            self._compiled[key] = self.compiler.compile(source.encode(), name, 0, self.device.about.architecture)
        return self._compiled[key]

    def address(self):
        """Brings the board's network up and returns its address as text; raises DeviceError."""
        self.device.reset()
        try:
            return self.device.eval_output(NETWORK_SCRIPT)
        except TransportExecError as error:
            said = error.error_output.strip().splitlines()[-1]
            raise DeviceError(f"the board has no network ({said}): run `make deploy` first, or give HOST=")

    def heap(self):
        """Returns (free bytes in a fresh interpreter, free bytes with coap imported)."""
        self.device.reset()
        return self.device.eval_output(HEAP_SCRIPT)


def main(words):
    """Runs the command line `words`; returns the exit code."""
    import pytest

    parser = argparse.ArgumentParser(description="Runs the tests on a board.")
    parser.add_argument("port", nargs="?", default="", help="serial port of the board")
    parser.add_argument("--host", help="the board's address as seen from here (default: ask the board)")
    options, rest = parser.parse_known_args(words)
    if not options.port:
        print(f"say which board: make test-board PORT=...; {describe_ports()}")
        return 1
    try:
        BoardTests(options.port).close()
    except (DeviceError, OSError) as problem:
        print(problem)
        return 1
    except TransportExecError as error:
        print("the board raised " + error.error_output.strip().splitlines()[-1])
        return 1
    except KeyboardInterrupt:
        print("interrupted; the board has its old files")
        return 1
    host = ["--host", options.host] if options.host else []
    return int(pytest.main(["--board", options.port, *host, str(TESTS), *rest]) != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
