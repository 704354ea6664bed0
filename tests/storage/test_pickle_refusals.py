"""PickleAllowlist: everything else is refused, and nothing is imported, called or changed."""

from __future__ import annotations

import builtins
import collections
import copyreg
import functools
import io
import operator
import os
import pathlib
import pickle
import struct
import sys
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trust_helpers import (
    ANOTHER,
    KEY,
    MULTIARRAY,
    NUMERIC,
    SAFE,
    Calls,
    atoms,
    framed,
    old_format,
    streamed,
    untrusted,
)

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.file_format import unframe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def built(made: object, state: object) -> bytearray:
    """A file that gives a state to something that has been made already."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 3)
    pickler.dump(made)
    first = file.getvalue()
    pickler.dump(state)
    second = file.getvalue()[len(first) + 2 :]  # without the version
    return streamed(first[:-1] + second[:-1] + pickle.BUILD + b".")


def payloads(trace: str) -> dict[str, object]:
    """Pickles that run something when they are unpickled."""
    leave = Calls(os.mkdir, trace)
    return {
        "mkdir": leave,
        "os.system": Calls(os.system, f"touch {trace}"),
        "eval": Calls(builtins.eval, f"__import__('os').mkdir({trace!r})"),
        "exec": Calls(builtins.exec, f"__import__('os').mkdir({trace!r})"),
        "getattr": Calls(getattr, zoneinfo.ZoneInfo, "clear_cache"),
        "attribute getter": Calls(operator.attrgetter, "system"),
        "method caller": Calls(operator.methodcaller, "system", f"touch {trace}"),
        "partial": functools.partial(os.mkdir, trace),
        "import": Calls(builtins.__import__, "antigravity"),
        "type": Calls(type, "Name", (object,), {}),
        "map": Calls(map, os.mkdir, [trace]),
        "in a list": [1, [leave]],
        "as a key": {leave: 1},
        "in a named container": collections.OrderedDict(a=collections.deque([leave])),
        "as a default": collections.defaultdict(leave.__reduce__),
        "in an array": np.array([1, leave], dtype=object),
        "in an array in an array": np.array([np.array([leave], dtype=object), 0], dtype=object),
        "in a record": np.array([(1, leave)], dtype=[("a", int), ("b", object)]),
        "lambda": lambda: os.mkdir(trace),
        "function": payloads,
        "bound method": leave.__reduce__,
        "module": os,
        "class": Calls,
        "generator of numbers": np.random.default_rng(1),
        "exception": ValueError(leave),
        "rebuilds": Calls(copyreg._reconstructor, Calls, object, None),  # type: ignore[attr-defined]
        "pickle": Calls(pickle.loads, pickle.dumps(leave)),
        "numpy from a file": Calls(np.load, trace),
    }


@pytest.mark.parametrize("name", payloads("trace"))
@pytest.mark.parametrize("make", [framed, old_format], ids=["format", "old format"])
def test_types_that_are_not_allowed_never_run(
    trace: Path, name: str, make: Callable[[object], bytearray]
) -> None:
    """Any call in a pickle, at any place, is named in the error, and not made."""
    payload = payloads(str(trace))[name]
    if make is old_format and name in {"lambda", "module"}:
        data = streamed(cloudpickle.dumps(payload))
    else:
        data = make(payload)
    untrusted(data, trace, r"not among the allowed types.*allowed_types=\['", allowed=SAFE)


def short(text: str) -> bytes:
    """A text in a pickle."""
    return pickle.SHORT_BINUNICODE + struct.pack("<B", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "f2py.os.system"),
        ("numpy", "ndarray.__reduce__"),
        ("builtins", "list.append"),
        ("datetime", "sys.exit"),
        ("pathlib", "os.system"),
        ("collections", "_sys.exit"),
        ("uuid", "os.system"),
        ("os", "system"),
        ("posix", "system"),
        ("", "os.system"),
        ("__builtin__", "eval"),
        ("numpy", ""),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_name_within_an_allowed_module_is_refused(
    trace: Path, module: str, name: str, protocol: int
) -> None:
    """Not modules are allowed, but exact names; by either way of naming things."""
    if protocol == 4:
        named = b"\x80\x04" + short(module) + short(name) + pickle.STACK_GLOBAL
    else:
        version = b"\x80\x02" if protocol else b""
        named = version + pickle.GLOBAL + f"{module}\n{name}\n".encode()
    untrusted(streamed(named + b"."), trace, "not among the allowed types", allowed=SAFE)


def test_refused_modules_are_not_imported(trace: Path) -> None:
    """Importing a module runs it."""
    sys.modules.pop("this", None)
    stream = b"\x80\x04" + short("this") + short("s") + pickle.STACK_GLOBAL + b"."
    untrusted(streamed(stream), trace, "'this.s', which is not among", allowed=SAFE)
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (uuid.UUID, (None, {"hex": 1})),
        (collections.OrderedDict, {"x": 1}),
        (pathlib.PurePath, (None, {"__str__": str})),
        (NUMERIC._frombuffer, (None, {"__defaults__": (1,)})),
    ],
    ids=["class", "class with dict", "path", "function"],
)
def test_classes_and_functions_cannot_be_changed(trace: Path, made: object, state: object) -> None:
    """A pickle constructs new objects only; existing ones stay unchanged."""
    untrusted(built(made, state), trace, "that it did not create", allowed=SAFE)
    assert isinstance(uuid.UUID.hex, property)


def test_extensions_of_pickle_are_refused(trace: Path) -> None:
    """A name that was looked up before is not looked up again, so it could not be refused."""
    copyreg.add_extension("os", "system", 77)
    try:
        pickle.loads(b"\x80\x02\x82\x4d.")  # from now on it is known
        untrusted(
            streamed(b"\x80\x02\x82\x4d."),
            trace,
            "the opcode .*which FunctionFuse does not write",
            allowed=SAFE,
        )
    finally:
        copyreg.remove_extension("os", "system", 77)
        copyreg.clear_extension_cache()


#: As numpy pickles a dtype: a new one, not the one that all share.
COPY = (False, True)


def test_an_array_does_not_believe_what_a_pickle_says_about_pointers() -> None:
    """A dtype is made from its description alone: bytes of a file are never interpreted as objects."""
    real = np.dtype([("a", "O")])
    state = (3, "|", None, ("a",), {"a": (real["a"], 0)}, 8, 1, 0)  # 0: it holds no objects
    data = built(Calls(np.dtype, "V8", *COPY), state)
    assert not unframe(data, "w", "node").hasobject  # Python's own unpickler believes it
    made = unframe(data, "w", "node", allowed=SAFE)
    assert (True, real) == (made.hasobject, made)


@pytest.mark.parametrize(
    "state",
    [
        (3, "|", None, ("a",), {"a": (np.dtype("f8"), 1)}, 8, 1, 0),
        (3, "|", None, ("a", "b"), {"a": (np.dtype("f8"), 0)}, 16, 1, 0),
        (3, "|", None, ("a", "b"), dict.fromkeys("ab", (np.dtype("O"), 0)), 8, 1, 0),
        (3, "|", None, ("a",), {"a": (np.dtype("f8"), -8)}, 8, 1, 0),
        (3, "|", None, ("a",), [1], 8, 1, 0),
        (3, "?", None, None, None, 8, 1, 0),
        (3,),
        None,
        7,
    ],
    ids=str,
)
def test_a_dtype_that_there_cannot_be_is_refused(trace: Path, state: object) -> None:
    """Fields outside their record, or over each other, are not mistakes."""
    data = built(Calls(np.dtype, "V8", *COPY), state)
    untrusted(data, trace, "'numpy.dtype' in another way", allowed=SAFE)


SIDECARS = np.array([None, None], dtype=object)
RECORD = np.dtype([("a", "O")])
UNUSUAL: dict[str, Any] = {
    "objects in given bytes": Calls(np.ndarray, (2,), np.dtype("O"), b"16 bytes of mine"),
    "numbers over objects": Calls(NUMERIC._frombuffer, SIDECARS, np.dtype("u8"), (2,), "C"),
    "objects over numbers": Calls(
        NUMERIC._frombuffer,
        bytearray(16),
        RECORD,
        (2,),
        "C",
    ),
    "a record of numbers": Calls(MULTIARRAY.scalar, RECORD, np.array(7)),
    "a short scalar": Calls(MULTIARRAY.scalar, np.dtype("f8"), b"short"),
    "a scalar of no dtype": Calls(MULTIARRAY.scalar, "f8", bytes(8)),
    "an array that is not empty": Calls(MULTIARRAY._reconstruct, np.ndarray, (9,), b"b"),
    "an array of objects": Calls(MULTIARRAY._reconstruct, np.ndarray, (0,), "O"),
    "an array of no array": Calls(MULTIARRAY._reconstruct, list, (0,), b"b"),
    "a dtype of a pair": Calls(np.dtype, (np.void, "O"), *COPY),
    "the dtype that all share": Calls(np.dtype, "f8"),
    "a scalar's type": Calls(np.void, 8),
}


@pytest.mark.parametrize("payload", UNUSUAL.values(), ids=UNUSUAL)
def test_numpy_is_called_as_its_own_pickles_call_it(trace: Path, payload: object) -> None:
    """Any other way could make pointers of numbers, and so run whatever the file holds."""
    untrusted(old_format(payload), trace, "in another way than genuine", allowed=SAFE)


NDARRAY = b"\x80\x02cnumpy\nndarray\nK\x02\x85"  # the class, and a shape


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (NDARRAY + b"R.", "'numpy.ndarray' in another way"),
        (NDARRAY + b"\x81.", "'numpy.ndarray' in another way"),
        (NDARRAY + b"}\x92.", "'numpy.ndarray' in another way"),
        (b"(I2\nidatetime\ndate\n.", "the opcode"),
        (b"\x80\x02(cdatetime\ndate\nK\x01o.", "the opcode"),
    ],
    ids=["by a call", "by its class", "with keywords", "by name", "by an old class"],
)
def test_no_way_to_make_an_object_is_unguarded(trace: Path, stream: bytes, message: str) -> None:
    """Every opcode that creates objects is guarded, also those that current pickles do not have."""
    untrusted(streamed(stream), trace, message, allowed=SAFE)


def test_an_array_is_filled_once(trace: Path) -> None:
    """Filling it again would free memory that another array may share."""
    data = built(np.arange(3), np.arange(4).__reduce__()[2])
    untrusted(data, trace, "did not create, or that is complete", allowed=SAFE)


def test_what_a_serializer_kept_needs_one(trace: Path) -> None:
    """Objects that are kept elsewhere come from the reader's own serializers."""
    data = framed([Calls], persistent_id=lambda obj: "pid" if obj is Calls else None)
    loaded = unframe(data, "w", "node", allowed=SAFE, loader=lambda _: lambda pid: [pid])
    assert [["pid"]] == loaded
    untrusted(data, trace, "needs a serializer", allowed=SAFE)


