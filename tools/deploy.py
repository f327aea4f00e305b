"""Puts the library and an application on a board: make deploy PORT=/dev/ttyACM0 P=rp2 [WITH="coap_observe"]

    python tools/deploy.py [PORT] [--platform esp32|rp2|unix] [--with "MODULE..."] [--new-keys] [--wait-s SECONDS]

The library goes to /lib as .mpy, the application of ports/ to / with main.py as source. Each file is written under
a temporary name and its sha256 compared; then all are renamed in one go, main.py last, and whatever of the same
modules would be imported instead is removed. Up to that moment the board keeps what it had. A folder of the name of
a module is refused before anything is written. A file that is right already is not written again. Modules of lib/
that the board has already are renewed too, so that versions do not mix. Then the board is reset, and the address it
serves is printed.

Where OSCORE or COAPS is set in ports/sensor_server.py, the modules for that go, too, and the file of keys from
ports/esp32 or wherever P= says, if it is there; else the board must have one. --new-keys begins the sequence numbers of
OSCORE on the board: once, for keys that were never used.

Without PORT it lists what is connected. The exit code is 1, with one sentence, when something is wrong.
"""

import argparse
import ast
import contextlib
import hashlib
import re
import shlex
import signal
import sys
from pathlib import Path

from mpremote.transport import TransportExecError

from device import BoardFull, Device, DeviceError, MpyCross, describe_ports

ROOT = Path(__file__).resolve().parent.parent
NEW = ".new"  # nothing imports such a file
BANNER = re.compile(r'MicroPython \S+ on \d|Type "help\(\)"|Use Ctrl-D to exit')  # of the prompt
SERVING = r"serving (coaps?://\S+)[^\n]*\n"
PROTECTIONS = {  # settings of ports/sensor_server.py: modules of lib/, what ports/ has for it, a client to try
    "OSCORE": (["coap_oscore", "coap_oscore_keys"], "oscore_setup.py", "tools/coap get --oscore CLIENTS.json"),
    "COAPS": (["coap_dtls"], "coaps_setup.py", "coap-client-openssl -u IDENTITY -k KEY"),
    None: ([], None, ".venv/bin/aiocoap-client"),
}
HAS_PSK = """
try:
    import tls
    print(hasattr(tls.SSLContext(tls.PROTOCOL_DTLS_SERVER), "psk_key"))
except (ImportError, AttributeError):
    print(False)
"""
PLATFORMS = {"esp32": "esp32", "rp2": "rp2", "unix": "linux"}  # P=, a folder of ports/: sys.platform of its boards
NOT_COPIED = {"manifest"}
SECRETS = "wifi_secrets"  # what the network asks for; git ignores it, and people may write it on the board itself
WAIT_S = 60  # for Wi-Fi and the server's line


class File:
    """A file for the board.

    name: its name there, as in "coap.mpy"; is_library: whether it goes to /lib; data: bytes.
    """

    def __init__(self, name, is_library, data):
        self.name = name
        self.is_library = is_library
        self.data = data

    @property
    def module(self):
        """The name of the module that it is."""
        return self.name.rpartition(".")[0]

    def path(self, about):
        """Its path on the board of which `about`, a device.About, speaks."""
        return f"{about.lib if self.is_library else about.root}/{self.name}"


# ---- what belongs on the board ----


def library_modules(chosen):
    """Returns the names of coap, the modules `chosen` and what they need; raises DeviceError for what lib/ has not."""
    known = sorted(path.stem for path in (ROOT / "lib").glob("*.py"))
    for name in chosen:
        if name not in known:
            raise DeviceError(f"lib/ has no module {name}; WITH may be any of: {' '.join(known)}")
    needed = PROTECTIONS["OSCORE"][0] if "coap_oscore" in chosen else []
    return ["coap"] + sorted({*chosen, *needed} - {"coap"})


def application_sources(platform):
    """Returns the paths of the sources of the application for `platform`, main.py last; raises DeviceError."""
    folder = ROOT / "ports" / platform
    if platform not in PLATFORMS or not folder.is_dir():
        raise DeviceError(f"P={platform} is unknown; it may be any of: {' '.join(PLATFORMS)}")
    found = [path for path in sorted(folder.glob("*.py")) if path.stem not in NOT_COPIED and is_for_board(path)]
    return [ROOT / "ports/sensor_server.py"] + sorted(found, key=lambda path: path.stem == "main")


def keys_file(setting):
    """Returns the name of the file of keys that OSCORE or COAPS in ports/sensor_server.py is set to, None if it is off.

    Raises DeviceError for what is no such name.
    """
    name = None
    try:
        server = ast.parse((ROOT / "ports/sensor_server.py").read_bytes(), "sensor_server.py")
    except (SyntaxError, ValueError) as error:  # where it was set
        raise DeviceError(f"ports/sensor_server.py is no Python any more: {error}")
    for node in server.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == setting:
            name = getattr(node.value, "value", "")
    if name is not None and (not isinstance(name, str) or not name.endswith(".json") or "/" in name):
        what = f'None or the name of a file of keys, as in "{setting.lower()}.json"'
        raise DeviceError(f"{setting} in ports/sensor_server.py is {what}")
    return name


