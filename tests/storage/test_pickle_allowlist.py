"""PickleAllowlist: plain data, arrays and the reader's types are unpickled."""

from __future__ import annotations

import collections
import decimal
import enum
import fractions
import os
import pickle
import sys
import zoneinfo
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from trust_helpers import SAFE, Calls, atoms, framed, old_format, untrusted

from functionfuse._common.script_references import script_object
from functionfuse.errors import OptionError, UntrustedResult
from functionfuse.storage.file_format.file_format import unframe
from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist

if TYPE_CHECKING:
    from pathlib import Path

plain = st.recursive(
    atoms,
    lambda children: (
        st.lists(children)
        | st.tuples(children, children)
        | st.dictionaries(st.text(), children)
        | st.dictionaries(st.text(), children).map(collections.OrderedDict)
        | st.dictionaries(st.text(), children).map(lambda d: collections.defaultdict(list, d))
        | st.lists(children).map(collections.deque)
        | st.frozensets(st.integers())
        | st.sets(st.text())
        | st.text().map(collections.Counter)
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=50)
@given(plain, st.booleans())
def test_plain_data_is_read(value: object, old: bool) -> None:  # noqa: FBT001
    """Harmless data come back equal, in either format."""
    data = old_format(value) if old else framed(value)
    result = unframe(data, "w", "node", allowed=SAFE)
    assert value == result
    assert type(value) is type(result)


def description(dtype: np.dtype[Any]) -> object:
    """All there is to know of a dtype, with those in it."""
    fields = {
        name: (description(field[0]), field[1:]) for name, field in (dtype.fields or {}).items()
    }
    base = dtype.subdtype and (description(dtype.subdtype[0]), dtype.subdtype[1])
    flags = (
        dtype.flags & 0xFF
    )  # numpy's own pickles change those above: how an aligned record is copied
    own = (dtype.str, dtype.byteorder, dtype.itemsize, dtype.alignment, flags, dtype.metadata)
    return dtype, own, dtype.isalignedstruct, dtype.names, fields, base


DTYPES = [
    np.dtype(object),
    np.dtype([("a", "f4"), ("b", "O")]),
    np.dtype([("a", ">f4"), ("b", [("c", "M8[25ns]"), ("d", "U3", (2,))])]),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype({"names": ["x", "y"], "formats": ["i1", "f8"], "offsets": [8, 0], "itemsize": 32}),
    np.dtype([(("a title", "t"), "f4")]),
    np.dtype(("f4", (2, 3))),
    np.dtype("m8"),
    np.dtype("V7"),
]


@settings(deadline=None)
@given(arrays_of.scalar_dtypes() | arrays_of.array_dtypes() | st.sampled_from(DTYPES))
def test_dtypes_are_read(dtype: np.dtype[Any]) -> None:
    """Dtypes are constructed, not shared, and equal in every attribute."""
    assert description(dtype) == description(unframe(framed(dtype), "w", "node", allowed=SAFE))


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_arrays_are_read(data: st.DataObject) -> None:
    """Of every dtype and shape, with objects in them, bit by bit."""
    dtype = data.draw(arrays_of.scalar_dtypes() | arrays_of.array_dtypes(allow_subarrays=False))
    shape = data.draw(arrays_of.array_shapes(min_side=0, max_side=60))
    array = np.zeros(shape, data.draw(st.sampled_from([dtype, *DTYPES[:6]])))
    array = pickle.loads(pickle.dumps(array))  # its dates get our byte order
    one, turned = unframe(framed([array, array.T]), "w", "node", allowed=SAFE)
    assert (array.dtype, array.shape, array.T.shape) == (one.dtype, one.shape, turned.shape)
    np.testing.assert_array_equal(array, one)
    assert one.flags.writeable


def test_scalars_of_numpy_are_read() -> None:
    """Single numbers and strings of numpy are plain data, too."""
    scalars = [np.float32(1.5), np.int64(3), np.bool_(1), np.str_("x"), np.datetime64("2026-01-01")]
    result = unframe(framed(scalars), "w", "node", allowed=SAFE)
    assert scalars == result
    assert list(map(type, scalars)) == list(map(type, result))


def test_read_arrays_share_the_memory_that_was_read() -> None:
    """With allowed_types, buffers are not copied either."""
    data = framed(np.zeros(10_000))
    result = unframe(data, "w", "node", allowed=SAFE)
    assert np.shares_memory(result, np.frombuffer(data, np.uint8))


@dataclass
class Model:
    """A type of the reader's."""

    weights: Any

    class Part:
        """A type within another."""


@pytest.mark.parametrize(
    "types",
    [[Model], [f"{Model.__module__}.Model"], (Model, Model), Model],
    ids=["type", "name", "twice", "alone"],
)
def test_a_type_can_be_allowed(types: Any) -> None:
    """By the class or by its name; the types that are always allowed stay allowed."""
    data = framed([Model(np.arange(3))])
    with pytest.raises(UntrustedResult, match=r"'test_pickle_allowlist\.Model'"):
        unframe(data, "w", "node", allowed=SAFE)
    (result,) = unframe(data, "w", "node", allowed=PickleAllowlist(types))
    assert [0, 1, 2] == list(result.weights)


def test_the_error_says_what_to_allow() -> None:
    """The names in the error can be allowed as they are written, until all types are allowed."""
    data, names = framed([Model.Part(), Model(1)]), list[str]()
    for _ in range(2):
        with pytest.raises(UntrustedResult) as caught:
            unframe(data, "w", "node", allowed=PickleAllowlist(names))
        names.append(str(caught.value).partition("allowed_types=['")[2].partition("']")[0])
    assert ["test_pickle_allowlist.Model.Part", "test_pickle_allowlist.Model"] == names
    unframe(data, "w", "node", allowed=PickleAllowlist(names))


def test_allowing_a_type_allows_nothing_else(trace: Path) -> None:
    """Neither its members nor its module."""
    data = framed(Model(Calls(os.mkdir, str(trace))))
    untrusted(data, trace, r"it needs 'posix\.mkdir'", allowed=PickleAllowlist([Model]))
    data = framed(Model.Part())
    untrusted(data, trace, "Model.Part'", allowed=PickleAllowlist([Model]))


def test_an_allowlist_can_be_pickled() -> None:
    """An allowlist is pickled by its types and names."""
    allowed = pickle.loads(pickle.dumps(PickleAllowlist([Model, "a.B"])))
    assert (Model, "a.B") == allowed.types
    assert "PickleAllowlist([<class 'test_pickle_allowlist.Model'>, 'a.B'])" == repr(allowed)


@pytest.mark.parametrize("wrong", ["Name", "a b.c", "a..b", "", ".a", 7, None, Model(1)])
def test_allowed_types_are_validated(wrong: Any) -> None:
    """The error says what is expected."""
    with pytest.raises(OptionError, match=r"allowed_types contains .*: give a type, or its name"):
        PickleAllowlist([wrong])


def test_numbers_that_are_decimals_or_fractions_stay_exact() -> None:
    """Plain data is not approximated."""
    value = [decimal.Decimal("0.1"), fractions.Fraction(1, 3), zoneinfo.ZoneInfo("UTC")]
    assert value == unframe(framed(value), "w", "node", allowed=SAFE)


def test_types_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of a script must be allowed like any other: as a type, or by the name of the script or of `__main__`."""
    main = sys.modules["__main__"]
    Shade = enum.Enum("Shade", "RED GREEN", module="__main__")  # noqa: N806 - a class
    monkeypatch.setattr(main, "Shade", Shade, raising=False)
    monkeypatch.setattr(main, "__file__", "study.py", raising=False)
    data = framed({Shade.RED: [Shade.GREEN]})
    for allowed in ([Shade], ["__main__.Shade"], ["study.Shade"]):
        found = unframe(data, "w", "node", allowed=PickleAllowlist(allowed))
        assert {Shade.RED: [Shade.GREEN]} == found
    for refused in ([], [Color], ["os.Shade", "__main__.Shades"]):
        with pytest.raises(UntrustedResult, match=r"needs '.*\.Shade', which is not among"):
            unframe(data, "w", "node", allowed=PickleAllowlist(refused))


class Color(enum.Enum):
    """Not of a script."""

    RED = 1


@pytest.mark.parametrize(
    "arguments",
    [
        (None, "os.system"),
        (None, "sys.modules"),
        (1, "Shade"),
        (None, None, 3),
        (),
        (None, ["Shade"]),
    ],
)
def test_forged_names_of_a_script(arguments: tuple[Any, ...]) -> None:
    """A reference to a script finds nothing that is not allowed, whatever it says."""
    data = framed(Calls(script_object, *arguments))
    with pytest.raises(UntrustedResult):
        unframe(data, "w", "node", allowed=PickleAllowlist(["__main__.Shade"]))
