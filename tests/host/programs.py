"""Finds the programs that the host tests drive, and skips with the line that installs a missing one."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NODE_MODULES = ROOT / "tests/host/node_modules"

INSTALL_LINES = {
    "coap-client-notls": "apt-get install libcoap3-bin",
    "coap-client-openssl": "apt-get install libcoap3-bin",
    "coap-server-notls": "apt-get install libcoap3-bin",
    "coap-server-openssl": "apt-get install libcoap3-bin",
    "node": "apt-get install nodejs npm",
    "ip": "apt-get install iproute2",
}


def program(name):
    """Returns the path of a program: the one beside this Python (.venv/bin), else the one on PATH.

    Skips the test, naming the line that installs it, when there is none.
    """
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing: {INSTALL_LINES.get(name, 'make venv')}")
    return path


def node_package(name):
    """Returns the folder of an npm package, for instance "coap".

    Skips the test when Node.js or the package is missing.
    """
    program("node")
    if not (NODE_MODULES / name).is_dir():
        pytest.skip(f"the npm package {name} is missing: make peers")
    return NODE_MODULES / name
