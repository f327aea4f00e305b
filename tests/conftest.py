"""pytest: makes the library and the tests' own modules importable, and knows what a skip means here.

The portable tests raise check.Skip, which becomes a skip of pytest. With CI=true in the environment
every skip is a failure: where all programs are installed, nothing may go untested.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]

import check  # noqa: E402

SKIPS_FAIL = os.environ.get("CI") == "true"


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
def pytest_runtest_makereport():
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return fail_if_skipped((yield))
