"""The format of result files: what was written comes back, and nothing else does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import pickle
import struct
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.file_format import (
    DEFERRED,
    PREFIX_SIZE,
    file_size,
    frame,
    header_of,
    header_size,
    is_signed,
    unframe,
)
from functionfuse.storage.file_format.signatures import SigningKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ABOUT = {"workflow": "w", "node": "node"}
KEY = SigningKey("a test", b"0123456789abcdef")
SMALL = {"rows": [1, "two", None], "array": np.arange(3)}
#: Two buffers, the first with padding behind it.
WITH_BUFFERS = [np.arange(513), np.zeros(1024)]


def framed(value: object, **options: Any) -> bytearray:
    """The bytes of a result file."""
    return bytearray(b"".join(frame(value, ABOUT, **options)))


def read(data: bytearray | memoryview | mmap.mmap, **options: Any) -> Any:
    """The value in the bytes of a result file."""
    return unframe(data, "w", "node", **options)


def corrupt(data: bytearray, **options: Any) -> None:
    """Assert that bytes are not believed."""
    with pytest.raises(CorruptResult):
        read(data, **options)


def resigned(data: bytearray, header: dict[str, Any]) -> bytearray:
    """A file with another header and the right digest of it, as somebody could make it on purpose."""
    written = json.dumps(header).encode()
    start = struct.pack("<8sII", data[:8], 2, len(written))
    digest = hashlib.sha256(start + bytes(32) + written).digest()
    return bytearray(start + digest + bytes(32) + written) + data[header_size(bytes(data)) :]


# ---- there and back ----

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=9_000)
    | st.binary(max_size=9_000).map(bytearray),
    lambda children: (
        st.lists(children) | st.dictionaries(st.text(), children) | st.tuples(children, children)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(plain, st.booleans())
def test_what_is_framed_comes_back(value: object, signed: bool) -> None:  # noqa: FBT001
    """Any plain value, signed or not, is what it was, and of the same types."""
    key = KEY if signed else None
    data = framed(value, key=key)
    assert repr(value) == repr(read(data, key=key))
    assert signed == is_signed(bytes(data))


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_arrays_of_any_type_come_back(data: st.DataObject) -> None:
    """Every dtype and shape, in the stream or outside it, bit by bit, and to be worked on in place."""
    dtype = data.draw(arrays_of.scalar_dtypes() | arrays_of.array_dtypes(allow_subarrays=False))
    shape = data.draw(arrays_of.array_shapes(min_side=0, max_side=60))
    count = math.prod(shape)
    content = bytes(range(256)) * (dtype.itemsize * count // 256 + 1)
    array = np.frombuffer(content, dtype, count).reshape(shape)
    order: Any = data.draw(st.sampled_from("CF"))
    array = pickle.loads(pickle.dumps(np.array(array, order=order)))  # its dates get our byte order
    result = read(framed({"x": array}))["x"]
    assert (array.dtype, array.shape) == (result.dtype, result.shape)
    assert array.tobytes() == result.tobytes()
    assert array.flags.f_contiguous == result.flags.f_contiguous
    assert result.flags.writeable


@settings(deadline=None)
@given(st.text(), st.dictionaries(st.text(), plain, max_size=5))
def test_the_header_says_what_it_was_given(name: str, more: dict[str, Any]) -> None:
    """Names are kept whatever they are, other things as JSON or text; the rest is ours."""
    metadata = {**more, "workflow": name, "node": "\ud800"}
    data = b"".join(frame(1, metadata))
    header = header_of(data[: header_size(data)])
    assert header is not None
    assert (name, "\ud800", "pickle5") == (header["workflow"], header["node"], header["codec"])
    assert set(more) <= set(header)
    assert len(data) == file_size(data)


def test_the_header_may_tell_what_pickling_wrote() -> None:
    """`metadata` is looked at when the value has been pickled."""
    metadata: dict[str, Any] = dict(ABOUT)

    def store(obj: object) -> str | None:
        if obj is SMALL:
            metadata["objects"] = ["stored"]
            return "elsewhere"
        return None

    header = header_of(b"".join(frame([SMALL], metadata, persistent_id=store)))
    assert header is not None
    assert ["stored"] == header["objects"]


def test_parts_are_aligned() -> None:
    """The stream and each buffer begin at a multiple of 64, and so does the file's end."""
    data = framed(WITH_BUFFERS)
    header = header_of(bytes(data))
    assert header is not None
    lengths = [length for length, *_ in header["parts"]]
    assert [513 * 8, 1024 * 8] == lengths[1:]
    assert (0, 0) == (len(data) % 64, header_size(bytes(data)) % 64)
    assert 0 == data.index(WITH_BUFFERS[0].tobytes()) % 64


