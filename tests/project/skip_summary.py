"""Pytest plugin: print one line for each reason for which tests were skipped, with what to install."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

__all__ = ["pytest_terminal_summary"]

_MISSING_MODULE = re.compile(r"could not import '([\w.]+)'.*", re.DOTALL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skipped tests by their reasons, the most frequent first."""
    skipped: Iterable[pytest.TestReport] = terminalreporter.stats.get("skipped", ())
    for reason, count in Counter(map(_reason, skipped)).most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    missing = _MISSING_MODULE.match(reason)
    if missing is None:
        return reason
    package = missing[1].partition(".")[0].replace("_", "-")
    return f"{missing[1]} is not installed: pip install {package}"
