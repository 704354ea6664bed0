"""How two values differ: what counts, what does not, and what is said."""

from __future__ import annotations

import copy
import random
import threading
from collections import defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytest
from cloudpickle import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from functionfuse.comparison.equality import Equality, Mismatch, short_repr

NAN = float("nan")
_STATE = ".__reduce__()[1][0].__reduce__()[2][0]['state']['state']"
Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - without types is what is meant


@dataclass
class Model:
    """Has an ==, which fails for arrays."""

    weights: Any
    name: str = "m"


class Plain:
    """Has no == of its own."""

    def __init__(self, **attributes: Any) -> None:
        """Take any."""
        self.__dict__.update(attributes)


class Slotted:
    """Has attributes without a dict."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        """Take a value."""
        self.value = value


class Tagged(list[Any]):
    """A list with an attribute."""

    def __init__(self, tag: str) -> None:
        """Take the attribute."""
        super().__init__()
        self.tag = tag


class Problem(Exception):
    """An exception with an attribute."""

    def __init__(self, text: str, code: int) -> None:
        """Take the attribute."""
        super().__init__(text)
        self.code = code


class Rectangle:
    """Has a property that is computed once."""

    def __init__(self, side: int) -> None:
        """Take the length of a side."""
        self.side = side

    @cached_property
    def area(self) -> int:
        """The area."""
        return self.side**2


def computed(rectangle: Rectangle) -> Rectangle:
    """A rectangle whose area was read."""
    assert rectangle.area
    return rectangle


def _with_default(default: int) -> Any:
    def function(*, value: int = default) -> int:
        return value

    return function


def mismatch(expected: Any, actual: Any, rtol: float = 0.0, atol: float = 0.0) -> Mismatch | None:
    """The first difference."""
    return Equality(rtol, atol).mismatch(expected, actual)


def values() -> st.SearchStrategy[Any]:
    """Values of all kinds, with NaN."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.complex_numbers()
    )
    arrays = st.lists(st.floats()).map(np.array)
    return st.recursive(
        leaves | arrays,
        lambda parts: st.one_of(
            st.lists(parts),
            st.tuples(parts, parts),
            st.dictionaries(st.text(), parts),
            st.builds(Model, parts),
            st.builds(lambda part: Plain(part=part), parts),
            st.builds(Slotted, parts),
        ),
        max_leaves=8,
    )


@given(values())
def test_copies_are_equal(value: Any) -> None:
    """A value equals its copy, in this process and from another, whatever it holds."""
    assert None is mismatch(value, copy.deepcopy(value))
    assert None is mismatch(value, loads(dumps(value)))


@pytest.mark.parametrize(
    ("expected", "actual", "path"),
    [
        (1, 2, ""),
        (1, 1.0, ""),  # types count
        (True, 1, ""),
        ((1,), [1], ""),
        (0.1, 0.2, ""),
        (NAN, 0.0, ""),
        (1 + 2j, 1 + 3j, ""),
        ([1, [2, 3]], [1, [2, 4]], "[1][1]"),
        ([1], [1, 2], ""),
        ({"a": 1, "b": [1]}, {"b": [2], "a": 1}, "['b'][0]"),
        ({"a": 1}, {"b": 1}, ".keys()"),
        ({1, 2}, {1, 3}, ""),
        (Pair(1, 2), Pair(1, 3), "[1]"),
        (Model(1), Model(2), ".weights"),
        (Model(np.zeros(3)), Model(np.array([0, 0, 1.0])), ".weights[2]"),
        (Plain(a=Plain(b=1)), Plain(a=Plain(b=2)), ".a.b"),
        (Slotted(1), Slotted(2), ".value"),
        (Plain(a=1), Plain(b=1), "the attributes of it"),
        (ValueError("a"), ValueError("b"), ".args[0]"),
        (ValueError("a"), KeyError("a"), ""),
        (lambda: 1, lambda: 2, ".__code__"),
        (int, float, ""),
        (partial(max, 1), partial(max, 2), ".__reduce__()[2][1][0]"),
        (np.random.default_rng(1), np.random.default_rng(2), _STATE),
        (random.Random(1), random.Random(2), ".__reduce__()[2][1][1]"),  # noqa: S311
        (iter([1]), iter([2]), ".__reduce__()[1][0][0]"),
        (np.float64(1), 1.0, ""),
        (np.float32(1), np.float64(1), ""),
        (np.arange(3), np.arange(3.0), ""),
        (np.arange(4), np.arange(4).reshape(2, 2), ""),
        (np.eye(2), np.ones((2, 2)), "[0, 1]"),
        (np.array([1, "a"], object), np.array([1, "b"], object), "[1]"),
        (np.array(["2026-01-01"], "M8[D]"), np.array(["2026-01-02"], "M8[D]"), "[0]"),
        (deque([1, [2]]), deque([1, [3]]), "[1][0]"),
        (defaultdict(list), defaultdict(set), ".default_factory"),
        (Tagged("a"), Tagged("b"), ".tag"),
        (Tagged("a").copy, Tagged("b").copy, ""),
        (_with_default(1), _with_default(2), ".__kwdefaults__['value']"),
        (Problem("a", 1), Problem("a", 2), ".code"),
        ([3**10_000], [3**10_001], "[0]"),  # too long for a text
        (np.zeros(2, [("x", "i4")]), np.ones(2, [("x", "i4")]), "['x'][0]"),
        (
            np.ma.array([1, 2], mask=[False, True]),
            np.ma.array([1, 2], mask=[True, False]),
            ".mask[0]",
        ),
        (
            np.ma.array([(1, 2)], mask=[(True, False)], dtype="i4,i4"),
            np.ma.array([(1, 2)], mask=[(False, False)], dtype="i4,i4"),
            ".mask['f0'][0]",
        ),
    ],
)
def test_first_difference(expected: Any, actual: Any, path: str) -> None:
    """The first difference of two values is named; types, shapes and dtypes count."""
    found = mismatch(expected, actual)
    assert found is not None
    assert path == found.path


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (NAN, NAN),
        (int, int),
        (partial(max, 1), partial(max, 1)),
        (iter([1]), iter([1])),
        (object(), object()),
        (complex(NAN, 1), complex(NAN, 1)),
        (np.array([1, NAN]), np.array([1, NAN])),
        (np.array(["NaT"], "M8[s]"), np.array(["NaT"], "M8[s]")),
        (np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 3], mask=[False, True])),
        (Model(np.array([NAN])), Model(np.array([NAN]))),
        (np.array([], float), np.array([], float)),
        (np.ma.array([1]), np.ma.array([1], mask=[False])),
        (deque([NAN]), deque([NAN])),
        ({NAN, 1}, {1, float("nan")}),
        (Decimal("NaN"), Decimal("NaN")),
        (Tagged("a").copy, Tagged("a").copy),
        (Rectangle(2), computed(Rectangle(2))),
    ],
)
def test_what_counts_as_equal(expected: Any, actual: Any) -> None:
    """The order of a dict, NaN, masked values and properties that are cached are not differences."""
    assert None is mismatch(expected, actual)