def protection():
    """Returns which of PROTECTIONS is set, "OSCORE", "COAPS" or None, and the name of its file of keys, or None.

    Raises DeviceError.
    """
    found = [(setting, keys_file(setting)) for setting in PROTECTIONS if setting and keys_file(setting)]
    if len(found) > 1:
        raise DeviceError("OSCORE and COAPS are both set in ports/sensor_server.py: set one of them to None")
    return found[0] if found else (None, None)


def is_for_board(path):
    """Whether a file of ports/ belongs on the board: neither an example nor secrets that nobody has written yet."""
    return not path.stem.endswith("_example") and not (path.stem == SECRETS and not path.read_bytes().strip())


def is_source(path):
    """Whether it stays source: MicroPython runs main.py only as such, and people edit the secrets on the board."""
    return path.stem in ("main", SECRETS)


def build(about, compiler, platform, chosen):
    """Returns the Files for a board, main.py last; raises DeviceError."""
    files = []
    setting, keys = protection()
    modules, setup, _ = PROTECTIONS[setting]
    for name in library_modules(chosen + modules):
        data = compiler.compile((ROOT / f"lib/{name}.py").read_bytes(), f"{name}.py", 3, about.architecture)
        files.append(File(f"{name}.mpy", True, data))
    sources = application_sources(platform)
    if setup:
        sources.insert(0, ROOT / "ports" / setup)
    for path in sources:
        data = path.read_bytes()
        if is_source(path):
            files.append(File(path.name, False, data))
        else:
            files.append(File(f"{path.stem}.mpy", False, compiler.compile(data, path.name, 3, about.architecture)))
    if keys and (ROOT / "ports" / platform / keys).exists():
        files.insert(0, File(keys, False, (ROOT / "ports" / platform / keys).read_bytes()))
    return files


# ---- onto the board ----


def same_modules(files, device):
    """Returns the paths on the board of everything there that could be imported instead of `files`."""
    about = device.about
    wanted = {file.path(about) for file in files}
    modules = {file.module for file in files if file.name.endswith((".py", ".mpy"))}
    found = []
    for folder in (about.root, about.lib):
        for name in sorted(device.names(folder)):
            module, _, ending = name.rpartition(".")
            if module in modules and ending in ("py", "mpy") and f"{folder}/{name}" not in wanted:
                found.append(f"{folder}/{name}")
    return found


def check_folders(files, device):
    """Raises DeviceError when the board has a folder that would be imported instead of `files`, or takes their place.

    MicroPython takes a folder before a file. What is in it is the user's, so it stays.
    """
    names = {file.name for file in files}
    for file in files:
        if file.name.endswith((".py", ".mpy")):
            names |= {file.module, f"{file.module}.py", f"{file.module}.mpy"}
    for folder in (device.about.root, device.about.lib):
        for name in sorted(names & device.folders(folder)):
            path = f"{folder}/{name}"
            raise DeviceError(
                f"the board has a folder {path}, which is in the way of a file; rename it, or remove it: "
                f"mpremote connect {device.port} rm -r :{path}"
            )


def present_modules(device):
    """Returns the names of those modules of lib/ that the board has, in whatever version."""
    names = device.names(device.about.root) | device.names(device.about.lib)
    modules = {name.rpartition(".")[0] for name in names if name.endswith((".py", ".mpy"))}
    return sorted(modules & {path.stem for path in (ROOT / "lib").glob("*.py")})


def stage(device, files, say):
    """Writes those `files` that differ from what the board has under temporary names; returns them.

    Raises DeviceError when the board reads another file back.
    """
    staged = []
    for file in files:
        path = file.path(device.about)
        wanted = hashlib.sha256(file.data).digest()
        if device.hash(path) == wanted:
            say(f"  same     {path}")
            continue
        device.write(path + NEW, file.data)
        if device.hash(path + NEW) != wanted:
            raise DeviceError(f"{path} does not arrive as it was sent: use another cable or port, and try again")
        say(f"  copied   {path}, {len(file.data)} bytes")
        staged.append(file)
    return staged


