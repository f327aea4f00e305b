"""pytest: makes the library and the tests' own modules importable, and knows what a skip means here.

The portable tests raise check.Skip, which becomes a skip of pytest. With CI=true in the environment
every skip is a failure: where all programs are installed, nothing may go untested. Not so on a board: there
a test may skip itself for want of memory.

With --board PORT the portable tests run on the board behind that port, each as an item of its own with its
traceback from there; then come those in tests/board, for which this computer is the peer. tests/host stays out.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BOARD_TESTS = ROOT / "tests/board"
HOST_TESTS = ROOT / "tests/host"
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests"), str(ROOT / "tools")]

import check  # noqa: E402

# Who starts pytest in the background may have it ignore Ctrl-C, and then so do the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
SKIPS_FAIL = os.environ.get("CI") == "true"
ITEM_LIMIT_S = 1200  # for a piece of tests, on a slow board
KEY = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--board", metavar="PORT", help="run the portable tests on the board behind this serial port")
    parser.addoption("--host", help="the board's address as seen from here (default: ask the board)")


def pytest_ignore_collect(collection_path, config):
    """With --board tests/host stays out and tests/board comes in, which pyproject.toml leaves out otherwise."""
    if config.getoption("--board"):
        if collection_path == HOST_TESTS:
            return True
        if collection_path == BOARD_TESTS and not config.getoption("ignore"):
            return False
    return None


def pytest_pycollect_makemodule(module_path, parent):
    """With --board a file of portable tests is not imported here."""
    if parent.config.getoption("--board") and BOARD_TESTS not in module_path.parents:
        return BoardFile.from_parent(parent, path=module_path)
    return None


def pytest_collection_modifyitems(items):
    """What runs on the board comes first: its interpreter is reset between pieces, a server stays up."""
    items.sort(key=lambda item: not isinstance(item, BoardItem))


def connected(config):
    """Returns the test_board.BoardTests of this session; ends the session when the board is not there."""
    import device
    import test_board

    if KEY not in config.stash:
        try:
            config.stash[KEY] = test_board.BoardTests(config.getoption("--board"))
        except device.DeviceError as problem:
            pytest.exit(str(problem), returncode=1)
    return config.stash[KEY]


@pytest.fixture(scope="session")
def board(request):
    """The test_board.BoardTests of this session."""
    return connected(request.config)


@pytest.fixture(scope="session")
def host(request, board):
    """The board's address as seen from here; its network is up. What needs one is skipped where there is none."""
    import device

    given = request.config.getoption("--host")
    try:
        if not given:
            board.device.about.check_network()
    except device.DeviceError as reason:
        pytest.skip(str(reason))
    try:
        return given or board.address()
    except device.DeviceError as problem:
        pytest.exit(str(problem), returncode=1)


@pytest.fixture(scope="session")
def board_report(request):
    """A list of lines, printed at the end."""
    request.config.board_report = ["", "measured on the board:"]
    return request.config.board_report


def pytest_unconfigure(config):
    if KEY in config.stash:
        config.stash[KEY].close()


def pytest_terminal_summary(terminalreporter, config):
    """What was measured on the board, if the tests in tests/board ran."""
    for line in getattr(config, "board_report", ()):
        terminalreporter.write_line(line)


class BoardFile(pytest.File):
    """A file of portable tests, taken apart here and run on the board."""

    def collect(self):
        from split_tests import TestFile

        self.test_file = TestFile(self.path)
        for name in self.test_file.tests:
            yield BoardItem.from_parent(self, name=name)

    def result(self, item):
        """Returns the test_board.Result of an item; runs its piece if that has not run."""
        if not hasattr(self, "pieces"):
            import test_board

            wanted = {other.name for other in item.session.items if other.parent is self}
            self.pieces = self.test_file.pieces(wanted, test_board.PIECE_SOURCE_LEN)
            self.results = {}
        if item.name not in self.results:
            piece = next(piece for piece in self.pieces if item.name in piece.tests)
            self.results.update(connected(self.config).run(piece))
        return self.results[item.name]


class BoardFailure(Exception):
    """A test failed on the board; the text is its traceback from there."""


class BoardItem(pytest.Item):
    """A test that runs on the board."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.add_marker(pytest.mark.timeout(ITEM_LIMIT_S))

    def runtest(self):
        import device

        try:
            result = self.parent.result(self)
        except device.DeviceError as problem:
            pytest.exit(str(problem), returncode=1)
        if result.outcome == "skip":
            pytest.skip(result.text)
        if result.outcome != "ok":
            raise BoardFailure(result.text)

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, BoardFailure):
            return f"on the board:\n{excinfo.value}"
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, None, self.name


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    try:
        return (yield)
    except check.Skip as reason:
        pytest.skip(str(reason))


def fail_if_skipped(report):
    """Turns the report of a skip into one of a failure that quotes the reason, when CI=true."""
    if SKIPS_FAIL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason} (CI=true: nothing may be skipped)"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    return report if isinstance(item, BoardItem) else fail_if_skipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return fail_if_skipped((yield))
