"""A MicroPython "board" on this PC: a serial port (a pty) behind which the unix MicroPython runs.

    python tools/board_pty.py --link /tmp/board --heap 96k &
    mpremote connect /tmp/board run hello.py

It prints the path of the port and then behaves like a board on a USB cable: a soft reset (Ctrl-D) starts
a fresh interpreter and says `soft reboot`, a raw REPL stays raw across it, main.py runs at boot, Ctrl-C
interrupts a program, and the working directory is the file system. It stops at SIGTERM, and when the
process that started it has ended. Linux only.
"""

import argparse
import os
import pty
import select
import shutil
import signal
import sys
import tempfile
import time
import tty
from pathlib import Path

CTRL_A = b"\x01"
CTRL_C = b"\x03"
RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"
FRIENDLY_PROMPT = b">>> "
END_OF_RAW_PROGRAM = b"\x04>"
SOFT_REBOOT = b"MPY: soft reboot\r\n"

INTERRUPT_WAIT_S = 1.0
BOOT_WAIT_S = 5.0
PARENT_CHECK_S = 0.1
BACKLOG_BYTES = 65536


class BoardError(Exception):
    """The interpreter cannot be started."""


class Interpreter:
    """One run of MicroPython, from boot to soft reset, on a pty of its own.

    command: the program and its arguments, a list of strings.
    folder: the working directory, which is the file system of the board.
    """

    def __init__(self, command, folder):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self._become(command, folder)
        os.set_blocking(self.fd, False)

    @staticmethod
    def _become(command, folder):
        """Turns the forked child into the interpreter; does not return."""
        try:
            tty.setraw(0)
            os.chdir(folder)
            # As on a board: modules come from the file system and its lib/, not from this user's home.
            os.environ["MICROPYPATH"] = f":.frozen:{folder}/lib"
            os.execv(command[0], command)
        except OSError as error:
            os.write(2, str(error).encode())
        finally:
            os._exit(127)

    def takes_interrupt(self):
        """Returns True while a program runs that Ctrl-C may stop: then, and only then, SIGINT is caught.

        At a prompt Ctrl-C is an ordinary character, and a program that reads binary data, as `mpremote
        mount` does, makes it one with micropython.kbd_intr(-1).
        """
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = int(status.split("SigCgt:")[1].split()[0], 16)
        return bool(caught >> (signal.SIGINT - 1) & 1)

    def interrupt(self):
        """Does what Ctrl-C does to a running program."""
        os.kill(self.pid, signal.SIGINT)

    def close(self):
        """Ends the process (its terminal hangs up) and returns its exit code."""
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Board:
    """The bridge between the serial port and one interpreter after the other.

    micropython: path of the unix MicroPython.
    folder: the board's file system, an absolute path.
    heap: size of the heap for -X heapsize, for instance "96k"; None for the default.
    main_words: the arguments of main.py, a list of strings.
    """

    def __init__(self, micropython, folder, heap=None, main_words=()):
        self.command = [micropython] + (["-X", f"heapsize={heap}"] if heap else [])
        self.folder = folder
        self.main_words = list(main_words)
        # The far end stays open here too: a port that nobody has open is no error.
        self.port_fd, self.far_end_fd = pty.openpty()
        tty.setraw(self.far_end_fd)
        os.set_blocking(self.port_fd, False)
        self.port = os.ttyname(self.far_end_fd)
        self.to_board = bytearray()
        self.to_port = bytearray()
        self.hold_until_s = 0.0
        self.recent_output = b""
        self.raw_repl = False
        self._boot()

    def serve(self, is_wanted):
        """Passes bytes to and fro while is_wanted() returns True, then ends the interpreter.

        Raises BoardError when the interpreter cannot be started.
        """
        try:
            while is_wanted():
                self._step()
        finally:
            self.interpreter.close()

    def _step(self):
        board_fd = self.interpreter.fd
        readers = [self.port_fd] if len(self.to_board) < BACKLOG_BYTES else []
        if len(self.to_port) < BACKLOG_BYTES:
            readers.append(board_fd)
        writers = [self.port_fd] if self.to_port else []
        held = self._is_held()
        if self.to_board and not held:
            writers.append(board_fd)
        ready, writable, _ = select.select(readers, writers, [], 0.01 if held else PARENT_CHECK_S)
        if self.port_fd in ready:
            self.to_board += _read(self.port_fd)
        if self.port_fd in writable:
            _write(self.port_fd, self.to_port, len(self.to_port))
        if board_fd in writable:
            self._feed()
        if board_fd in ready:
            self._collect()

    def _is_held(self):
        """True from an interrupt until the prompt is back: switching to it, the terminal drops its input."""
        return time.monotonic() < self.hold_until_s

    def _feed(self):
        """Hands the interpreter the bytes up to the next Ctrl-C, or that Ctrl-C."""
        before = self.to_board.find(CTRL_C)
        if before == 0 and self.interpreter.takes_interrupt():
            del self.to_board[:1]
            self.hold_until_s = time.monotonic() + INTERRUPT_WAIT_S
            self.recent_output = b""
            self.interpreter.interrupt()
        elif before == 0:
            _write(self.interpreter.fd, self.to_board, 1)
        else:
            _write(self.interpreter.fd, self.to_board, before if before > 0 else len(self.to_board))

    def _collect(self):
        """Takes the interpreter's output; when it has ended, boots the next one."""
        output = _read(self.interpreter.fd)
        if not output:
            self.interpreter.close()
            self.to_port += SOFT_REBOOT
            self._boot()
            return
        self.to_port += output
        self._note_prompt(output)

    def _note_prompt(self, output):
        """Remembers which of the two prompts came last: a soft reset comes back to the same."""
        self.recent_output = self.recent_output[-len(RAW_PROMPT) :] + output
        if self.recent_output.endswith((FRIENDLY_PROMPT, END_OF_RAW_PROGRAM)):
            self.hold_until_s = 0.0
        raw_at = self.recent_output.rfind(RAW_PROMPT)
        friendly_at = self.recent_output.rfind(b"\r\n" + FRIENDLY_PROMPT)
        if raw_at != friendly_at:
            self.raw_repl = raw_at > friendly_at

    def _boot(self):
        """Starts an interpreter: at a raw prompt when the last one had it, else through main.py, if any."""
        has_main = not self.raw_repl and (Path(self.folder) / "main.py").exists()
        main = ["-i", "main.py", *self.main_words] if has_main else []
        self.interpreter = Interpreter(self.command + main, self.folder)
        self.recent_output = b""
        if not main:
            self.to_port += self._first_prompt()

    def _first_prompt(self):
        """Waits for the prompt of a new interpreter and returns what a board shows then."""
        banner = self._await_output(FRIENDLY_PROMPT)
        self._type(b"pass\r")  # from the first program on, SIGINT is caught only while one runs
        self._await_output(FRIENDLY_PROMPT)
        if not self.raw_repl:
            return banner
        self._type(CTRL_A)
        return self._await_output(RAW_PROMPT).lstrip(b"\r\n")

    def _type(self, keys):
        os.write(self.interpreter.fd, keys)

    def _await_output(self, ending):
        """Returns the output of a booting interpreter, which ends with `ending`; raises BoardError."""
        output = b""
        deadline_s = time.monotonic() + BOOT_WAIT_S
        while not output.endswith(ending):
            wait_s = deadline_s - time.monotonic()
            ready = wait_s > 0 and select.select([self.interpreter.fd], [], [], wait_s)[0]
            piece = _read(self.interpreter.fd) if ready else b""
            if not piece:
                said = output.decode(errors="replace").strip()
                raise BoardError(f"{self.command[0]} shows no prompt: {said}")
            output += piece
        return output