def test_many_small_arrays_are_one_part() -> None:
    """A part for each would make the header larger than the arrays."""
    header = header_of(bytes(framed([np.arange(10) for _ in range(1_000)])))
    assert header is not None
    assert 1 == len(header["parts"])


def test_a_read_only_array_stays_read_only() -> None:
    """An array comes back as it was saved, large or small."""
    large, small = np.zeros(1_000), np.zeros(10)
    large.flags.writeable = small.flags.writeable = False
    assert [False, False] == [array.flags.writeable for array in read(framed([large, small]))]


# ---- no copies ----


def test_framing_copies_no_array() -> None:
    """The chunks are the memory of the arrays themselves."""
    array = np.zeros(1_000_000)
    tracemalloc.start()
    try:
        chunks = frame({"x": array, "transposed": array.reshape(1_000, -1).T}, ABOUT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    views = [np.frombuffer(chunk) for chunk in chunks if len(chunk) == array.nbytes]
    assert [True, True] == [np.shares_memory(array, view) for view in views]
    assert peak < array.nbytes / 20


@pytest.mark.parametrize("size", [0, 1_000, 5_000_000], ids=["none", "small", "blocks"])
def test_the_length_of_the_head_is_known_before_it_is(size: int) -> None:
    """So the body can be written first, at its place, while it is digested."""
    chunks = frame([np.zeros(size), "text"], ABOUT)
    assert chunks.head_size == len(chunks.head())
    assert [chunks.head(), *chunks.body] == [*chunks]


def test_arrays_live_in_what_was_read() -> None:
    """Reading makes no second copy, and the arrays can be worked on."""
    data = framed(np.zeros(1_000))
    result = read(data)
    assert np.shares_memory(result, np.frombuffer(data, np.uint8))
    result[:] = 1
    assert 1_000 == result.sum()


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file in memory, copied page by page when it is written to."""
    with path.open("rb") as file:
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def test_a_mapped_array_can_be_changed_and_the_file_does_not(tmp_path: Path) -> None:
    """Copy on write: the reader's array is the reader's own."""
    path = tmp_path / "result"
    path.write_bytes(framed(np.zeros(10_000)))
    before = path.read_bytes()
    with mapped(path) as data:
        result = read(data)
    assert result.flags.writeable
    result[:] = 1
    assert 10_000 == result.sum()
    assert before == path.read_bytes()


# ---- damage ----


@pytest.mark.parametrize("key", [None, KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("value", [SMALL, WITH_BUFFERS], ids=["small", "buffers"])
def test_any_changed_byte_is_seen(value: object, key: SigningKey | None) -> None:
    """Not one byte can change unseen: prefix, signature, header, stream, buffers, what is between."""
    data = framed(value, key=key)
    bits = (0x01, 0x80, 0xFF) if value is SMALL else (0x10,)
    for position in range(len(data)):
        for bit in bits:
            data[position] ^= bit
            corrupt(data, key=key)
            data[position] ^= bit
    read(data, key=key)


def test_any_changed_byte_of_a_signed_file_is_seen_without_the_key() -> None:
    """Who has no key checks all the rest, and that the signature is the one that was written."""
    data = framed(SMALL, key=KEY)
    for position in range(len(data)):
        data[position] ^= 0x01
        corrupt(data)
        data[position] ^= 0x01
    assert [1, "two", None] == read(data)["rows"]


@pytest.mark.parametrize("key", [None, KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("value", [SMALL, WITH_BUFFERS], ids=["small", "buffers"])
def test_any_cut_is_seen(value: object, key: SigningKey | None) -> None:
    """A file that ends too early or too late is no result, even if nothing else is checked."""
    data = framed(value, key=key)
    for length in range(len(data)):
        corrupt(data[:length], key=key)
        corrupt(data[:length], verify=False)
    for more in (b"\0", bytes(64)):
        corrupt(data + more, key=key)
        corrupt(data + more, verify=False)


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_other_bytes_are_no_result(data: bytes, begun: bool) -> None:  # noqa: FBT001
    """What is no result file is damaged, also if it begins like one."""
    corrupt(bytearray(bytes(framed(1)[:8]) * begun + data))


@settings(deadline=None)
@given(st.data())
def test_damage_is_never_another_value(data: st.DataObject) -> None:
    """Several changes, and pieces moved, are seen as well."""
    whole = framed([SMALL, np.zeros(600)])
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    changed = whole[:start] + data.draw(st.binary(max_size=20)) + whole[stop:]
    if changed != whole:
        corrupt(changed)


HEADERS: dict[str, dict[str, Any]] = {
    "no parts": {},
    "none at all": {"parts": []},
    "null": {"parts": None},
    "a number": {"parts": 3},
    "no digests": {"parts": [3]},
    "text": {"parts": "ab"},
    "negative": {"parts": [[-64, "00"]]},
    "a digest too few": {"parts": [[64]]},
    "a digest too many": {"parts": [[0, "00", "00"]]},
    "fraction": {"parts": [[1.5, "00"]]},
    "no hexadecimal": {"parts": [[64, "zz"]]},
    "huge": {"parts": [[10**400, "00"]]},
    "digest cut": {"parts": [[64, "00"]]},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_makes_no_sense_is_damage(header: dict[str, Any]) -> None:
    """Whoever made it: an intact header is not trusted to be sensible."""
    with pytest.raises(CorruptResult, match=r"not list the parts|header announces|not match"):
        read(resigned(framed(1), {**ABOUT, **header}))


NAMES: dict[str, dict[str, Any]] = {
    "none": {},
    "no node": {"workflow": "w"},
    "no workflow": {"node": "node"},
    "null": {"workflow": "w", "node": None},
    "a list": {"workflow": ["w"], "node": "node"},
    "deep": {"workflow": json.loads("[" * 900 + "]" * 900), "node": "node"},
    "another node": {"workflow": "w", "node": "other"},
    "another workflow": {"workflow": "v", "node": "node"},
    "a character for two halves": {"workflow": "w", "node": "\U0001f600"},
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_header_that_names_another_node_is_damage(names: dict[str, Any]) -> None:
    """A file that was renamed or copied, or that names no node, is not what was asked for."""
    header = header_of(bytes(framed(1))) or {}
    forged = resigned(framed(1), {"parts": header["parts"], **names})
    with pytest.raises(CorruptResult, match=r"renamed or copied|does not name"):
        unframe(forged, "w", "\ud83d\ude00" if names.get("node") == "\U0001f600" else "node")


@pytest.mark.parametrize("text", [b"3", b'"text"', b"{", b"[" * 100_000, b"\xff", b"[[1]]"])
def test_a_header_that_is_no_object_is_damage(text: bytes) -> None:
    """Neither other JSON nor no JSON at all is taken for a header."""
    start = struct.pack("<8sII", framed(1)[:8], 2, len(text))
    digest = hashlib.sha256(start + bytes(32) + text).digest()
    with pytest.raises(CorruptResult):
        header_of(start + digest + bytes(32) + text)


def test_a_later_version_is_not_damage() -> None:
    """It is an intact result that cannot be read here: nobody may take it for lost."""
    data = framed(1)
    size = header_size(bytes(data))
    struct.pack_into("<I", data, 8, 3)
    data[16:48] = hashlib.sha256(data[:16] + data[48:size]).digest()
    with pytest.raises(StorageError, match="format version 3") as caught:
        read(data)
    assert not isinstance(caught.value, CorruptResult)


def test_without_verification_header_and_stream_are_checked() -> None:
    """`verify=False` takes arrays as they are; a damaged stream would raise anything."""
    data = framed(np.zeros(1_000))
    data[-1] ^= 1
    assert (1_000,) == read(data, verify=False).shape
    start = header_size(bytes(data))
    for position in range(start, len(data) - 8_000):  # the stream, and the zeros behind it
        data[position] ^= 1
        corrupt(data, verify=False)
        data[position] ^= 1
    assert (1_000,) == read(data, verify=False).shape
    data[PREFIX_SIZE] ^= 1
    corrupt(data, verify=False)


def test_damage_is_seen_before_anything_is_unpickled(tmp_path: Path) -> None:
    """A damaged stream is not run."""
    trace = tmp_path / "trace"
    data = framed(Trace(str(trace)))
    data[-1] ^= 1  # in the padding behind the stream
    corrupt(data)
    assert not trace.exists()


class Trace:
    """Unpickling it leaves a folder."""

    def __init__(self, path: str) -> None:
        """Take the folder's name."""
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Make the folder."""
        return os.mkdir, (self.path,)


# ---- what is checked later ----

LARGE = np.zeros(DEFERRED // 8)


def test_large_buffers_alone_are_deferred() -> None:
    """Who checks later is told buffer, digest and place; all else is checked at once."""
    data = framed({"large": LARGE, "less": LARGE[1:], "small": np.arange(3)})
    deferred: list[tuple[memoryview, bytes, int]] = []
    result = read(data, defer=lambda *noted: deferred.append(noted))
    ((buffer, digest, start),) = deferred
    assert (DEFERRED, hashlib.sha256(LARGE.tobytes()).digest()) == (buffer.nbytes, digest)
    assert np.shares_memory(result["large"], np.frombuffer(buffer))
    result["large"][:] = 1
    assert buffer == memoryview(data)[start : start + DEFERRED]


def test_a_very_large_buffer_is_checked_by_blocks() -> None:
    """Each block has a digest, is told by itself, and no byte of any goes unseen."""
    data = framed(np.zeros(2 * DEFERRED + 100, np.uint8))
    deferred: list[tuple[memoryview, bytes, int]] = []
    read(data, defer=lambda *noted: deferred.append(noted))
    assert [DEFERRED, DEFERRED, 100] == [len(block) for block, _, _ in deferred]
    for block, digest, start in deferred:
        assert hashlib.sha256(data[start : start + len(block)]).digest() == digest
    for position in (0, DEFERRED - 1, DEFERRED, 2 * DEFERRED, 2 * DEFERRED + 99):
        data[deferred[0][2] + position] ^= 1
        corrupt(data)
        data[deferred[0][2] + position] ^= 1
    read(data)


def test_damage_in_a_deferred_buffer_is_left_to_who_checks_it() -> None:
    """It comes back at once; without somebody to check it later, it is checked now."""
    data = framed(LARGE)
    data[-1] ^= 1
    assert LARGE.shape == read(data, defer=lambda *_: None).shape
    corrupt(data)


def test_the_stream_and_what_is_between_are_never_deferred() -> None:
    """A large stream is checked before it is unpickled, and padding at once."""
    deferred: list[Any] = []
    stream = framed([b"x" * DEFERRED])
    read(stream, defer=lambda *noted: deferred.append(noted))
    assert [] == deferred
    stream[DEFERRED // 2] ^= 1
    corrupt(stream, defer=lambda *_: None)
    padded = framed(np.zeros(DEFERRED + 1, np.uint8))
    padded[-1] ^= 1
    corrupt(padded, defer=lambda *_: None)


def test_with_a_key_nothing_is_deferred_or_left_out() -> None:
    """A signature is for all of a result or for nothing."""
    data = framed(LARGE, key=KEY)
    deferred: list[Any] = []
    read(data, key=KEY, defer=lambda *noted: deferred.append(noted))
    assert [] == deferred
    data[-1] ^= 1
    corrupt(data, key=KEY, defer=lambda *_: None)
    corrupt(data, key=KEY, verify=False)


# ---- objects that are kept elsewhere ----


class Kept:
    """Stands for what a serializer keeps elsewhere."""

    def __init__(self, number: int) -> None:
        """Be told from others."""
        self.number = number

    def __reduce__(self) -> Any:
        """Refuse: it should not have been pickled."""
        message = "kept elsewhere"
        raise TypeError(message)


@pytest.mark.parametrize("extra", [None, lambda: 3], ids=["pickle", "cloudpickle"])
def test_objects_are_kept_elsewhere_wherever_they_are(extra: object) -> None:
    """At any depth, each asked for once, also when the value has to be pickled a second time."""
    one, two, asked = Kept(1), Kept(2), list[int]()

    def keep(obj: object) -> tuple[str, int] | None:
        if isinstance(obj, Kept):
            asked.append(obj.number)
            return ("kept", obj.number)
        return None

    data = framed([one, {"x": (two, [one])}, extra], persistent_id=keep)
    first, rest, _ = read(data, loader=lambda _: lambda pid: f"{pid[0]} {pid[1]}")
    assert ("kept 1", {"x": ("kept 2", ["kept 1"])}) == (first, rest)
    assert [1, 2] == sorted(asked)


def test_an_error_of_what_keeps_an_object_is_told_as_it_is() -> None:
    """It is not covered by a second try."""
    asked: list[object] = []

    def refuse(obj: object) -> None:
        asked.append(obj)
        message = "the place for objects is full"
        raise StorageError(message)

    with pytest.raises(StorageError, match=r"^the place for objects is full$"):
        framed(1, persistent_id=refuse)
    assert [1] == asked


def test_a_kept_object_needs_somebody_who_loads_it() -> None:
    """Without one the result is intact but cannot be read."""
    data = framed(Kept(1), persistent_id=lambda obj: "pid")
    with pytest.raises(StorageError, match="cannot be unpickled here"):
        read(data)


def test_buffers_and_kept_objects_go_together() -> None:
    """Arrays beside objects that are kept elsewhere are still not copied."""
    array = np.zeros(1_000)
    chunks = frame(
        [Kept(1), array],
        ABOUT,
        persistent_id=lambda obj: 7 if isinstance(obj, Kept) else None,
    )
    assert any(np.shares_memory(array, np.frombuffer(c, np.uint8)) for c in chunks if len(c))
    kept, result = read(bytearray(b"".join(chunks)), loader=lambda _: lambda pid: pid)
    assert 7 == kept
    np.testing.assert_array_equal(array, result)


# ---- what cannot be pickled ----


def test_what_cannot_be_pickled_is_refused() -> None:
    """The error says what it is and why."""
    with pytest.raises(StorageError, match=r"a value of type list cannot be pickled: .*lock"):
        framed([threading.Lock()])


def test_what_cannot_be_unpickled_here_is_intact() -> None:
    """A module that is missing is no damage."""
    data = framed(pickle.loads)
    broken = bytearray(data.replace(b"loads", b"loadz"))
    header = header_of(bytes(data))
    assert header is not None
    size = header_size(bytes(data))
    stream = broken[size : size + header["parts"][0][0]]
    header["parts"][0][1] = hashlib.sha256(stream).hexdigest()
    with pytest.raises(StorageError, match=r"intact but cannot be unpickled here \(Attribute"):
        read(resigned(broken, header))


# ---- the old published format ----


def old_format(value: object, protocol: int = 4) -> bytearray:
    """A file as the published version wrote it: a pickle and its SHA-1."""
    stream = pickle.dumps(value, protocol)
    return bytearray(stream + hashlib.sha1(stream, usedforsecurity=False).digest())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_the_old_format_is_read(protocol: int, tmp_path: Path) -> None:
    """From memory and mapped; it has no header."""
    data = old_format({"a": [1, 2.5], "b": np.arange(5)}, protocol)
    (tmp_path / "old").write_bytes(data)
    with mapped(tmp_path / "old") as in_memory:
        for source in (data, in_memory, memoryview(data)):
            result = read(source)
            assert [1, 2.5] == result["a"]
            np.testing.assert_array_equal(np.arange(5), result["b"])
    assert header_of(bytes(data)) is None
    assert 0 == header_size(bytes(data))


def test_damage_of_the_old_format_is_seen() -> None:
    """Any byte, any cut."""
    data = old_format(list(range(20)))
    for position in range(len(data)):
        corrupt(data[:position])
        data[position] ^= 0xFF
        corrupt(data)
        data[position] ^= 0xFF
    assert list(range(20)) == read(data)
