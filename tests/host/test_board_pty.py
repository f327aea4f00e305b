"""The rehearsed board of tools/board_pty.py behaves to mpremote as a real one does."""

import os
import signal
import subprocess
import sys
import time

from programs import ROOT, program
from rehearsal import rehearsed_board


def mpremote(port, *words):
    """Runs an mpremote command on the board; returns its exit code and output."""
    command = [program("mpremote"), "connect", port, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout


def test_every_command_gets_a_fresh_interpreter(board_port):
    assert mpremote(board_port, "exec", "x = 1; print(x)") == (0, "1\n")
    assert mpremote(board_port, "exec", "print('x' in globals())") == (0, "False\n")
    assert mpremote(board_port, "exec", "x = 2") == (0, "")
    assert mpremote(board_port, "resume", "exec", "print(x)") == (0, "2\n")


def test_a_script_that_raises_gives_exit_code_1(board_port, tmp_path):
    script = tmp_path / "raises.py"
    script.write_text("raise ValueError('from the board')\n")
    code, output = mpremote(board_port, "run", str(script))
    assert code == 1 and "ValueError: from the board" in output


def test_an_endless_loop_is_interrupted_by_the_next_command(board_port):
    command = [program("mpremote"), "connect", board_port, "exec", "print('loops')\nwhile True: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as loop:
        assert loop.stdout.readline() == b"loops\n"
        loop.send_signal(signal.SIGINT)
    assert mpremote(board_port, "resume", "exec", "print(3)") == (0, "3\n")


def test_a_mounted_file_with_control_characters_arrives_unchanged(board_port, tmp_path):
    (tmp_path / "blob").write_bytes(bytes(range(256)) * 20)
    reader = "data = open('blob', 'rb').read(); print(data == bytes(range(256)) * 20)"
    code, output = mpremote(board_port, "mount", str(tmp_path), "exec", reader)
    assert (code, output.splitlines()[-1]) == (0, "True")


def press(port, keys):
    """Types keys on the board's console, without mpremote."""
    fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, keys)
    os.close(fd)


def test_main_py_runs_after_a_soft_reset_and_yields_to_a_command(board_port, tmp_path):
    (tmp_path / "board/main.py").write_text("open('booted', 'w').close()\nwhile True: pass\n")
    press(board_port, b"\x04")
    deadline_s = time.monotonic() + 10
    while not (tmp_path / "board/booted").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert (tmp_path / "board/booted").exists()
    assert mpremote(board_port, "exec", "print(4)") == (0, "4\n")


def test_main_py_when_words_are_given_then_they_are_its_arguments(tmp_path):
    (tmp_path / "board").mkdir()
    (tmp_path / "board/main.py").write_text("import sys\nprint(sys.argv, file=open('argv', 'w'))\n")
    with rehearsed_board(tmp_path / "board", 40001, "0.0.0.0") as (port, _):
        assert mpremote(port, "exec", "print(5)") == (0, "5\n")
    assert (tmp_path / "board/argv").read_text() == "['main.py', '40001', '0.0.0.0']\n"


def test_link_when_something_else_is_there_then_it_stays_and_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").symlink_to("/dev/pts/nobody")
    for name, sentence in (("file", "no link"), ("folder", "no link"), ("none/x", "No such file or directory")):
        command = [sys.executable, ROOT / "tools/board_pty.py", "--link", tmp_path / name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr and str(tmp_path / name) in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
    command = [sys.executable, ROOT / "tools/board_pty.py", "--link", tmp_path / "old"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as board:
        port = board.stdout.readline().strip()
        linked = os.readlink(tmp_path / "old")  # another run had left it
        board.terminate()
    assert linked == port
