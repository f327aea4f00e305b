"""make test-board and pytest --board on a rehearsed board: the same tests as on CPython, in the heap of a board."""

import ast
import os
import re
import subprocess
import sys

import pytest
from mpremote.transport import TransportExecError

import split_tests
import test_board
from programs import ROOT
from rehearsal import rehearsed_board

HEAP = "512k"  # on 64 bits, for the tests of blocks; those of coap.py alone run in 256k
TIME_LIMIT_S = 550  # less than pytest's own limit, so that the output is shown
# What a board has no memory for; these run on CPython and on MicroPython with its usual heap.
TOO_BIG = {
    "tests/test_codec.py::test_option_when_length_is_the_largest_then_header_is_exact",
    "tests/test_hostile.py::test_datagram_when_beyond_any_mtu_then_allowed_outcome",
    "tests/test_server.py::test_route_when_there_are_300_then_each_is_found",
}
# A plugin of pytest: the board says that it is one whose firmware has no network.
A_PICO = """
import device

device.ABOUT_SCRIPT = device.ABOUT_SCRIPT.replace("sys.platform", "'rp2'")
"""
BAD_TESTS = '''"""Tests of which some fail."""
import check

LIMIT = 3


def helper(n):
    check.eq(n, LIMIT, "n")


def test_a_when_right_then_passes():
    helper(3)


def test_b_when_wrong_then_the_line_is_shown():
    print("says something")

    helper(4)


def test_c_when_it_cannot_run_then_skipped():
    raise check.Skip("no radio")


def test_d_when_it_asserts_then_that_counts():
    assert LIMIT == 4
'''


@pytest.fixture
def board(tmp_path):
    """The serial port of a rehearsed board."""
    with rehearsed_board(tmp_path / "board", heap=HEAP) as (port, _):
        yield port


def run(*command, **environment):
    """Runs a command in the project's folder; returns its exit code and output."""
    words = [str(word) for word in command]
    environment = os.environ | {"PYTEST_ADDOPTS": ""} | environment
    done = subprocess.run(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        timeout=TIME_LIMIT_S,
    )  # fmt: skip
    return done.returncode, done.stdout


def collected():
    """Returns the node IDs of the portable tests that pytest collects on CPython, a set."""
    code, output = run(sys.executable, "-m", "pytest", "--collect-only", "-q", "tests", "--ignore=tests/host")
    assert code == 0, output
    return set(re.findall(r"^tests/test_\w+\.py::\S+$", output, re.MULTILINE))


def test_make_test_board_when_in_the_heap_of_a_board_then_every_test_runs(board):
    code, output = run("make", "test-board", f"PORT={board}", "HOST=127.0.0.1", PYTEST_ADDOPTS="-v", CI="true")
    assert code == 0, output
    outcomes = dict(re.findall(r"^(tests/\S+::\S+) (PASSED|SKIPPED)", output, re.MULTILINE))
    portable = {name for name in outcomes if not name.startswith("tests/board/")}
    assert portable == collected()
    skipped = {name for name in outcomes if outcomes[name] == "SKIPPED"}
    # the file server is not among what is copied
    assert {name for name in skipped if not name.startswith("tests/test_file_server.py")} <= TOO_BIG
    assert len(outcomes) - len(portable) >= 21  # those of tests/board
    for figure in ("firmware", "bytes of .mpy", "free heap before import", "free heap after import", "time of a GET"):
        assert re.search(rf"^  {re.escape(figure)} .*\d", output, re.MULTILINE), output


def test_pytest_board_when_tests_fail_then_each_has_its_traceback_from_the_board(board, tmp_path):
    path = tmp_path / "test_bad.py"
    path.write_text(BAD_TESTS)
    words = ("-p", "conftest", "--rootdir", tmp_path, "-c", os.devnull, "-v", "-rA")
    code, output = run(
        sys.executable, "-m", "pytest", "--board", board, *words, path, PYTHONPATH=str(ROOT / "tests"), CI="true"
    )
    assert code == 1
    assert re.findall(r"::test_([abcd])_\w+ (\w+)", output)[:4] == [
        ("a", "PASSED"), ("b", "FAILED"), ("c", "SKIPPED"), ("d", "FAILED"),
    ]  # fmt: skip
    for line in (
        'File "test_bad.py", line 18, in test_b_when_wrong_then_the_line_is_shown',
        'File "test_bad.py", line 8, in helper',
        "AssertionError: n is 4, expected 3",
        'File "test_bad.py", line 26, in test_d_when_it_asserts_then_that_counts',
        "no radio",
    ):
        assert line in output, output


