"""Whom a reader believes: signed results alone, or results that are made of allowed types alone."""

from __future__ import annotations

import builtins
import collections
import copyreg
import datetime as dt
import decimal
import fractions
import functools
import hashlib
import importlib
import io
import operator
import os
import pathlib
import pickle
import struct
import sys
import uuid
import zoneinfo
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from functionfuse.errors import CorruptResult, OptionError, StorageError, UntrustedResult
from functionfuse.storage.file_format.file_format import frame, header_size, unframe
from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist
from functionfuse.storage.file_format.signatures import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = SigningKey("a test", b"0123456789abcdef")
ANOTHER = SigningKey("another test", b"fedcba9876543210")
SAFE = PickleAllowlist()
#: Where numpy keeps what its pickles call.
MULTIARRAY: Any = importlib.import_module("numpy._core.multiarray")
NUMERIC: Any = importlib.import_module("numpy._core.numeric")


class Calls:
    """Its pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Take function and arguments."""
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Give them."""
        return self.call


def framed(value: object, workflow: str = "w", node: str = "node", **options: Any) -> bytearray:
    """The bytes of a result file."""
    return bytearray(b"".join(frame(value, {"workflow": workflow, "node": node}, **options)))


def old_format(value: object) -> bytearray:
    """A file of the old published format."""
    return streamed(pickle.dumps(value))


def forged(data: bytearray, old: bytes, new: bytes) -> bytearray:
    """A file that somebody altered who knows the format, but not the key: all digests are right."""
    size = header_size(bytes(data))
    header, body = data[80:size], data[size:].replace(old, new)
    stream_length = int(header.split(b'"parts":[[')[1].split(b",")[0])
    before = hashlib.sha256(data[size : size + stream_length]).hexdigest().encode()
    after = hashlib.sha256(body[:stream_length]).hexdigest().encode()
    header = header.replace(old, new).replace(before, after)
    start, signature = data[:16], data[48:80]
    digest = hashlib.sha256(start + signature + header).digest()
    return start + digest + signature + header + body


# ---- signatures ----


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that is not there, and will be when a payload is unpickled."""
    return tmp_path / "trace"


def untrusted(data: bytearray, trace: Path, match: str, **options: Any) -> None:
    """Assert that a file is refused before anything in it is run."""
    names = {"workflow": "w", "node": "node"} | options
    with pytest.raises(UntrustedResult, match=match) as caught:
        unframe(data, **names)
    assert not trace.exists()
    assert not isinstance(caught.value, CorruptResult)  # nobody computes it anew without a word


def test_a_payload_would_leave_a_trace(trace: Path) -> None:
    """Without a key it is run: the tests below would notice."""
    unframe(framed(Calls(os.mkdir, str(trace)), key=KEY), "w", "node")
    assert trace.exists()


def test_a_signed_result_is_read_with_its_key() -> None:
    """And without one, like any other."""
    data = framed([1, np.arange(2_000)], key=KEY)
    for key in (KEY, None):
        one, array = unframe(data, "w", "node", key=key)
        assert (1, 2_000) == (one, len(array))


def test_an_unsigned_result_is_refused(trace: Path) -> None:
    """Who reads with a key believes nothing else."""
    untrusted(framed(Calls(os.mkdir, str(trace))), trace, "it is not signed", key=KEY)


def test_a_result_of_the_old_format_is_refused(trace: Path) -> None:
    """It bears no signature."""
    data = old_format(Calls(os.mkdir, str(trace)))
    untrusted(data, trace, "legacy format, which has no signature", key=KEY)


def test_a_result_of_another_key_is_refused(trace: Path) -> None:
    """The error says which key was used for reading."""
    data = framed(Calls(os.mkdir, str(trace)), key=ANOTHER)
    untrusted(data, trace, "not that of a test for this workflow and node", key=KEY)


@pytest.mark.parametrize(
    ("workflow", "node"),
    [("w", "other"), ("other", "node"), ("wn", "ode"), ("", "wnode"), ("node", "w")],
)
def test_a_swapped_result_is_refused(trace: Path, workflow: str, node: str) -> None:
    """A result is one of its workflow and node, whatever the file is called."""
    data = framed(Calls(os.mkdir, str(trace)), workflow, node, key=KEY)
    untrusted(data, trace, "belongs to another node", key=KEY)


@settings(deadline=None)
@given(*[st.text(max_size=5)] * 4)
def test_names_are_told_apart(workflow: str, node: str, other: str, another: str) -> None:
    """No two pairs of names share a signature."""
    same = KEY.sign(2, workflow, node, b"") == KEY.sign(2, other, another, b"")
    assert same == ((workflow, node) == (other, another))