def _read(fd):
    """Returns what can be read from a non-blocking pty; empty at its end."""
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return b""
    except OSError:  # EIO: the process at the other end has gone
        return b""


def _write(fd, pending, count):
    """Writes the first `count` bytes of `pending`, as far as the pty takes them, and removes those."""
    try:
        del pending[: os.write(fd, pending[:count])]
    except BlockingIOError:
        pass
    except OSError:  # EIO: the process has gone; who reads its output will notice
        del pending[:count]


def find_micropython():
    """Returns the path of `micropython`, beside this Python or on PATH; raises BoardError."""
    beside = Path(sys.executable).parent / "micropython"
    path = str(beside) if beside.exists() else shutil.which("micropython")
    if path is None:
        raise BoardError("micropython is missing: make venv")
    return path


class Link:
    """Context manager: a symbolic link to the port, if a path for it was given, in the place of a link there.

    Raises BoardError for a path that is none.
    """

    def __init__(self, path, port):
        self.path = path
        self.port = port

    def __enter__(self):
        if not self.path:
            return
        if self.path.exists() and not self.path.is_symlink():
            raise BoardError(f"{self.path} is there and is no link: give another path, or remove it")
        try:
            self.path.unlink(missing_ok=True)
            self.path.symlink_to(self.port)
        except OSError as error:
            raise BoardError(f"{self.path} cannot be made a link: {error.strerror}") from None

    def __exit__(self, *exception):
        if self.path and self.path.is_symlink() and os.readlink(self.path) == self.port:
            self.path.unlink()


def _arguments():
    parser = argparse.ArgumentParser(description="A MicroPython board behind a pty, for mpremote.")
    parser.add_argument("--link", type=Path, help="also make this symbolic link to the port")
    parser.add_argument("--heap", help="size of the heap, for instance 96k")
    parser.add_argument("--cwd", type=Path, help="the board's file system (default: a new temporary folder)")
    parser.add_argument("--micropython", help="the unix MicroPython to run")
    parser.add_argument("main_words", nargs="*", metavar="word", help="an argument of main.py, as its sys.argv")
    return parser.parse_args()


def main():
    """Serves a board until SIGTERM, SIGINT or the end of the parent process."""
    options = _arguments()
    parent_pid = os.getppid()
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.append(True))
    with tempfile.TemporaryDirectory(prefix="board-") as own_folder:
        folder = options.cwd.resolve() if options.cwd else own_folder
        board = Board(options.micropython or find_micropython(), str(folder), options.heap, options.main_words)
        with Link(options.link, board.port):
            print(board.port, flush=True)
            board.serve(lambda: not stopped and os.getppid() == parent_pid)


if __name__ == "__main__":
    try:
        main()
    except BoardError as problem:
        sys.exit(str(problem))
