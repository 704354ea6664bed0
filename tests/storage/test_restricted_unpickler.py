"""The restricted unpickler gives what pickle gives, and survives fuzzed streams."""

from __future__ import annotations

import collections
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from unpickler_helpers import load, outcome

FUZZER = Path(__file__).with_name("fuzz_restricted_unpickler.py")
#: Of the fuzzer in this test; 100,000 take 10 seconds.
ITERATIONS = 500_000  # about a minute on a slow machine


# ---- the same as pickle ----

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
    | st.complex_numbers(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.times()
    | st.timedeltas()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.builds(slice, st.integers(), st.none() | st.text())
    | arrays_of.arrays(
        arrays_of.scalar_dtypes(), arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)
    )
    | arrays_of.arrays(
        np.dtype(object),
        arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4),
        elements=st.integers() | st.text() | st.lists(st.integers()),
    )
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.tuples(st.integers(), st.text()), inner)
        | st.sets(st.integers() | st.text())
        | st.frozensets(st.tuples(st.integers()))
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(st.integers(), inner).map(collections.OrderedDict)
        | st.dictionaries(st.text(), inner).map(lambda d: collections.defaultdict(dict, d))
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(values, st.sampled_from([3, 4, 5]))
def test_plain_data_and_arrays_are_what_pickle_makes_of_them(value: object, protocol: int) -> None:
    """In type, order, dtype, layout and every bit."""
    stream = pickle.dumps(value, protocol)
    assert described(pickle.loads(stream)) == described(load(stream))


def described(value: Any) -> Any:
    """All there is to know of a value, as something that can be compared."""
    kind = type(value)
    if isinstance(value, np.ndarray):
        flags = value.flags.writeable, value.flags.c_contiguous, value.flags.f_contiguous
        contents = described(value.tolist()) if value.dtype.hasobject else value.tobytes()
        return kind, value.dtype, value.dtype.byteorder, value.shape, flags, contents
    if isinstance(value, dict):
        factory = getattr(value, "default_factory", None)
        return kind, factory, [(described(key), described(each)) for key, each in value.items()]
    if isinstance(value, list | tuple | collections.deque):
        return kind, [described(each) for each in value]
    return kind, getattr(value, "tzinfo", None), value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_protocol_is_read(protocol: int) -> None:
    """Protocols 2 to 5 are read; text protocols were never written."""
    value = [1, -(1 << 70), True, None, 2.5, "é\n\\", {"a": (1, (), [2])}]
    assert value == load(pickle.dumps(value, protocol))


def test_what_contains_itself_is_read() -> None:
    """Lists and dicts that are their own items, and objects that are referenced twice."""
    rows: list[Any] = [1]
    rows.extend([rows, {"rows": rows}])
    found = load(pickle.dumps(rows))
    assert found is found[1] is found[2]["rows"]
    shared = [2]
    first, second = load(pickle.dumps([shared, shared]))
    assert first is second


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1, None], object),
        np.array([(1, "x")], [("a", ">i2"), ("b", "O")]),
        np.float32(1.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickles_of_numpy_1_are_read(array: Any, protocol: int) -> None:
    """Pickles of numpy 1, with its module names, are read."""
    stream = pickle.dumps(array, protocol)
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        stream = stream.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
        stream = stream.replace(b"c" + new, b"c" + old)
    stream = stream.replace(stream[2:11], b"") if stream[2:3] == b"\x95" else stream  # the frame
    found = load(stream)
    assert pickle.dumps(array) == pickle.dumps(found)


def test_deep_data_is_read() -> None:
    """A million lists, tuples and dicts in each other need no stack."""
    for stream in (b"]" * 10**6 + b"a" * (10**6 - 1), b")" + b"\x85" * 10**6):
        assert outcome(b"\x80\x04" + stream + b".") in {"list", "tuple"}
    assert "dict" == outcome(b"\x80\x04" + b"}N" * 10**6 + b"N" + b"s" * 10**6 + b".")


# ---- at random ----


def test_fuzzed_streams_do_no_harm() -> None:
    """In another process: values of allowed types at every depth or errors of the library, and nothing else."""
    command = [sys.executable, str(FUZZER), "--iterations", str(ITERATIONS), "--seed", "14"]
    done = subprocess.run(  # noqa: S603 - our own program
        command, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    assert done.stdout.startswith(f"{ITERATIONS} streams: ")