def test_a_name_may_be_any_string() -> None:
    """Also one that is no proper text."""
    data = framed(1, "\ud800", "x" * 100_000, key=KEY)
    assert 1 == unframe(data, "\ud800", "x" * 100_000, key=KEY)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"harmless", b"dreadful"), (b'"node":"node"', b'"node":"nood"')],
    ids=["contents", "header"],
)
def test_a_forged_result_is_refused(trace: Path, old: bytes, new: bytes) -> None:
    """Whoever alters a file can make its digests right, but not its signature."""
    data = forged(framed([Calls(os.mkdir, str(trace)), "harmless"], key=KEY), old, new)
    untrusted(data, trace, "it was altered", key=KEY)


def test_a_forged_result_has_right_digests() -> None:
    """Without the key it is an intact result: it was the signature that told."""
    data = forged(framed("harmless", key=KEY), b"harmless", b"dreadful")
    assert "dreadful" == unframe(data, "w", "node")


def test_a_signature_cannot_be_taken_off_or_put_on(trace: Path) -> None:
    """A file with the signature of another one, or with none, is refused."""
    payload = framed(Calls(os.mkdir, str(trace)))
    harmless = framed("harmless", key=KEY)
    size = header_size(bytes(payload))
    payload[48:80] = harmless[48:80]
    payload[16:48] = hashlib.sha256(payload[:16] + payload[48:size]).digest()
    untrusted(payload, trace, "it was altered", key=KEY)


# ---- keys ----


def test_a_key_is_taken_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same secret is the same key wherever it is kept; a line break at its end is not in it."""
    monkeypatch.setenv("KEY_OF_TESTS", "0123456789abcdef")
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("0123456789abcdef\n", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    keys = [
        SigningKey.load(source)
        for source in ("env:KEY_OF_TESTS", "file:key", f"file:{tmp_path}/key")
    ]
    assert {KEY.sign(2, "w", "n", b"x")} == {key.sign(2, "w", "n", b"x") for key in keys}
    assert f"file:{tmp_path}/key" == keys[1].source


def test_a_key_is_never_shown_and_travels_by_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its picture nor its pickle has the secret; the other process looks it up itself."""
    monkeypatch.setenv("KEY_OF_TESTS", "0123456789abcdef")
    key = SigningKey.load("env:KEY_OF_TESTS")
    travelling = pickle.dumps(key)
    assert "SigningKey('env:KEY_OF_TESTS')" == repr(key) == str(key)
    assert b"0123456789abcdef" not in travelling
    monkeypatch.setenv("KEY_OF_TESTS", "fedcba9876543210")
    assert ANOTHER.sign(2, "w", "n", b"") == pickle.loads(travelling).sign(2, "w", "n", b"")
    monkeypatch.delenv("KEY_OF_TESTS")
    with pytest.raises(OptionError, match="'KEY_OF_TESTS' of the signing key is not set in this"):
        pickle.loads(travelling)


@pytest.mark.parametrize(
    "source",
    ["", "env:", "file:", "0123456789abcdef", "environment:X", b"env:X", None, 7],
)
def test_a_key_itself_is_refused_without_showing_it(source: Any) -> None:
    """Who gives the secret in place of its source does not find it in a log."""
    with pytest.raises(OptionError, match=r"'env:NAME' or 'file:PATH'") as caught:
        SigningKey.load(source)
    assert "0123456789abcdef" not in str(caught.value)


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    """It could be guessed; the error says how to make one, and not what it was."""
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text("fifteen bytes..\n", encoding="ascii")
    with pytest.raises(OptionError, match=r"has 15 bytes and needs at least 16: make") as caught:
        SigningKey.load(f"file:{tmp_path}/key")
    assert "fifteen" not in str(caught.value)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(OptionError, match=r"cannot be read from '.*/nothing': No such file"):
        SigningKey.load(f"file:{tmp_path}/nothing")


# ---- the safe mode: what can be read ----

moments = st.datetimes(timezones=st.none() | st.just(dt.UTC) | st.timezones())
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | moments
    | st.dates()
    | st.timedeltas()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.text("ab/.").map(pathlib.PurePosixPath)
    | st.text("ab/.").map(pathlib.Path)
    | st.sampled_from([int, list, dt.date, np.float64, ..., range(3)])
)
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
    """What cannot do harm is what it was, in either format."""
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
    """They are made anew, and the same in everything."""
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
    """The safe mode makes no copies either."""
    data = framed(np.zeros(10_000))
    result = unframe(data, "w", "node", allowed=SAFE)
    assert np.shares_memory(result, np.frombuffer(data, np.uint8))


# ---- the safe mode: what is refused ----


