"""What pip installs on a PC: every module of lib/, and the command line."""

import ast
import re
import subprocess
import sys
import tomllib

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


def test_extra_cli_when_installed_then_all_that_the_command_line_imports_is_there():
    """Without cbor2 it said of sound CBOR that it is none."""
    imported = set()
    for path in (ROOT / "tools/coap_cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    ours = {path.stem for path in (ROOT / "lib").glob("*.py")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {re.match(r"[\w-]+", each)[0] for each in project["optional-dependencies"]["cli"]}
    assert imported - ours - sys.stdlib_module_names <= extra
