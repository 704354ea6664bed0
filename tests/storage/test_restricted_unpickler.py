"""The restricted unpickler: what it reads is what `pickle` reads, and no stream gets more out of it."""

from __future__ import annotations

import collections
import enum
import hashlib
import pickle
import struct
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from functionfuse.errors import StorageError, UntrustedResult
from functionfuse.storage.file_format.file_format import unframe
from functionfuse.storage.file_format.legacy_format import legacy_references
from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist
from functionfuse.testing.child_processes import call_in_process

FUZZER = Path(__file__).with_name("fuzz_restricted_unpickler.py")
#: Of the fuzzer in this test; 100,000 take 10 seconds.
ITERATIONS = 100_000


def file_of(stream: bytes) -> bytearray:
    """A file of the old format."""
    return bytearray(stream + hashlib.sha1(stream, usedforsecurity=False).digest())


def load(stream: bytes, *allowed: type | str) -> Any:
    """What a reader gets who allows some types."""
    return unframe(file_of(stream), "w", "n", allowed=PickleAllowlist(allowed))


def outcome(stream: bytes) -> str:
    """What becomes of a stream, told without passing the value on."""
    try:
        value = load(stream)
    except StorageError as error:
        return f"{type(error).__name__}: {error}"
    return type(value).__name__


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
    """Those that are text were never written."""
    value = [1, -(1 << 70), True, None, 2.5, "é\n\\", {"a": (1, (), [2])}]
    assert value == load(pickle.dumps(value, protocol))


def test_what_contains_itself_is_read() -> None:
    """Lists and dicts that are their own items, and objects that are in two places."""
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
    """It had other names for its modules."""
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


# ---- what a stream cannot do ----


def text(value: str) -> bytes:
    """A text in a pickle."""
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    """A name in a pickle."""
    return text(module) + text(name) + pickle.STACK_GLOBAL


RECONSTRUCT = named("numpy._core.multiarray", "_reconstruct")
FROM_BUFFER = named("numpy._core.numeric", "_frombuffer")
MINUS = b"J\xff\xff\xff\xff"
HUGE = b"\x8a\x05" + (10**11).to_bytes(5, "little")
MEMO = pickle.MEMOIZE


def dtype(kind: str, state: bytes = b"NNN" + 2 * MINUS + b"K\x00", order: str = "|") -> bytes:
    """A dtype in a pickle."""
    return (
        named("numpy", "dtype") + text(kind) + b"\x89\x88\x87R(K\x03" + text(order) + state + b"tb"
    )


def array(shape: bytes, of: bytes, contents: bytes) -> bytes:
    """An array in a pickle."""
    return unfilled() + b"(K\x01" + shape + of + b"\x89" + contents + b"tb"


def unfilled() -> bytes:
    """An array in a pickle before it gets its contents."""
    return RECONSTRUCT + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"


def memoized(*values: bytes) -> bytes:
    """Values in the memo, and nothing on the stack."""
    return b"".join(value + MEMO + b"0" for value in values)


def record_of(field: bytes) -> bytes:
    """A dtype with two fields in the same place."""
    names = text("a") + text("b")
    fields = b"}(" + text("a") + field + b"K\x00\x86" + text("b") + field + b"K\x00\x86u"
    return dtype("V1", b"N" + names + b"\x86" + fields + b"K\x01K\x01K\x00")