def built(made: object, state: object) -> bytearray:
    """A file that gives a state to something that has been made already."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 3)
    pickler.dump(made)
    first = file.getvalue()
    pickler.dump(state)
    second = file.getvalue()[len(first) + 2 :]  # without the version
    return streamed(first[:-1] + second[:-1] + pickle.BUILD + b".")


def streamed(stream: bytes) -> bytearray:
    """A file of the old format of a stream that no pickler makes."""
    return bytearray(stream + hashlib.sha1(stream, usedforsecurity=False).digest())


def payloads(trace: str) -> dict[str, object]:
    """Pickles that run something as they are read."""
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
def test_what_is_not_allowed_is_never_run(
    trace: Path, name: str, make: Callable[[object], bytearray]
) -> None:
    """Whatever a pickle calls, wherever it hides: it is named, and not called."""
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


def test_what_is_refused_is_not_even_imported(trace: Path) -> None:
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
    """What a result is made of is made, and what is there already stays as it is."""
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
    """A dtype is what its description makes it: bytes of a file can never be taken for objects."""
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
    """Fields outside their record, or over each other, are no mistakes."""
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
    """Whatever opcode makes it, also those that pickles of today do not have."""
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


def test_the_safe_mode_and_a_key_go_together(trace: Path) -> None:
    """The signature comes first."""
    data = framed([1], key=KEY)
    assert [1] == unframe(data, "w", "node", key=KEY, allowed=SAFE)
    untrusted(data, trace, "belongs to another node", key=ANOTHER, allowed=SAFE)


def test_damage_in_the_safe_mode_is_damage() -> None:
    """A changed byte is not taken for malice."""
    data = framed([1])
    data[-1] ^= 1
    with pytest.raises(CorruptResult):
        unframe(data, "w", "node", allowed=SAFE)


def test_a_stream_that_is_no_pickle_is_told() -> None:
    """Nonsense with the right digest is refused as well, in our own words."""
    for stream in (b"nonsense", b"\x80\x05.", b"\x80\x05N", b"\x80\x05\x97."):
        with pytest.raises(StorageError, match="cannot be unpickled here"):
            unframe(streamed(stream), "w", "node", allowed=SAFE)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(range(256)), max_size=40).map(bytes), st.data())
def test_nonsense_is_a_value_or_an_error_of_ours(stream: bytes, data: st.DataObject) -> None:
    """Random opcodes after good ones raise nothing that a reader does not expect."""
    good = pickle.dumps(data.draw(atoms), 3)[:-1]
    try:
        unframe(streamed(good + stream + b"."), "w", "node", allowed=SAFE)
    except StorageError:
        return


# ---- what is allowed in addition ----


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
    """By itself or by its name; with it all else that is allowed anyway."""
    data = framed([Model(np.arange(3))])
    with pytest.raises(UntrustedResult, match=r"'test_storage_trust\.Model'"):
        unframe(data, "w", "node", allowed=SAFE)
    (result,) = unframe(data, "w", "node", allowed=PickleAllowlist(types))
    assert [0, 1, 2] == list(result.weights)


def test_the_error_says_what_to_allow() -> None:
    """What it names can be given as it stands, until all is allowed."""
    data, names = framed([Model.Part(), Model(1)]), list[str]()
    for _ in range(2):
        with pytest.raises(UntrustedResult) as caught:
            unframe(data, "w", "node", allowed=PickleAllowlist(names))
        names.append(str(caught.value).partition("allowed_types=['")[2].partition("']")[0])
    assert ["test_storage_trust.Model.Part", "test_storage_trust.Model"] == names
    unframe(data, "w", "node", allowed=PickleAllowlist(names))


def test_allowing_a_type_allows_nothing_else(trace: Path) -> None:
    """Neither what it holds nor its module."""
    data = framed(Model(Calls(os.mkdir, str(trace))))
    untrusted(data, trace, r"it needs 'posix\.mkdir'", allowed=PickleAllowlist([Model]))
    data = framed(Model.Part())
    untrusted(data, trace, "Model.Part'", allowed=PickleAllowlist([Model]))


def test_what_is_allowed_travels() -> None:
    """As the types and names that it was made of."""
    allowed = pickle.loads(pickle.dumps(PickleAllowlist([Model, "a.B"])))
    assert (Model, "a.B") == allowed.types
    assert "PickleAllowlist([<class 'test_storage_trust.Model'>, 'a.B'])" == repr(allowed)


@pytest.mark.parametrize("wrong", ["Name", "a b.c", "a..b", "", ".a", 7, None, Model(1)])
def test_what_is_no_type_cannot_be_allowed(wrong: Any) -> None:
    """The error says what is expected."""
    with pytest.raises(OptionError, match=r"allowed_types contains .*: give a type, or its name"):
        PickleAllowlist([wrong])


def test_numbers_that_are_decimals_or_fractions_stay_exact() -> None:
    """Plain data is not approximated."""
    value = [decimal.Decimal("0.1"), fractions.Fraction(1, 3), zoneinfo.ZoneInfo("UTC")]
    assert value == unframe(framed(value), "w", "node", allowed=SAFE)
