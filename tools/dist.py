"""Writes dist/: every module of lib/ as .mpy, and the package.json with which mip installs them: make dist

    mpremote mip install dist/package.json

.mpy files load faster than .py and spare the board the compiler's heap. They have no line numbers, and suit every
firmware whose .mpy version is the one that is printed.
"""

import json
import sys
from pathlib import Path

from device import DeviceError, MpyCross

ROOT = Path(__file__).resolve().parent.parent


def write_dist(target):
    """Writes the files into the folder `target`, a pathlib.Path; returns the names of the .mpy. Raises DeviceError."""
    compiler = MpyCross()
    package = json.loads((ROOT / "package.json").read_text())
    target.mkdir(exist_ok=True)
    for stale in target.glob("*.mpy"):
        stale.unlink()
    names = []
    for path in sorted((ROOT / "lib").glob("*.py")):
        names.append(f"{path.stem}.mpy")
        (target / names[-1]).write_bytes(compiler.compile(path.read_bytes(), path.name))
    package["urls"] = [[name, name] for name in names]
    (target / "package.json").write_text(json.dumps(package, indent=2) + "\n")
    print(f"{target.name}/package.json: {' '.join(names)}, .mpy version {compiler.version}")
    return names


def main():
    """Writes dist/; returns the exit code."""
    try:
        write_dist(ROOT / "dist")
    except (DeviceError, OSError) as problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