def test_pytest_board_when_a_file_cannot_be_imported_then_its_tests_fail_with_the_reason(board, tmp_path):
    path = tmp_path / "test_bad.py"
    path.write_text("import nosuch\n\n\ndef test_x():\n    nosuch.f()\n")
    words = ("-p", "conftest", "--rootdir", tmp_path, "-c", os.devnull)
    code, output = run(sys.executable, "-m", "pytest", "--board", board, *words, path, PYTHONPATH=str(ROOT / "tests"))
    assert code == 1 and "ImportError: no module named 'nosuch'" in output and "1 failed" in output


def test_board_when_a_test_hangs_then_it_fails_and_the_next_one_runs(board, tmp_path, monkeypatch):
    path = tmp_path / "test_hang.py"
    path.write_text("def test_hang():\n    while True:\n        pass\n\n\ndef test_next():\n    pass\n")
    test_file = split_tests.TestFile(path)
    tests = test_board.BoardTests(board, library=False)
    (tmp_path / "board/coap.py").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(test_board, "SILENCE_S", 1)
        hung = tests.run(test_file.piece(["test_hang"]))["test_hang"]
    then = tests.run(test_file.piece(["test_next"]))["test_next"]
    tests.close()
    assert (hung.outcome, then.outcome) == ("FAIL", "ok") and "nothing was printed for 1 s" in hung.text


def test_pytest_board_when_it_has_no_network_then_what_needs_one_is_skipped_with_a_sentence(board, tmp_path):
    (tmp_path / "no_network.py").write_text(A_PICO)
    path = f"{ROOT / 'tools'}:{tmp_path}"
    words = ("-p", "no_network", "-rs", "--board", board, "tests/test_uri.py", "tests/board/test_client.py")
    code, output = run(sys.executable, "-m", "pytest", *words, PYTHONPATH=path, CI="")
    assert code == 0 and re.search(r"\d+ passed, [1-9] skipped", output), output
    assert "has no network in its firmware: CoAP needs Wi-Fi or Ethernet" in output


def test_pytest_board_when_there_is_no_board_then_one_sentence():
    code, output = run(sys.executable, "-m", "pytest", "--board", "/dev/ttyACM99", "tests/test_uri.py")
    assert code == 1 and "there is no port /dev/ttyACM99" in output and "Traceback" not in output


def test_make_test_board_when_there_is_none_then_one_sentence():
    code, output = run("make", "test-board")
    assert code != 0 and output.startswith("say which board: make test-board PORT=")
    code, output = run("make", "test-board", "PORT=/dev/ttyACM99")
    assert code != 0 and output.startswith("there is no port /dev/ttyACM99") and "Traceback" not in output


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            TransportExecError("", "Traceback (most recent call last):\nMemoryError: \n"),
            "the board raised MemoryError:",
        ),
        (KeyboardInterrupt(), "interrupted; the board has its old files"),
    ],
)
def test_test_board_when_the_library_cannot_be_copied_then_one_sentence(error, sentence, monkeypatch, capsys):
    def fail(port):
        raise error

    monkeypatch.setattr(test_board, "BoardTests", fail)
    assert test_board.main(["/dev/ttyACM0"]) == 1
    assert capsys.readouterr().out.strip() == sentence


def test_make_console_when_there_is_no_port_then_said():
    code, output = run("make", "console")
    assert code != 0 and output.startswith("say which board: make console PORT=")
    code, output = run("make", "console", "PORT=/dev/ttyACM99")
    assert code != 0 and "/dev/ttyACM99" in output and "Traceback" not in output


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=lambda path: path.stem)
def test_pieces_when_a_file_is_split_then_each_test_is_in_one_with_all_it_names(path):
    test_file = split_tests.TestFile(path)
    module_names = set().union(*map(split_tests.bound_names, test_file.statements))
    pieces = test_file.pieces(set(test_file.tests), test_board.PIECE_SOURCE_LEN)
    assert [name for piece in pieces for name in piece.tests] == test_file.tests
    for piece in pieces:
        tree = ast.parse(piece.source)
        bound = set().union(*map(split_tests.bound_names, tree.body))
        used = set().union(*map(split_tests.used_names, tree.body))
        assert used & module_names <= bound
