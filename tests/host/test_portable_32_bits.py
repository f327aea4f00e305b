"""Runs the portable tests where objects are as big as on a board: MicroPython 1.27 for WebAssembly, without sockets."""

import ast
import re
import subprocess

import pytest

import size_heap
from programs import ROOT, node_package, program

TIME_LIMIT_S = 300
# What this build of MicroPython lacks, by the name of a file or of a test
LACKS = {
    "test_aio": "asyncio.run",
    "test_file_server": "sockets",
    "test_discovery.test_discovery_when_read_by_offset_then_the_document_is_not_in_memory": "collection in a test",
    "test_oscore_attacks.test_forged_kids_when_ten_thousand_come_then_nothing_grows_and_who_has_keys_is_served":
        "collection in a test",
}  # fmt: skip
FILES = sorted(path.stem for path in (ROOT / "tests").glob("test_*.py") if path.stem not in LACKS)
# os.urandom is missing, too; os may be replaced by a file of that name
OS = """
from uos import *


def urandom(n):
    import random

    return bytes(random.getrandbits(8) for _ in range(n))
"""
# Memory is freed between pieces of a script only, which a gc.collect() ends: a piece for each test
BEGIN = """
import gc
import run
tally = run.Tally()
gc.collect()
"""
PIECE = """
run.run_file("{file}", tally, ["{test}"])
gc.collect()
"""


def tests_of(file):
    """Returns the names of the tests in tests/`file`.py that can run here."""
    tree = ast.parse((ROOT / f"tests/{file}.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [name for name in names if f"{file}.{name}" not in LACKS]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the scripts import: the library's .mpy, the tests' sources and os.py."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "os.py").write_text(OS)
    size_heap.compile_library(folder)
    return [*folder.iterdir(), *(ROOT / "tests").glob("*.py"), *(ROOT / "ports").glob("*.py")]


@pytest.mark.parametrize("file", FILES)
def test_portable_tests_pass_on_32_bits(file, files, tmp_path):
    node_package("@micropython/micropython-webassembly-pyscript")
    script = tmp_path / "script.py"
    script.write_text(BEGIN + "".join(PIECE.format(file=file, test=test) for test in tests_of(file)))
    command = [program("node"), ROOT / "tools/wasm_run.mjs", script, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    output = done.stdout + done.stderr
    ran = re.findall(rf"^(?:ok|skip) {file}\.(\w+)", done.stdout, re.MULTILINE)
    assert done.returncode == 0 and "FAIL" not in done.stdout, output
    assert ran == tests_of(file), output