@contextlib.contextmanager
def without_interrupt():
    """Leaves Ctrl-C without effect meanwhile."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def put_in_place(device, files, stale):
    """Renames the staged `files`, main.py last, and removes the paths `stale`."""
    renames = [(file.path(device.about) + NEW, file.path(device.about)) for file in files]
    last = [pair for pair in renames if pair[1].endswith("/main.py")]
    with without_interrupt():
        device.commit([pair for pair in renames if pair not in last], stale, last)


def install(device, files, say=print):
    """Brings `files` onto the board, all or none of them, and removes what would be imported instead.

    Raises DeviceError; then, and after Ctrl-C, no file of the board has changed.
    """
    check_folders(files, device)
    device.make_folder(device.about.lib)
    temporary = [file.path(device.about) + NEW for file in files]
    try:
        device.remove(temporary)
        staged = stage(device, files, say)
        stale = same_modules(files, device)
        put_in_place(device, staged, stale)
    except BaseException:
        forget(device, temporary)
        raise
    for path in stale:
        say(f"  removed  {path}")


def forget(device, temporary):
    """Removes the temporary files, if the board still answers; those that stay are never imported."""
    try:
        device.reset()
        device.remove(temporary)
    except (DeviceError, TransportExecError, OSError):
        pass


def begin_numbers(device, say=print):
    """Begins the sequence numbers of OSCORE on the board; raises DeviceError."""
    try:
        say("  " + device.exec("import oscore_setup\noscore_setup.new_keys()").strip())
    except TransportExecError as error:
        why = error.error_output.strip().splitlines()[-1].removeprefix("SetupError: ")
        raise DeviceError("the files are on the board, but its keys cannot be used: " + why)
    finally:
        device.reset()


def start(device, wait_s):
    """Resets the board and returns the line and the URI that its server prints; raises DeviceError."""
    try:
        found, said = device.boot(SERVING, wait_s)
    except KeyboardInterrupt:
        raise DeviceError("interrupted; the files are on the board, which goes on starting")
    if found is None:
        raise DeviceError("the files are on the board, but it does not serve. It said: " + shorten(said))
    return found[0].strip(), found[1]


def shorten(said):
    """What a board said, on one line: its end, for there stands why."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" >\t")]
    lines = [line for line in lines if not BANNER.match(line)]
    return " / ".join(lines[-4:]) or "nothing"


def check_platform(about, platform):
    """Raises DeviceError when the board is not the one that P= says, or has no network."""
    if about.platform != PLATFORMS[platform]:
        fitting = [name for name, known in PLATFORMS.items() if known == about.platform]
        hint = f"use P={fitting[0]}" if fitting else f"there is no application for {about.platform} in ports/"
        raise DeviceError(f"P={platform}, but the board is {about.machine} ({about.platform}): {hint}")
    about.check_network()


def check_protection(device):
    """Raises DeviceError when the firmware of the board does not have what protects the application."""
    if protection()[0] == "COAPS" and device.exec(HAS_PSK).strip() != "True":
        raise DeviceError(
            f"COAPS is set, and the firmware {device.about.version_text} has no DTLS with pre-shared keys: "
            "flash MicroPython 1.29 or newer, or set OSCORE in its place"
        )


def deploy(port, platform, chosen, wait_s, has_new_keys=False):
    """Does what the top of this file says; raises DeviceError."""
    application_sources(platform)
    library_modules(chosen)
    setting, _ = protection()
    if has_new_keys and setting != "OSCORE":
        raise DeviceError('NEW_KEYS is for OSCORE: set OSCORE = "oscore.json" in ports/sensor_server.py')
    compiler = MpyCross()
    with Device(port) as device:
        print(f"{port}: {device.about}")
        try:
            device.about.check(compiler.version)
            check_platform(device.about, platform)
            check_protection(device)
            install(device, build(device.about, compiler, platform, chosen + present_modules(device)))
            if has_new_keys:
                begin_numbers(device)
        except BaseException:
            restart(device)
            raise
        print("resets, and waits for the server")
        line, uri = start(device, wait_s)
    print(line)
    print(f"try: {PROTECTIONS[setting][2]} {uri}.well-known/core")


def restart(device):
    """Lets the board go on with the program it had, if it still answers."""
    try:
        device.restart()
    except DeviceError:
        pass


def arguments(words):
    """The command line, parsed."""
    parser = argparse.ArgumentParser(description="Puts the library and an application on a board.")
    parser.add_argument("port", nargs="?", default="", help="serial port of the board")
    parser.add_argument("--platform", default="", help=" ".join(PLATFORMS))
    parser.add_argument("--with", dest="chosen", default="", help="more modules of lib/, with spaces between")
    parser.add_argument("--new-keys", action="store_true", help="begin the sequence numbers of OSCORE, once")
    parser.add_argument("--wait-s", type=float, default=WAIT_S, help=f"for the server's line, default {WAIT_S}")
    return parser.parse_args(words)


def main(words):
    """Runs the command line `words`; returns the exit code."""
    options = arguments(words)
    try:
        if not options.port or not options.platform:
            usage = f"make deploy PORT={shlex.quote(options.port or '...')} P=" + "|".join(PLATFORMS)
            raise DeviceError(f"say which board: {usage}" + ("" if options.port else f"; {describe_ports()}"))
        deploy(options.port, options.platform, options.chosen.split(), options.wait_s, options.new_keys)
    except BoardFull as full:
        print(f"{full}; the board is as it was")
    except (DeviceError, OSError) as problem:
        print(problem)
    except TransportExecError as error:
        print("the board raised " + error.error_output.strip().splitlines()[-1])
    except KeyboardInterrupt:
        print("interrupted; the board has its old files")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
