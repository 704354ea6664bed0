"""Exact equality: differences between a value and its copy that `==` ignores."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from functionfuse.comparison.exact import difference
from functionfuse.testing.engine.value_types.table import difference_of, value_types


class Colour(Enum):
    """Members are compared by their identity."""

    RED = [1]  # noqa: RUF012 - which two references have in common


class Labelled(np.ndarray[Any, Any]):
    """An array with an attribute."""

    label = ""


def labelled(label: str) -> Any:
    """An array with this label."""
    array = np.zeros(2).view(Labelled)
    array.label = label
    return array


def read_only(array: Any) -> Any:
    """The array, read-only."""
    array.flags.writeable = False
    return array


def twice(value: Any, other: Any = None) -> list[Any]:
    """A list of one object, or of two."""
    return [value, value if other is None else other]


@pytest.mark.parametrize(
    ("expected", "actual", "text"),
    [
        (0.0, -0.0, "it is -0.0 instead of 0.0"),
        ([complex(0, -0.0)], [0j], "[0] is 0j instead of -0j"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ".keys()[0] is 'b' instead of 'a'"),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), ".keys()[0] is 'b' instead of 'a'"),
        (deque([1], maxlen=2), deque([1]), ".maxlen is None"),
        (defaultdict(list), defaultdict(set), ".default_factory is <class 'set'>"),
        (twice([1]), twice([1], [1]), "[1] is another object instead of the same object as [0]"),
        (twice([1], [1]), twice([1]), "[1] is the same object as [0] instead of another object"),
        (twice(np.ones(1)), twice(np.ones(1), np.ones(1)), "[1] is another object"),
        (twice({}), twice({}, {}), "[1] is another object"),
        (Decimal("1.0"), Decimal("1.00"), "is '1.00' instead of '1.0'"),
        (
            datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("UTC")),
            datetime(2026, 1, 1, 12, tzinfo=UTC),
            "datetime.timezone",
        ),
        (memoryview(b"a"), memoryview(bytearray(b"a")), ".readonly is False instead of True"),
        (memoryview(b"a"), b"a", "(bytes) instead of"),
        (np.array([0.0]), np.array([-0.0]), "[0] is -0.0"),
        (np.array([complex(0, -0.0)]), np.array([0j]), "[0] is 0j"),
        (np.zeros(2, ">f8"), np.zeros(2), "float64 instead of"),
        (read_only(np.zeros(2)), np.zeros(2), ".flags.writeable is True instead of False"),
        (np.zeros((2, 2), order="F"), np.zeros((2, 2)), ".flags.c_contiguous is True"),
        (labelled("a"), labelled("b"), ".label is 'b' instead of 'a'"),
        (np.zeros(2).view(Labelled), np.zeros(2), "(numpy.ndarray) instead of"),
        (np.ma.array([1], fill_value=2), np.ma.array([1], fill_value=3), ".fill_value[0] is 3"),
        (ValueError("a"), ValueError("b"), ".args[0] is 'b'"),
    ],
)
def test_what_differs(expected: Any, actual: Any, text: str) -> None:
    """Signs of zeros, orders, zones, flags, attributes and sharing count, and are named."""
    assert text in difference(expected, actual)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (np.arange(6)[::2], np.arange(0, 6, 2)),  # a view that is not contiguous
        (np.ma.array([1]), np.ma.array([1], mask=[False])),
        ([Colour.RED, Colour.RED], [Colour.RED, Colour.RED]),
        (float("nan"), float("nan")),
        ({float("nan")}, {float("nan")}),
        (Decimal("sNaN"), Decimal("sNaN")),
    ],
)
def test_what_is_exact(expected: Any, actual: Any) -> None:
    """A copy may be contiguous, and NaN of any type equals itself."""
    assert difference(expected, actual) == ""


def test_writeable_can_be_ignored() -> None:
    """Arrays of engines that hand them out read-only are compared without this flag."""
    assert difference(np.zeros(1), read_only(np.zeros(1)), ignore_writeable=True) == ""


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, each once in a process
def test_the_table() -> None:
    """The table has at least 80 types, each of which equals itself when it is made again, and no other."""
    kinds = value_types()
    values = {name: kind.make() for name, kind in kinds.items()}

    assert len(kinds) >= 80
    assert {} == {n: d for n, value in values.items() if (d := difference_of(n, value))}
    others = [*[*values.values()][1:], None]
    pairs = zip(values, others, strict=True)
    assert [] == [name for name, other in pairs if not difference_of(name, other)]
