"""What pip installs on a PC: every module of lib/, and the command line."""

import subprocess
import sys

import coap
from programs import ROOT

PIP_INSTALL = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")


def test_pip_install_when_done_then_the_library_and_the_command_line_are_there(tmp_path):
    subprocess.run([*PIP_INSTALL, "--target", tmp_path, ROOT], check=True)
    assert {path.name for path in tmp_path.glob("*.py")} == {path.name for path in (ROOT / "lib").glob("*.py")}
    assert (tmp_path / f"micropython_coap-{coap.VERSION}.dist-info").is_dir()
    done = subprocess.run(
        [tmp_path / "bin/coap", "--help"], env={"PYTHONPATH": tmp_path}, capture_output=True, text=True
    )
    assert done.stdout.startswith("Usage: coap"), done.stderr
