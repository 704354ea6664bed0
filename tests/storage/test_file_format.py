"""The file format: values come back, no buffer is copied, values of serializers are kept elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import pickle
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from file_format_helpers import ABOUT, KEY, SMALL, WITH_BUFFERS, corrupt, framed, read, resigned
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from xxhash import xxh3_128_hexdigest

from functionfuse.errors import StorageError
from functionfuse.storage.file_format.file_format import (
    file_size,
    header_of,
    header_size,
    is_signed,
)
from functionfuse.storage.file_format.frame import frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
def test_framed_values_come_back(value: object, signed: bool) -> None:  # noqa: FBT001
    """Any plain value, signed or not, is unchanged, with the same types."""
    key = KEY if signed else None
    data = framed(value, key=key)
    assert repr(value) == repr(read(data, key=key))
    assert signed == is_signed(bytes(data))


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_arrays_of_any_type_come_back(data: st.DataObject) -> None:
    """Every dtype and shape, in the stream or outside it, bit by bit, and writable."""
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
    data = frame(1, metadata).joined()
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

    header = header_of(frame([SMALL], metadata, persistent_id=store).joined())
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
    """An array comes back unchanged, large or small."""
    large, small = np.zeros(1_000), np.zeros(10)
    large.flags.writeable = small.flags.writeable = False
    assert [False, False] == [array.flags.writeable for array in read(framed([large, small]))]


# ---- no copies ----


def test_framing_copies_no_array() -> None:
    """The chunks are the memory of the arrays themselves."""
    array = np.zeros(1_000_000)
    tracemalloc.start()
    try:
        chunks = [*frame({"x": array, "transposed": array.reshape(1_000, -1).T}, ABOUT).body()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    views = [np.frombuffer(chunk) for chunk in chunks if len(chunk) > array.nbytes / 4]
    assert [True] * 4 == [np.shares_memory(array, view) for view in views]
    assert peak < array.nbytes / 20


@pytest.mark.parametrize("size", [0, 1_000, 5_000_000], ids=["none", "small", "blocks"])
def test_the_length_of_the_head_is_known_before_it_is(size: int) -> None:
    """The body can be written first, at its offset, while its checksum is computed."""
    framed = frame([np.zeros(size), "text"], ABOUT)
    head_size, body = framed.head_size(), b"".join(framed.body())
    assert (head_size, framed.body_size) == (len(framed.head()), len(body))
    assert framed.head() + body == framed.joined()


def test_arrays_share_the_memory_of_the_file() -> None:
    """Reading makes no second copy, and the arrays can be worked on."""
    data = framed(np.zeros(1_000))
    result = read(data)
    assert np.shares_memory(result, np.frombuffer(data, np.uint8))
    result[:] = 1
    assert 1_000 == result.sum()


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file in memory, copied page by page on write."""
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


# ---- objects that are kept elsewhere ----


class Kept:
    """Represents a value that a serializer stores."""

    def __init__(self, number: int) -> None:
        """Take a number that identifies it."""
        self.number = number

    def __reduce__(self) -> Any:
        """Refuse: it should not have been pickled."""
        message = "kept elsewhere"
        raise TypeError(message)


@pytest.mark.parametrize("extra", [None, lambda: 3], ids=["pickle", "cloudpickle"])
def test_objects_at_any_depth_are_stored_elsewhere(extra: object) -> None:
    """At any depth, each is called once, also when the value has to be pickled a second time."""
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


def test_an_error_of_a_serializer_is_reported_unchanged() -> None:
    """The error of a serializer is not hidden by a second attempt."""
    asked: list[object] = []

    def refuse(obj: object) -> None:
        asked.append(obj)
        message = "the place for objects is full"
        raise StorageError(message)

    with pytest.raises(StorageError, match=r"^the place for objects is full$"):
        framed(1, persistent_id=refuse)
    assert [1] == asked


def test_a_stored_object_needs_a_loader() -> None:
    """Without one the result is intact but cannot be read."""
    data = framed(Kept(1), persistent_id=lambda obj: "pid")
    with pytest.raises(StorageError, match="cannot be unpickled here"):
        read(data)


def test_buffers_and_stored_objects_combine() -> None:
    """Arrays next to a serializer's objects are still not copied."""
    array = np.zeros(1_000)
    framed = frame(
        [Kept(1), array],
        ABOUT,
        persistent_id=lambda obj: 7 if isinstance(obj, Kept) else None,
    )
    chunks = framed.body()
    assert any(np.shares_memory(array, np.frombuffer(c, np.uint8)) for c in chunks if len(c))
    kept, result = read(bytearray(framed.joined()), loader=lambda _: lambda pid: pid)
    assert 7 == kept
    np.testing.assert_array_equal(array, result)


# ---- what cannot be pickled ----


def test_what_cannot_be_pickled_is_refused() -> None:
    """The error names the object and the reason."""
    with pytest.raises(
        StorageError,
        match=r"a value of type list with a lock at result\[0\] cannot be pickled: .*lock",
    ):
        framed([threading.Lock()])


def test_what_cannot_be_unpickled_here_is_intact() -> None:
    """A missing module is not damage."""
    data = framed(pickle.loads)
    broken = bytearray(data.replace(b"loads", b"loadz"))
    header = header_of(bytes(data))
    assert header is not None
    size = header_size(bytes(data))
    stream = broken[size : size + header["parts"][0][0]]
    header["parts"][0][1] = xxh3_128_hexdigest(stream)
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
