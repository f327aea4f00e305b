"""Fixtures of the host tests."""

import os
import subprocess
import sys

import pytest

from programs import ROOT, program

for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # the make that runs the tests is no parent of those that they run
    os.environ.pop(name, None)


@pytest.fixture
def board_port(tmp_path):
    """The path of the serial port of a rehearsed board, whose file system is tmp_path/board."""
    program("micropython")
    (tmp_path / "board").mkdir()
    command = [sys.executable, ROOT / "tools/board_pty.py", "--cwd", tmp_path / "board"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as board:
        yield board.stdout.readline().strip()
        board.terminate()
