"""make size, size32: figures grow with what is measured, budgets are judged, complaints are one sentence."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from programs import ROOT, node_package, program

sys.path.insert(0, str(ROOT / "tools"))

import budgets  # noqa: E402
import size  # noqa: E402
import size_dtls  # noqa: E402
import size_functions  # noqa: E402
import size_heap  # noqa: E402
import size_serve  # noqa: E402
import unix32  # noqa: E402

SMALL = "def a():\n    return 1\n"
PARTS = """
def a():
    return 1

class B:
    def c(self):
        return [1, 2, 3, 'a text of its own']

    def d(self):
        pass
"""
LARGER = PARTS + "\n".join(f"def f{i}(): return 'text number {i}', {i}" for i in range(50)) + "\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with two compiled modules: small and larger."""
    program("micropython")
    for name, source in (("small", SMALL), ("larger", LARGER)):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        size_heap.compile_to(tmp_path, path)
        path.unlink()
    return tmp_path


def run_size(*arguments):
    """Runs tools/size.py; returns the finished process."""
    command = [sys.executable, ROOT / "tools/size.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_heap_kept_when_a_module_is_larger_then_it_keeps_more(folder):
    small, larger = size_heap.heap_kept(size_heap.run_on_64_bits, ["small", "larger"], folder)
    assert 0 < small < larger


def test_heap_kept_when_on_32_bits_then_it_is_less_than_on_64(folder):
    node_package("@micropython/micropython-webassembly-pyscript")
    (on_32,) = size_heap.heap_kept(size_heap.run_on_32_bits, ["larger"], folder)
    (on_64,) = size_heap.heap_kept(size_heap.run_on_64_bits, ["larger"], folder)
    assert 0 < on_32 < on_64


def test_heap_kept_when_there_is_no_such_module_then_the_error_says_so(folder):
    with pytest.raises(size_heap.MeasureError, match="nosuch"):
        size_heap.heap_kept(size_heap.run_on_64_bits, ["nosuch"], folder)


def test_compile_to_when_the_source_is_broken_then_the_error_names_it(tmp_path):
    (tmp_path / "broken.py").write_text("def\n")
    with pytest.raises(size_heap.MeasureError, match="broken.py does not compile"):
        size_heap.compile_to(tmp_path, tmp_path / "broken.py")


def test_smallest_heap_when_found_then_one_less_does_not_do():
    asked = []

    def works(kb):
        asked.append(kb)
        return kb >= 37

    assert size_heap.smallest_heap_kb(works) == 37
    assert 36 in asked


def test_smallest_heap_when_none_does_then_it_is_an_error():
    with pytest.raises(size_heap.MeasureError):
        size_heap.smallest_heap_kb(lambda kb: False)


def test_smallest_heap_to_import_when_run_then_a_smaller_one_really_fails(folder):
    kb = size_heap.smallest_heap_to_import_kb("larger", folder)
    script = folder / "imports.py"
    assert size_heap.run_on_64_bits(script, folder, "-X", f"heapsize={kb}k").returncode == 0
    assert size_heap.run_on_64_bits(script, folder, "-X", f"heapsize={kb - 1}k").returncode != 0


def test_parts_when_listed_then_classes_methods_and_names_are_there_and_private_constants_not():
    import ast

    tree = ast.parse("X = 1\n_Y = const(2)\nclass A:\n    def b(self): pass\ndef c(): pass\n")
    assert dict(size_functions.parts(tree)) == {
        ("X",): "name",
        ("A",): "class",
        ("A", "b"): "method",
        ("c",): "function",
    }


def test_functions_when_measured_then_the_dearest_is_first_and_a_needed_one_is_emptied():
    node_package("@micropython/micropython-webassembly-pyscript")
    needed = "def e():\n    return [1, 2, 3, 4, 'again a text of its own']\nF = e()\n"
    whole, rows = size_functions.measure(PARTS + needed, "larger")
    names = [row[3] for row in rows]
    assert names[0] == "B" and set(names) == {"a", "B", "B.c", "B.d", "e", "F"}
    assert {row[3] for row in rows if row[4]} == {"e"}
    assert all(0 <= row[0] < whole[0] for row in rows)


def test_serving_when_the_heap_is_large_then_it_serves_and_when_tiny_then_not(tmp_path):
    program("micropython")
    size.compile_library(tmp_path)
    size_serve.compile_port(tmp_path)
    assert size_serve.serves(tmp_path, 512)
    assert not size_serve.serves(tmp_path, 24)


def test_session_when_measured_then_both_heaps_are_in_it_and_a_handshake_is_as_dear(tmp_path):
    """coap_dtls says 24 KB for each; MicroPython's own heap holds little of that on unix."""
    program("micropython")
    size.compile_library(tmp_path)
    session, handshake = (size_dtls.kept_by_each(tmp_path, is_whole) for is_whole in (True, False))
    for heap_len, libc_len in (session, handshake):
        assert 500 < heap_len < 4000 and 20 * 1024 < libc_len < 32 * 1024


def test_session_when_there_is_no_dtls_then_the_line_says_why(tmp_path, capsys):
    program("micropython")
    size.compile_library(tmp_path)
    (tmp_path / "coap_dtls.py").write_text("def Transport(**_):\n    raise ValueError('no')\n")
    (tmp_path / "coap_dtls.mpy").unlink()
    size_dtls.print_each(size.or_reason(size_dtls.kept_by_each, tmp_path, True), (1200.0, 24576.0))
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("64 bits: ValueError: no") and said[1].endswith("1200 bytes of heap, 24.0 KB of the libc's")


def test_verdict_when_over_short_within_or_unasked_then_it_says_so():
    at_most = budgets.Row("x", "a.x", None, "<=", 100, 50)
    at_least = budgets.Row("x", "a.x", None, ">=", 2, 3)
    assert [budgets.verdict(at_most, value) for value in (101, 100, 50)] == [
        "OVER by 1",
        "within",
        "within, aim reached",
    ]
    assert [budgets.verdict(at_least, value) for value in (1.5, 2, 3)] == [
        "SHORT by 0.50",
        "within",
        "within, aim reached",
    ]
    assert budgets.verdict(budgets.Row("x", "a.x", None), 7) == ""


def test_judge_when_figures_are_missing_then_the_row_is_called_not_measured():
    (entry,) = budgets.judge([{}], [budgets.Row("x", "a.x", "b.x", "<=", 1, 1)])
    assert entry["verdict"] == "not measured" and not budgets.misses([entry])


def test_judge_when_there_are_rounds_then_ratios_are_taken_within_a_round():
    rounds = [{"a": {"x": 2}, "b": {"x": 1}}, {"a": {"x": 40}, "b": {"x": 10}}, {"a": {"x": 9}, "b": {"x": 3}}]
    (entry,) = budgets.judge(rounds, [budgets.Row("x", "a.x", "b.x", "<=", 2, 1)])
    assert (entry["median"], entry["least"], entry["most"], entry["n"]) == (3, 2, 4, 3)
    assert budgets.misses([entry]) == [entry]


def test_memory_when_32_bits_were_not_built_then_rows_are_called_estimates_and_the_command_is_named():
    names = [row.what for row in budgets.memory([{"size": {"serving": 1}}])]
    assert sum(name.endswith(", estimate") for name in names) == 2
    assert "... the same, frozen: make size32" in names


def test_memory_when_32_bits_were_measured_then_no_row_is_an_estimate():
    names = [row.what for row in budgets.memory([{"size": {"frozen": 1}}])]
    assert "... the same, frozen" in names and not [name for name in names if "estimate" in name or "make" in name]


def test_size_when_32_bits_cannot_be_measured_then_strict_fails_and_says_what_is_missing(monkeypatch, capsys):
    for name in ("compile_library", "print_modules", "serving_figures", "print_serving"):
        monkeypatch.setattr(size, name, lambda *arguments, **keywords: None)
    for name in ("kept_by_each", "print_each"):
        monkeypatch.setattr(size_dtls, name, lambda *arguments: None)
    monkeypatch.setattr(size, "why_no_32_bits", lambda: "no 32-bit figures: make peers")
    monkeypatch.delenv("CI", raising=False)
    assert (size.measure(is_strict=True), size.measure(is_strict=False)) == (1, 0)
    assert "make peers; until then nothing is known of the budgets" in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    assert size.measure(is_strict=False) == 1


def test_fetch_when_the_file_is_the_expected_one_then_it_is_there(tmp_path):
    (tmp_path / "sent").write_bytes(b"source")
    url = (tmp_path / "sent").as_uri()
    unix32.fetch(url, hashlib.sha256(b"source").hexdigest(), tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == b"source"


@pytest.mark.parametrize("name, expected", [("sent", "is another file than it was"), ("nosuch", "cannot be fetched")])
def test_fetch_when_it_is_another_file_or_none_then_it_is_an_error_and_nothing_is_kept(tmp_path, name, expected):
    (tmp_path / "sent").write_bytes(b"changed")
    url = (tmp_path / name).as_uri()
    with pytest.raises(size_heap.MeasureError, match=expected):
        unix32.fetch(url, hashlib.sha256(b"source").hexdigest(), tmp_path / "taken")
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize(
    "present, expected",
    [((), "apt-get install make gcc gcc-multilib"), (("make", "gcc"), "apt-get install gcc-multilib")],
)
def test_size32_when_there_is_no_compiler_for_32_bits_then_it_says_what_to_install(tmp_path, present, expected):
    """A gcc without its 32-bit libraries fails, as the one here does."""
    for name in present:
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, ROOT / "tools/size32.py"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": str(tmp_path)})
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.splitlines() == [
        f"cannot be measured: a 32-bit MicroPython cannot be built before: {expected}",
    ]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--functions", "nosuch"], "--functions takes the name of a file in lib/"),
        (["--functions", "coap", "x.py", "y"], "--functions takes a module"),
        (["--nosuch"], "unrecognized arguments"),
    ],
)
def test_size_when_called_wrongly_then_it_says_so_without_a_traceback(arguments, expected):
    node_package("@micropython/micropython-webassembly-pyscript")
    done = run_size(*arguments)
    assert done.returncode != 0
    assert expected in done.stderr and "Traceback" not in done.stderr


def test_functions_when_the_file_is_not_python_then_the_line_is_named(tmp_path):
    node_package("@micropython/micropython-webassembly-pyscript")
    path = Path(tmp_path / "x.py")
    path.write_text("a = 1\nb = = 2\n")
    done = run_size("--functions", "x", path)
    assert done.returncode == 1
    assert "line 2 is not Python" in done.stderr and "Traceback" not in done.stderr