@pytest.mark.parametrize(
    "value", [1.0, 1 + 1j, np.float32(1), np.ones(3), [1.0], Model(1.0), Plain(a=np.ones(2))]
)
def test_tolerance(value: Any) -> None:
    """Floats and arrays may differ by a tolerance, relative to the first or not, at any depth."""
    near = _scaled(value, 1.001)
    assert None is not mismatch(value, near)
    assert None is mismatch(value, near, rtol=0.01)
    assert None is mismatch(value, near, atol=0.01)
    assert None is not mismatch(value, near, rtol=1e-5, atol=1e-5)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_scaled(part, factor) for part in value]
    if isinstance(value, Model):
        return Model(_scaled(value.weights, factor))
    if isinstance(value, Plain):
        return Plain(**{name: _scaled(part, factor) for name, part in vars(value).items()})
    return type(value)(value * factor) if isinstance(value, np.float32) else value * factor


def test_infinity_is_not_a_tolerance() -> None:
    """An infinite value equals itself alone, whatever the tolerance."""
    inf = float("inf")
    assert None is mismatch(inf, inf, rtol=1)
    assert None is not mismatch(inf, 1.0, rtol=1)
    assert None is not mismatch(np.array([inf]), np.array([1.0]), rtol=1)
    assert None is not mismatch(1.0, inf, rtol=1)


def test_arrays_say_where_and_by_how_much() -> None:
    """For arrays the first difference, the number of differences and the largest distance are reported."""
    one, other = np.zeros((3, 4)), np.zeros((3, 4))
    other[1, 2], other[2, 0] = 0.5, -2
    found = mismatch(one, other)
    assert Mismatch("[1, 2]", "0.0", "0.5 (2 of 12 elements differ, by at most 2)") == found


def test_values_that_contain_themselves() -> None:
    """A value that contains itself is compared once around."""
    one: list[Any] = [1]
    one.append(one)
    other: list[Any] = [1]
    other.append(other)
    assert None is mismatch(one, other)


def test_what_cannot_be_compared() -> None:
    """An object without == and attributes is reported, and does not hide a difference next to it."""
    equality = Equality()
    one, other = [threading.Lock(), 1], [threading.Lock(), 1]
    assert None is equality.mismatch(one, other)
    assert ["[0] is a _thread.lock"] == equality.unknown
    found = mismatch([threading.Lock(), 1], [threading.Lock(), 2])
    assert found is not None
    assert "[1]" == found.path


def test_frames_are_compared_exactly() -> None:
    """Frames of pandas and polars are compared by their own libraries."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for library in (pandas, polars):
        frame, other = library.DataFrame({"a": [1.0, NAN]}), library.DataFrame({"a": [1.5, NAN]})
        assert None is mismatch(frame, copy.deepcopy(frame))
        assert None is not mismatch(frame, other)
        assert None is mismatch(frame["a"], copy.deepcopy(frame["a"]))
        assert None is not mismatch(frame["a"], other["a"])
    assert None is mismatch(pandas.Index([1, 2]), pandas.Index([1, 2]))
    assert None is not mismatch(pandas.Index([1, 2]), pandas.Index([1, 3]))
    noted = pandas.DataFrame({"a": [1]})
    noted.attrs["unit"] = "m"
    assert None is not mismatch(pandas.DataFrame({"a": [1]}), noted)


@dataclass
class Loud:
    """Says much."""

    text: str = field(default="x" * 1000)


class Mute:
    """Says nothing."""

    def __repr__(self) -> str:
        message = "no"
        raise RuntimeError(message)


@pytest.mark.parametrize("value", [Loud(), Mute(), "y" * 1000, list(range(1000)), 10**500])
def test_shortened(value: Any) -> None:
    """A value is shown on one line, whatever its repr is."""
    assert 70 >= len(short_repr(value))
    assert "\n" not in short_repr(value)


def test_shortened_array() -> None:
    """For an array the type, shape and dtype are shown."""
    assert "ndarray of shape (2, 3) and dtype float64" == short_repr(np.zeros((2, 3)))
