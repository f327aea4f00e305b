"""Runs the portable tests on MicroPython, on a PC or on a board.

    micropython tests/run.py                              all of them, with the library in lib/
    micropython tests/run.py --lib build/mpy test_uri     one file, with the compiled library
    mpremote connect PORT mount . run tests/run.py        on a board, from the project's folder

On a board one file runs so:

    mpremote mount . exec "import sys; sys.path.append('tests'); import run; run.main(['test_uri'])"

Prints a line for each test and a closing line, then raises when a test failed: mpremote reports an
exception as exit code 1, but takes any sys.exit for success.
"""

import gc
import os
import sys

_FILE = globals().get("__file__", "")
_IS_FILE = _FILE.endswith("run.py")
if not _IS_FILE:  # mpremote sent the text of this file, so it has no path: the project's folder is mounted
    _TESTS = os.getcwd().rstrip("/") + "/tests"
elif "/" in _FILE:
    _TESTS = _FILE.rsplit("/", 1)[0]
else:
    _TESTS = "."


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
    names = [name for name in os.listdir(_TESTS) if name.startswith("test_") and name.endswith(".py")]
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


def run_file(module_name, tally):
    """Imports a test file, runs its tests in the order of their names and frees the module's memory."""
    try:
        module = __import__(module_name)
    except (Exception, SystemExit) as error:
        return tally.fail(module_name, error)
    for name in sorted(dir(module)):
        if name.startswith("test_"):
            run_test(getattr(module, name), module_name + "." + name, tally)
            gc.collect()
    del sys.modules[module_name]
    del module
    gc.collect()


def main(module_names=(), library=None):
    """Runs test files and prints what came out.

    module_names: the files to run, without .py; all of them when empty.
    library: the folder that holds the library; default lib/ beside tests/. On a board where neither
        exists, the installed library is found through sys.path.
    Raises TestsFailed when a test or an import failed, and when nothing ran.
    """
    sys.path.insert(0, _TESTS)
    sys.path.insert(0, library or _TESTS + "/../lib")
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
    _command_line(sys.argv[1:] if _IS_FILE else ())