DAG = b")" + MEMO + b"".join(b"h%ch%c\x86" % (i, i) + MEMO for i in range(60))
DEQUE = named("collections", "deque") + b")R"
DEFAULT = named("collections", "defaultdict") + b")R"
BYTES = b"B" + struct.pack("<I", 10**6) + bytes(10**6)
NUMBER = b"\x8b" + struct.pack("<I", 10**6) + b"\x05" * 10**6
DEEP = 50_000
ATTACKS: dict[str, tuple[bytes, str]] = {
    # names
    "a dot in a name": (named("numpy._core", "numeric._frombuffer") + b".", "not among"),
    "a dot in another name": (named("numpy", "_core.multiarray.scalar") + b".", "not among"),
    "a name without a module": (named("", "builtins.list") + b".", "not among"),
    "a function in the result": (RECONSTRUCT + b".", "contains a function"),
    "a function in a list": (b"]" + RECONSTRUCT + b"a.", "contains a function"),
    "a method of a class": (
        named("builtins", "getattr") + named("builtins", "str") + text("format") + b"\x86R.",
        "'builtins.getattr'",
    ),
    # arrays
    "a list shorter than its array": (
        array(b"M\xe8\x03\x85", dtype("O8"), b"]Na") + b".",
        "another way",
    ),
    "a list longer than its array": (
        array(b"K\x01\x85", dtype("O8"), b"](NNe") + b".",
        "another way",
    ),
    "bytes for objects": (array(b"K\x01\x85", dtype("O8"), b"C\x08AAAAAAAA") + b".", "another way"),
    "fewer bytes than numbers": (
        array(HUGE + b"\x85", dtype("f8"), b"C\x08AAAAAAAA") + b".",
        "another way",
    ),
    "a negative shape": (
        array(MINUS + MINUS + b"\x86", dtype("i1"), b"C\x01A") + b".",
        "another way",
    ),
    "a shape that overflows": (
        array(b"(" + HUGE * 3 + b"K\x00t", dtype("f8"), b"C\x00") + b".",
        "another way",
    ),
    "items of no size": (
        array(HUGE + b"\x85", dtype("S0", b"NNNK\x00K\x01K\x00"), b"C\x00") + b".",
        "again and again",
    ),
    "numbers over objects": (
        FROM_BUFFER
        + b"("
        + array(b"K\x01\x85", dtype("O8"), b"]Na")
        + dtype("i8", order="<")
        + b"K\x01\x85"
        + text("C")
        + b"tR.",
        "another way",
    ),
    "an array that is filled twice": (
        array(b"K\x01\x85", dtype("i1"), b"C\x01A")
        + b"(K\x01K\x01\x85"
        + dtype("i1")
        + b"\x89C\x01Atb.",
        "finished",
    ),
    "an array of a dtype without a state": (
        unfilled()
        + b"(K\x01K\x01\x85"
        + named("numpy", "dtype")
        + text("V8")
        + b"\x89\x88\x87R\x89C\x08AAAAAAAAtb.",
        "another way",
    ),
    "a dtype in the memo before its state": (
        named("numpy", "dtype") + text("V8") + b"\x89\x88\x87R" + MEMO + b"h\x00\x86.",
        "before that has a state",
    ),
    "a dtype without a state": (
        named("numpy", "dtype") + text("V8") + b"\x89\x88\x87R.",
        "no state",
    ),
    "dtypes of dtypes of dtypes": (
        memoized(dtype("i1"), *(record_of(b"h%c" % number) for number in range(60))) + b"N.",
        "'numpy.dtype' in another way",
    ),
    "a scalar of another type in a record": (
        array(
            b"K\x01\x85",
            dtype(
                "V9",
                b"N"
                + text("a")
                + text("b")
                + b"\x86}("
                + text("a")
                + dtype("i1")
                + b"K\x00\x86"
                + text("b")
                + dtype("O8")
                + b"K\x01\x86u"
                + b"K\x09K\x01K\x3f",
            ),
            b"]"
            + named("numpy._core.multiarray", "scalar")
            + dtype("f8", order="<")
            + b"C\x08AAAAAAAA\x86RN\x86a",
        )
        + b".",
        "another way",
    ),
    # what exists outside
    "a member of an enumeration": (
        named("uuid", "SafeUUID") + b"K\x00\x85R}" + text("value") + b"K\x07sb.",
        "would change",
    ),
    "a hidden method": (
        named("collections", "OrderedDict") + b")R}" + text("items") + b"Nsb.",
        "another way",
    ),
    "a time zone that is a path": (
        named("builtins", "getattr")
        + named("zoneinfo", "ZoneInfo")
        + text("_unpickle")
        + b"\x86R"
        + text("../../../etc/passwd")
        + b"K\x01\x86R.",
        "another way",
    ),
    # time and memory
    "keys that never end": (DAG + b"}h\x3cNs.", "again and again"),
    "a set that never ends": (DAG + b"\x8f(h\x3c\x90.", "again and again"),
    "deep keys": (b"}" + b")" + b"\x85" * DEEP + b"Ns.", "levels deep"),
    "deep deques": (DEQUE * DEEP + b"a" * (DEEP - 1) + b".", "levels deep"),
    "deques that deepen downwards": (
        DEQUE + MEMO + b"".join(DEQUE + MEMO + b"a0h%c" % (i + 1) for i in range(200)) + b".",
        "levels deep",
    ),
    "deep defaults": ((DEFAULT + b"N") * DEEP + b"N" + b"s" * DEEP + b".", "levels deep"),
    "deep arrays": (
        (unfilled() + b"(K\x01K\x01\x85" + dtype("O8") + b"\x89]") * 10_000
        + b"N"
        + b"atb" * 10_000
        + b".",
        "levels deep",
    ),
    "a bytearray of a number": (named("builtins", "bytearray") + HUGE + b"\x85R.", "another way"),
    "copies of copies": (
        memoized(named("builtins", "bytearray"), BYTES + b"\x85")
        + b"("
        + b"h\x00h\x01R" * 10_000
        + b"t.",
        "again and again",
    ),
    "a fraction of a billion digits": (
        named("fractions", "Fraction") + text("1e999999999") + b"\x85R.",
        "another way",
    ),
    "a fraction that takes hours": (
        named("fractions", "Fraction") + NUMBER + NUMBER + b"\x86R.",
        "again and again",
    ),
    "a date that there is not": (
        named("datetime", "date") + b"C\x04\x07\xe4\x01\xff\x85R.",
        "another way",
    ),
    # malformed
    "a number longer than the stream": (b"\x8b\xff\xff\xff\x7fAA.", "announced"),
    "bytes longer than the stream": (b"\x96" + struct.pack("<Q", 10**12) + b".", "announced"),
    "a frame longer than the stream": (b"\x95" + b"\xff" * 8 + b"N.", "frame"),
    "a value that is not in the memo": (b"h\x07.", "not in the memo"),
    "two values": (b"NN.", "does not produce exactly one value"),
    "an open mark": (b"(N.", "does not produce exactly one value"),
    "an empty stack": (b"0.", "byte"),
    "nothing": (b"", "byte"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_stream_crashes_or_escapes(name: str) -> None:
    """Whatever it does, the reader gets an error of ours; in a process of its own, which survives."""
    stream, expected = ATTACKS[name]
    told = call_in_process(outcome, b"\x80\x04" + stream)
    assert told.startswith(("UntrustedResult", "StorageError"))
    assert expected in told


def test_nothing_outside_was_changed() -> None:
    """In this process the enumeration is what it was, whatever a stream says."""
    for state in (b"}" + text("_value_") + b"K\x07s", b"}" + text("value") + b"K\x07s"):
        outcome(b"\x80\x04" + named("uuid", "SafeUUID") + b"K\x00\x85R" + state + b"b.")
    assert 0 == uuid.SafeUUID.safe.value


def test_a_place_in_the_memo_takes_no_memory() -> None:
    """C unpicklers make room for all places before it."""
    assert "NoneType" == outcome(b"Nr\xff\xff\xff\x7f.")


def test_looking_for_references_runs_and_takes_nothing() -> None:
    """What an old file refers to is found by the same interpreter; what never ends is given up."""
    reference = text("serializer") + b"(" + text("1") + text("name") + b"t\x86Q"
    found = {"serializer": ["('1', 'name')"]}
    evil = named("os", "system") + text("exit 1") + b"\x85R0"
    for rest in (b"", evil, b"N" + b"r\xff\xff\xff\x7f0", b"}" + DAG + b"h\x3cNs"):
        assert found == legacy_references(file_of(b"\x80\x04" + reference + b"0" + rest + b"N."))
    assert {} == legacy_references(file_of(b"\x80\x04" + text("x") + DAG + b"h\x3c\x86Q."))


# ---- types of the reader's ----


@dataclass
class Plain:
    """A dataclass."""

    value: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    """A dataclass that has a state of its own."""

    first: int
    second: Any


class Pair(NamedTuple):
    """A tuple with names."""

    first: Any
    second: Any


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


class Flags(enum.IntFlag):
    """Flags."""

    A = 1
    B = 2


class Slotted:
    """An object without a dict."""

    __slots__ = ("__dict__", "left")
    left: int

    def __eq__(self, other: object) -> bool:
        """Compare the attributes."""
        return isinstance(other, Slotted) and (self.left, vars(self)) == (other.left, vars(other))

    __hash__ = None  # type: ignore[assignment]


class Stateful:
    """An object that says itself what its state is."""

    def __init__(self, *, number: int) -> None:
        """Take a number."""
        self.number = number

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        """Be made with a keyword."""
        return (), {"number": self.number}

    def __new__(cls, *, number: int) -> Self:
        """Be made with a keyword."""
        return super().__new__(cls)

    def __getstate__(self) -> list[int]:
        """Give the number in a list."""
        return [self.number]

    def __setstate__(self, state: list[int]) -> None:
        """Take it."""
        (self.number,) = state

    def __eq__(self, other: object) -> bool:
        """Compare the numbers."""
        return isinstance(other, Stateful) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]


class Names(dict[str, Any]):
    """A dict of another class."""


class Rows(list[Any]):
    """A list of another class."""


class Numbers(set[int]):
    """A set of another class."""


class Text(str):  # noqa: SLOT000 - it has attributes
    """A text with attributes."""


class Table(np.ndarray[Any, Any]):
    """An array of another class, which has an attribute."""

    unit: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Add the attribute to the state."""
        reduced: Any = super().__reduce__()
        function, arguments, state = reduced
        return function, arguments, (*state, self.unit)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the attribute from the state."""
        self.unit = state[-1]
        super().__setstate__(state[:-1])


def slotted() -> Slotted:
    """An object with an attribute of either kind."""
    made = Slotted()
    made.left, made.right = 1, [2]  # type: ignore[attr-defined]
    return made


def titled() -> Text:
    """A text with an attribute."""
    made = Text("text")
    vars(made)["unit"] = "mm"
    return made


OWN: dict[str, tuple[Any, list[type | str]]] = {
    "dataclass": (Plain([1, Plain(2)]), [Plain]),
    "frozen dataclass with slots": (Frozen(1, [2]), [Frozen]),
    "named tuple": (Pair(1, Pair(2, 3)), [Pair]),
    "enumeration": ([Colour.RED, Colour.RED], [Colour]),
    "flags": (Flags.A | Flags.B, [Flags]),
    "slots": (slotted(), [Slotted]),
    "state and keywords": (Stateful(number=7), [Stateful]),
    "dict": (Names(a=[1]), [Names]),
    "list": (Rows([1, Rows()]), [Rows]),
    "set": (Numbers([1, 2]), [Numbers]),
    "text": (titled(), [Text]),
    "class itself": ([Plain, Colour], [Plain, Colour]),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("protocol", [4, 5])
def test_types_of_the_readers_are_made_as_pickle_makes_them(name: str, protocol: int) -> None:
    """By type and by name, with all their attributes; without being allowed, not at all."""
    value, types = OWN[name]
    stream = pickle.dumps(value, protocol)
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in types if isinstance(kind, type)]
    for allowed in (types, names):
        found = load(stream, *allowed)
        assert value == found
        assert type(value) is type(found)
        assert getattr(value, "__dict__", None) == getattr(found, "__dict__", None)
    with pytest.raises(UntrustedResult, match="not among the allowed types"):
        load(stream)


def test_an_array_of_a_class_of_the_readers_is_checked_like_others() -> None:
    """Its own state comes behind that of the array, which has to fit."""
    table = np.arange(3).view(Table)
    table.unit = "mm"
    found = load(pickle.dumps(table, 4), Table)
    assert ("mm", [0, 1, 2], Table) == (found.unit, found.tolist(), type(found))
    short = RECONSTRUCT + named(__name__, "Table") + b"K\x00\x85C\x01b\x87R"
    short += b"(K\x01M\xe8\x03\x85" + dtype("O8") + b"\x89]NaNtb."
    with pytest.raises(UntrustedResult, match="another way"):
        load(b"\x80\x04" + short, Table)


def test_records_of_numpy_can_be_allowed() -> None:
    """A type that is not the usual one for its dtype is one of the reader's."""
    records = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    found = load(pickle.dumps(records, 4), "numpy.rec.recarray", "numpy.record")
    assert (1, 2.0) == (found.a[0], found[0].b)


@pytest.mark.parametrize("name", ["recarray", "ndarray", "dtype", "void"])
def test_allowing_a_class_of_arrays_does_not_allow_to_call_it(name: str) -> None:
    """It would take bytes for pointers; its pickles do not call it."""
    stream = b"\x80\x04" + named("numpy", name) + b"K\x01\x85R."
    with pytest.raises(UntrustedResult, match="another way"):
        load(stream, f"numpy.{name}")


@pytest.mark.parametrize(
    ("module", "name"),
    [("numpy", "_core.numeric._frombuffer"), ("numpy._core", "numeric._frombuffer")],
)
def test_a_name_that_is_allowed_does_not_lead_through_modules(module: str, name: str) -> None:
    """An attribute of a module may be any other module."""
    with pytest.raises(UntrustedResult, match="not among the allowed types"):
        load(b"\x80\x04" + named(module, name) + b".", "numpy._core.numeric._frombuffer")


def test_members_and_classes_of_the_readers_stay_as_they_are() -> None:
    """A type that is allowed makes objects; neither it nor its members can be changed."""
    state = b"}" + text("_value_") + b"K\x07sb."
    for made in (named(__name__, "Colour") + text("red") + b"\x85R", named(__name__, "Plain")):
        with pytest.raises(UntrustedResult, match="would change"):
            load(b"\x80\x04" + made + state, Colour, Plain)
    assert "red" == Colour.RED.value


def test_slots_are_all_that_a_state_sets() -> None:
    """A state cannot make an object one of another class."""
    state = b"N}" + text("__class__") + named(__name__, "Plain") + b"s\x86b."
    stream = b"\x80\x04" + named(__name__, "Slotted") + b")\x81" + state
    with pytest.raises(UntrustedResult, match="another way"):
        load(stream, Slotted, Plain)


# ---- at random ----


def test_fuzzed_streams_do_no_harm() -> None:
    """In another process: values of allowed types at every depth or errors of ours, and nothing else."""
    command = [sys.executable, str(FUZZER), "--iterations", str(ITERATIONS), "--seed", "14"]
    done = subprocess.run(  # noqa: S603 - our own program
        command, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    assert done.stdout.startswith(f"{ITERATIONS} streams: ")
