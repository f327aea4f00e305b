"""Runs the portable tests on MicroPython; on a board, tools/test_board.py imports this file and sends the tests.

    micropython tests/run.py                              all of them, with the library in lib/
    micropython tests/run.py --lib build/mpy test_uri     one file, with the compiled library

Prints a line for each test and a closing line, then raises when a test failed.
"""

import gc
import os
import sys

_HERE = globals().get("__file__", "").rpartition("/")[0] or "."


class TestsFailed(Exception):
    """A test failed, or there was none."""


class Tally:
    """Counts results while it prints them."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def ok(self, name):
        self.passed += 1
        print("ok", name)

    def fail(self, name, error):
        self.failed += 1
        print("FAIL", name)
        sys.print_exception(error)

    def skip(self, name, reason):
        self.skipped += 1
        print("skip %s: %s" % (name, reason))


def test_files():
    """Returns the module names of the test files beside this one, sorted."""
    names = [name for name in os.listdir(_HERE) if name.startswith("test_") and name.endswith(".py")]
    return sorted(name[:-3] for name in names)


def run_test(function, name, tally):
    """Runs one test function and counts its result."""
    import check

    try:
        function()
    except check.Skip as reason:
        tally.skip(name, reason)
    except (Exception, SystemExit) as error:
        tally.fail(name, error)
    else:
        tally.ok(name)


def run_file(module_name, tally, names=None):
    """Imports a test file, runs its tests and frees the module's memory.

    names: those to run, in this order; all of them, in the order of their names, if None.
    """
    try:
        module = __import__(module_name)
    except (Exception, SystemExit) as error:
        return tally.fail(module_name, error)
    for name in names or sorted(dir(module)):
        if name.startswith("test_"):
            run_test(getattr(module, name), module_name + "." + name, tally)
            gc.collect()
    del sys.modules[module_name]
    del module
    gc.collect()


def main(module_names=(), library=None):
    """Runs test files and prints what came out.

    module_names: the files to run, without .py; all of them when empty.
    library: the folder that holds the library; default lib/ beside tests/.
    Raises TestsFailed when a test or an import failed, and when nothing ran.
    """
    sys.path.insert(0, _HERE)
    sys.path.insert(0, library or _HERE + "/../lib")
    tally = Tally()
    for module_name in module_names or test_files():
        run_file(module_name, tally)
    print("%d passed, %d failed, %d skipped" % (tally.passed, tally.failed, tally.skipped))
    if tally.failed or not tally.passed:
        raise TestsFailed("%d tests failed, %d passed" % (tally.failed, tally.passed))


def _command_line(words):
    """Runs main with what the command line says: [--lib FOLDER] [module name]..."""
    library = None
    if words and words[0] == "--lib":
        library = words[1]
        words = words[2:]
    main(words, library)


if __name__ == "__main__":
    _command_line(sys.argv[1:])
