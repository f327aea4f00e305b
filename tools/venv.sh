#!/bin/sh
# Makes .venv and installs the packages of a requirements file: tools/venv.sh requirements-dev.txt
# Says in one sentence what to install when Python is missing, too old or without venv, and exits 1.
set -eu
python=${PYTHON:-python3}

fail() {
    echo "$1"
    exit 1
}

command -v "$python" >/dev/null || fail "$python is missing: apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -c 'import platform; print(platform.python_version())'), and 3.11 or newer is needed."
# Debian leaves ensurepip out of python3; without it venv stops halfway.
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make a virtual environment: apt-get install python3-venv"

"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"
