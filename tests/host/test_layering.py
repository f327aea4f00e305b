"""The layers of lib/coap.py: what it may import, no I/O and no clock above the ruler, short functions."""

import ast
import statistics

from programs import ROOT
from split_tests import imported_modules

RULER = "# ---- I/O ----"
ALLOWED_IMPORTS = {"micropython", "time", "os", "sys", "gc", "socket", "select", "errno"}
IO_NAMES = {"socket", "select", "print", "input", "open"}
CLOCK_NAMES = {
    *("ticks_ms", "ticks_us", "ticks_cpu", "time_ns", "monotonic", "monotonic_ns"),
    *("perf_counter", "perf_counter_ns", "sleep", "sleep_ms", "sleep_us"),
}
MOST_LINES = 50
# What every request takes lies in two functions: cut into short ones it takes half as long again
MEASURED = {"_index", "_serving"}
MEDIAN_LINES = 10

SOURCE = (ROOT / "lib/coap.py").read_text()
TREE = ast.parse(SOURCE)
FUNCTIONS = [node for node in ast.walk(TREE) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def ruler_line():
    """Returns the number of the one line that holds the ruler."""
    numbers = [number for number, line in enumerate(SOURCE.splitlines(), 1) if RULER in line]
    assert len(numbers) == 1, f"lib/coap.py needs one line with {RULER!r}, and has {len(numbers)}"
    return numbers[0]


def is_import_block(node):
    """True for an import statement, and for a try statement around imports with its fallbacks."""
    if isinstance(node, ast.Try):
        return any(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in node.body)
    return isinstance(node, (ast.Import, ast.ImportFrom))


def protocol_nodes():
    """Yields every node above the ruler, except in imports and in fallbacks for a missing ticks_*."""
    last_line = ruler_line()
    for statement in TREE.body:
        is_ticks_fallback = isinstance(statement, ast.FunctionDef) and statement.name.startswith("ticks_")
        if statement.lineno < last_line and not is_import_block(statement) and not is_ticks_fallback:
            yield from (node for node in ast.walk(statement) if getattr(node, "lineno", 0) < last_line)


def is_clock(node):
    """True for a name or attribute that reads or waits for a clock."""
    if isinstance(node, ast.Attribute):
        of_time = isinstance(node.value, ast.Name) and node.value.id == "time"
        return of_time and (node.attr in CLOCK_NAMES or node.attr == "time")
    return isinstance(node, ast.Name) and node.id in CLOCK_NAMES


def code_lines(function):
    """Returns the length of a function in lines, from `def` to its end, without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def test_imports_are_those_that_every_firmware_has():
    assert imported_modules(TREE.body) <= ALLOWED_IMPORTS


def test_the_protocol_does_no_input_or_output():
    names = [node for node in protocol_nodes() if isinstance(node, ast.Name)]
    assert not [f"line {name.lineno}: {name.id}" for name in names if name.id in IO_NAMES]


def test_the_protocol_reads_no_clock():
    assert not [f"line {n.lineno}: {ast.unparse(n)}" for n in protocol_nodes() if is_clock(n)]


def test_no_function_is_long_but_the_two_that_every_request_takes():
    long = [f for f in FUNCTIONS if f.name not in MEASURED and code_lines(f) > MOST_LINES]
    assert not [f"{f.name}: {code_lines(f)} lines" for f in long]


def test_most_functions_are_short():
    assert statistics.median(code_lines(f) for f in FUNCTIONS) <= MEDIAN_LINES
