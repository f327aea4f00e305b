"""A rehearsed board (tools/board_pty.py) for a `with`."""

import contextlib
import resource
import subprocess
import sys

from programs import ROOT, program


@contextlib.contextmanager
def rehearsed_board(folder, *words, heap=None, file_len=None):
    """Yields (port, process) of a board whose file system is `folder`, which is made if it is not there.

    words: arguments of its main.py; heap: as in "192k"; file_len: the longest file in bytes that it can write.
    """
    program("micropython")
    folder.mkdir(exist_ok=True)
    command = [sys.executable, ROOT / "tools/board_pty.py", "--cwd", folder]
    command += ["--heap", heap] if heap else []

    def limit():
        if file_len:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_len, file_len))

    command += [str(word) for word in words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=limit) as board:
        try:
            yield board.stdout.readline().strip(), board
        finally:
            board.terminate()