def test_the_safe_mode_and_a_key_combine(trace: Path) -> None:
    """The signature comes first."""
    data = framed([1], key=KEY)
    assert [1] == unframe(data, "w", "node", key=KEY, allowed=SAFE)
    untrusted(data, trace, "belongs to another node", key=ANOTHER, allowed=SAFE)


def test_damage_in_the_safe_mode_is_damage() -> None:
    """A changed byte is reported as damage, not as an untrusted pickle."""
    data = framed([1])
    data[-1] ^= 1
    with pytest.raises(CorruptResult):
        unframe(data, "w", "node", allowed=SAFE)


def test_an_invalid_pickle_is_reported() -> None:
    """Nonsense with the right digest is refused as well, in our own words."""
    for stream in (b"nonsense", b"\x80\x05.", b"\x80\x05N", b"\x80\x05\x97."):
        with pytest.raises(StorageError, match="cannot be unpickled here"):
            unframe(streamed(stream), "w", "node", allowed=SAFE)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(range(256)), max_size=40).map(bytes), st.data())
def test_random_streams_give_a_value_or_an_error_of_the_library(
    stream: bytes, data: st.DataObject
) -> None:
    """Random opcodes after good ones raise nothing that a reader does not expect."""
    good = pickle.dumps(data.draw(atoms), 3)[:-1]
    try:
        unframe(streamed(good + stream + b"."), "w", "node", allowed=SAFE)
    except StorageError:
        return
