"""Tests of values for which engines have rules of their own, and of exceptions that are hard to send."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.testing.engine.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ForeignValueTests"]

_LARGE = 300_000


class ForeignValueTests(Suite):
    """Values that reach a node as they were made, whatever the engine does with values of their type."""

    def test_values_with_rules_of_their_own(self) -> None:
        """Arrays without elements, subclasses, buffers and exceptions arrive unchanged: as results, as arguments, at the caller."""
        made = [workflow(make)() for make in _values().values()]
        literals = [make() for make in _values().values()]

        *returned, taken, given = self.compute(*made, describe(*made), describe(*literals))

        names = [*_values()]
        expected = dict(zip(names, map(_describe, literals), strict=True))
        assert expected == dict(zip(names, map(_describe, returned), strict=True))
        assert expected == dict(zip(names, taken, strict=True))
        assert expected == dict(zip(names, given, strict=True))

    def test_runaway_recursion(self) -> None:
        """A runaway recursion is a RecursionError with a traceback that a person can read."""
        for node in workflow(_down)(0), workflow(_left)(0):
            with pytest.raises(RecursionError) as caught:
                self.compute(node)

            assert caught.value.__notes__
            if self.runs_in_other_processes and self.carries_tracebacks:
                text = "".join(traceback.format_exception(caught.value))
                assert __file__ in text
                assert len(text) < 100_000


class Problem(Exception):
    """An exception that its class cannot make of its `args`."""

    def __init__(self, *, code: int) -> None:
        """Note a code."""
        super().__init__(f"code {code}")
        self.code = code


@workflow
def describe(*values: Any) -> list[Any]:
    """What values are, as plain strings."""
    return [_describe(value) for value in values]


def _describe(value: Any) -> Any:
    if isinstance(value, list):
        return [_describe(part) for part in value]
    if isinstance(value, BaseException):
        return type(value).__name__, str(value), value.__dict__
    if isinstance(value, memoryview):
        return "memoryview", value.format, value.shape, value.readonly, value.tolist()[:3]
    if isinstance(value, bytes | bytearray | str):
        return type(value).__name__, len(value), str(value[:3])
    flags = value.flags
    return (
        (type(value).__name__, str(value.dtype), value.shape, value.tobytes()[:100]),
        (flags.c_contiguous, flags.f_contiguous, flags.writeable),
        getattr(value, "unit", None),
    )


def _values() -> dict[str, Callable[[], Any]]:
    values: dict[str, Callable[[], Any]] = {
        "bytearray": lambda: bytearray(_LARGE),
        "memoryview": lambda: memoryview(b"abcdef").cast("H"),
        "large memoryview": lambda: memoryview(bytearray(_LARGE)),
        "exception": lambda: Problem(code=1),
        "exceptions in a large value": lambda: ["x" * 10 * _LARGE, Problem(code=1)],
    }
    return values | _arrays()


def _arrays() -> dict[str, Callable[[], Any]]:
    try:
        import numpy as np
    except ImportError:
        return {}

    return {
        "records": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        "large records": lambda: np.rec.array(np.zeros(_LARGE, dtype=[("a", "i4")])),
        "empty": lambda: np.empty((0, 3)),
        "empty, in columns": lambda: np.empty((3, 0), order="F"),
        "in columns": lambda: np.asfortranarray(np.ones((600, 500))),
    }


def _down(number: int) -> int:
    return _down(number + 1)


def _left(number: int) -> int:
    return _right(number + 1)


def _right(number: int) -> int:
    return _left(number + 1)
