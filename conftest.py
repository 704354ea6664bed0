"""Runs the Python blocks of the README and of docs/, each page from top to bottom as one session."""

from __future__ import annotations

import os
import sys
import tempfile
from doctest import ELLIPSIS
from typing import TYPE_CHECKING, Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

if TYPE_CHECKING:
    from collections.abc import Callable

_home = tempfile.TemporaryDirectory()  # of Prefect, when no test has given it one
_undo: list[Callable[[], object]] = []


def _enter(namespace: dict[str, Any]) -> None:
    """Start a page in an empty folder, where `storage` means nobody else's, as a notebook does."""
    folder, before = tempfile.TemporaryDirectory(), os.getcwd()
    _undo.extend((folder.cleanup, lambda: os.chdir(before)))
    os.chdir(folder.name)
    if "prefect" not in sys.modules:
        os.environ.setdefault("PREFECT_HOME", _home.name)
        os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    namespace["__name__"] = "__main__"


def _leave(_: dict[str, Any]) -> None:
    while _undo:
        _undo.pop()()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)],
    patterns=["README.md", "docs/*.md"],
    setup=_enter,
    teardown=_leave,
).pytest()
