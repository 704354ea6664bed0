"""The restricted unpickler refuses streams that crash, escape or exhaust memory."""

from __future__ import annotations

import struct
import uuid

import pytest
from unpickler_helpers import (
    FROM_BUFFER,
    HUGE,
    MEMO,
    MINUS,
    RECONSTRUCT,
    dtype,
    file_of,
    named,
    outcome,
    text,
)

from functionfuse.storage.file_format.legacy_format import legacy_references
from functionfuse.testing.child_processes import call_in_process


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
    """A dtype with two fields at the same offset."""
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
        "too often for a genuine result",
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
        "that is complete",
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
        "before its state is set",
    ),
    "a dtype without a state": (
        named("numpy", "dtype") + text("V8") + b"\x89\x88\x87R.",
        "without a state",
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
    "keys that never end": (DAG + b"}h\x3cNs.", "too often for a genuine result"),
    "a set that never ends": (DAG + b"\x8f(h\x3c\x90.", "too often for a genuine result"),
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
        "too often for a genuine result",
    ),
    "a fraction of a billion digits": (
        named("fractions", "Fraction") + text("1e999999999") + b"\x85R.",
        "another way",
    ),
    "a fraction that takes hours": (
        named("fractions", "Fraction") + NUMBER + NUMBER + b"\x86R.",
        "too often for a genuine result",
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
    """For any stream, the reader gets an error of the library, in a separate process that survives."""
    stream, expected = ATTACKS[name]
    told = call_in_process(outcome, b"\x80\x04" + stream)
    assert told.startswith(("UntrustedResult", "StorageError"))
    assert expected in told


def test_nothing_outside_was_changed() -> None:
    """The enumeration of this process is unchanged, whatever a stream contains."""
    for state in (b"}" + text("_value_") + b"K\x07s", b"}" + text("value") + b"K\x07s"):
        outcome(b"\x80\x04" + named("uuid", "SafeUUID") + b"K\x00\x85R" + state + b"b.")
    assert 0 == uuid.SafeUUID.safe.value


def test_an_index_of_the_memo_takes_no_memory() -> None:
    """C unpicklers allocate all indexes before it."""
    assert "NoneType" == outcome(b"Nr\xff\xff\xff\x7f.")


def test_looking_for_references_runs_and_takes_nothing() -> None:
    """References of an old file are found by the same interpreter; an endless stream is given up."""
    reference = text("serializer") + b"(" + text("1") + text("name") + b"t\x86Q"
    found = {"serializer": ["('1', 'name')"]}
    evil = named("os", "system") + text("exit 1") + b"\x85R0"
    for rest in (b"", evil, b"N" + b"r\xff\xff\xff\x7f0", b"}" + DAG + b"h\x3cNs"):
        assert found == legacy_references(file_of(b"\x80\x04" + reference + b"0" + rest + b"N."))
    assert {} == legacy_references(file_of(b"\x80\x04" + text("x") + DAG + b"h\x3c\x86Q."))
