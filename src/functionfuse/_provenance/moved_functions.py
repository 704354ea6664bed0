"""Tell a function that was moved from one that was replaced by a function of the same name in another module."""

from __future__ import annotations

import ast
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from functionfuse._provenance.project_border import source_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functionfuse._provenance.fingerprint import Fingerprint

__all__ = ["replaced_names"]

_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def replaced_names(stored: Fingerprint, expected: Fingerprint) -> Iterator[tuple[str, str, str]]:
    """The functions and classes of a call that are others now: the place (of the function, ""), and both names.

    A name counts without its module: code that was moved is the same code.
    But where a function of another module has other code, and the earlier one is still in its module,
    the graph names another function.
    """
    if stored.name_in_module != expected.name_in_module:
        yield "", stored.function, expected.function
        return
    if stored.code == expected.code:
        return
    named = [("", stored.function, expected.function)]
    for name, text in expected.literals.items():
        if stored.arguments.get(name) == expected.arguments.get(name):
            named.append((name, stored.literals.get(name, text), text))
    for place, before, now in named:
        if before != now and _is_elsewhere(before, now):
            yield place, before, now


def _is_elsewhere(before: str, now: str) -> bool:
    """Tell whether a module that is not the one of the current name still defines the earlier name."""
    files = [file for file, _ in _places(now)]
    return any(
        file not in files and _defines(file, os.stat(file).st_mtime_ns, name)
        for file, name in _places(before)
    )


def _places(name: str) -> Iterator[tuple[str, str]]:
    """The files that a dotted name can be in, each with the first name that is defined there."""
    steps = name.split(".")
    for count in range(1, len(steps)):
        file = source_file(".".join(steps[:count]))
        if file is not None and os.path.isfile(file):
            yield os.path.realpath(file), steps[count]


@lru_cache(maxsize=256)
def _defines(file: str, _changed: int, name: str) -> bool:
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    return any(isinstance(node, _DEFINITIONS) and node.name == name for node in tree.body)
