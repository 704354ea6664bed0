"""Runs the Python blocks of the README and of docs/, each page from top to bottom as one session."""

from __future__ import annotations

import logging
import os
import tempfile
from doctest import ELLIPSIS
from typing import TYPE_CHECKING, Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

if TYPE_CHECKING:
    from collections.abc import Callable

# Prefect looks at these when it is imported, which the collection of tests may do: not the user's own
_home = tempfile.TemporaryDirectory()
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

_undo: list[Callable[[], object]] = []


def _enter(namespace: dict[str, Any]) -> None:
    """Start a page in an empty folder, and in a module that cannot be imported, as a notebook does."""
    folder, before = tempfile.TemporaryDirectory(), os.getcwd()
    _undo.extend((folder.cleanup, lambda: os.chdir(before)))
    os.chdir(folder.name)
    namespace["__name__"] = "__main__"


def _leave(_: dict[str, Any]) -> None:
    while _undo:
        _undo.pop()()


def pytest_unconfigure() -> None:
    """Keep Prefect's temporary server from saying that it stops, when pytest has closed the stream."""
    logging.getLogger("prefect").setLevel(logging.WARNING)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)],
    patterns=["README.md", "docs/*.md"],
    setup=_enter,
    teardown=_leave,
).pytest()
