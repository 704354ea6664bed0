"""The file format: every damage is detected, before anything is unpickled or by a deferred check."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from file_format_helpers import (
    ABOUT,
    KEY,
    SMALL,
    WITH_BUFFERS,
    corrupt,
    framed,
    headed,
    read,
    resigned,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.file_format import (
    DEFERRED,
    header_of,
    header_size,
    unframe,
)
from functionfuse.storage.file_format.layout import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.storage.file_format.file_format import Chunk
    from functionfuse.storage.file_format.signatures import SigningKey


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
    """Without the key all else is verified, and that the signature is the recorded one."""
    data = framed(SMALL, key=KEY)
    for position in range(len(data)):
        data[position] ^= 0x01
        corrupt(data)
        data[position] ^= 0x01
    assert [1, "two", None] == read(data)["rows"]


@pytest.mark.parametrize("key", [None, KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("value", [SMALL, WITH_BUFFERS], ids=["small", "buffers"])
def test_any_cut_is_seen(value: object, key: SigningKey | None) -> None:
    """A file that ends too early or too late is not a result, even if nothing else is verified."""
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
    """A file that is not a result file is damaged, also if it begins like one."""
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
    """An intact header is validated, too: its author may be an attacker."""
    usual = {**ABOUT, "checksums": "xxh3-128"}
    with pytest.raises(CorruptResult, match=r"not list the parts|header announces|not match"):
        read(resigned(framed(1), {**usual, **header}))


@pytest.mark.parametrize("name", [None, "", "sha256", "blake3 ", 3, ["xxh3-128"], {}])
def test_checksums_of_another_algorithm_are_damage(name: object) -> None:
    """A checksum that this version does not have is not skipped."""
    header = header_of(bytes(framed(1)))
    with pytest.raises(CorruptResult, match="names no checksum algorithm"):
        read(resigned(framed(1), {**(header or {}), "checksums": name}))


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
    """A file that was renamed or copied, or that names no node, is not the requested result."""
    header = header_of(bytes(framed(1))) or {}
    forged = resigned(framed(1), {"parts": header["parts"], **names})
    with pytest.raises(CorruptResult, match=r"renamed or copied|does not name"):
        unframe(forged, "w", "\ud83d\ude00" if names.get("node") == "\U0001f600" else "node")


@pytest.mark.parametrize("text", [b"3", b'"text"', b"{", b"[" * 100_000, b"\xff", b"[[1]]"])
def test_a_header_that_is_not_an_object_is_damage(text: bytes) -> None:
    """Neither other JSON nor invalid JSON is accepted as a header."""
    with pytest.raises(CorruptResult):
        header_of(headed(text))


def test_a_later_version_is_not_damage() -> None:
    """A later version is an intact result that cannot be read here, and not a damaged one."""
    data = framed(1)
    later = bytearray(headed(bytes(data[64 : header_size(bytes(data))]), version=4))
    with pytest.raises(StorageError, match="format version 4") as caught:
        read(later)
    assert not isinstance(caught.value, CorruptResult)


def test_without_verification_header_and_stream_are_checked() -> None:
    """`verify=False` accepts arrays unverified; a damaged stream would raise anything."""
    data = framed(np.zeros(1_000))
    data[-1] ^= 1
    assert (1_000,) == read(data, verify=False).shape
    start = header_size(bytes(data))
    for position in range(start, len(data) - 8_000):  # the stream, and the zeros behind it
        data[position] ^= 1
        corrupt(data, verify=False)
        data[position] ^= 1
    assert (1_000,) == read(data, verify=False).shape
    data[64] ^= 1
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
    """The deferred check gets buffer, checksum and offset; all else is verified immediately."""
    data = framed({"large": LARGE, "less": LARGE[1:], "small": np.arange(3)})
    deferred: list[Chunk] = []
    result = read(data, defer=deferred.append)
    assert [CHUNK] * 4 == [len(chunk.data) for chunk in deferred]
    assert {xxh3_128_digest(bytes(CHUNK))} == {chunk.digest for chunk in deferred}
    assert all(np.shares_memory(result["large"], np.frombuffer(chunk.data)) for chunk in deferred)
    result["large"][:] = 1
    whole = memoryview(data)
    assert all(chunk.data == whole[chunk.start : chunk.start + CHUNK] for chunk in deferred)


def test_a_very_large_buffer_is_checked_by_chunks() -> None:
    """Each chunk has a checksum and is reported separately, and no byte is left unverified."""
    data = framed(np.zeros(5 * CHUNK + 100, np.uint8))
    deferred: list[Chunk] = []
    read(data, defer=deferred.append)
    assert [CHUNK] * 5 + [100] == [len(chunk.data) for chunk in deferred]
    for chunk in deferred:
        content = data[chunk.start : chunk.start + len(chunk.data)]
        assert xxh3_128_digest(content) == chunk.digest
    for position in (0, CHUNK - 1, CHUNK, 5 * CHUNK, 5 * CHUNK + 99):
        data[deferred[0].start + position] ^= 1
        corrupt(data)
        data[deferred[0].start + position] ^= 1
    read(data)


def test_damage_in_a_deferred_buffer_is_left_to_the_deferred_check() -> None:
    """The result is returned immediately; without a deferred check it is verified before."""
    data = framed(LARGE)
    data[-1] ^= 1
    assert LARGE.shape == read(data, defer=lambda _: None).shape
    corrupt(data)


def test_the_stream_and_padding_are_never_deferred() -> None:
    """A large stream is verified before it is unpickled, and so is padding."""
    deferred: list[Any] = []
    stream = framed([b"x" * DEFERRED])
    read(stream, defer=deferred.append)
    assert [] == deferred
    stream[DEFERRED // 2] ^= 1
    corrupt(stream, defer=lambda _: None)
    padded = framed(np.zeros(DEFERRED + 1, np.uint8))
    padded[-1] ^= 1
    corrupt(padded, defer=lambda _: None)


def test_with_a_key_nothing_is_deferred_or_omitted() -> None:
    """A signature is for all of a result or for nothing."""
    data = framed(LARGE, key=KEY)
    deferred: list[Any] = []
    read(data, key=KEY, defer=deferred.append)
    assert [] == deferred
    data[-1] ^= 1
    corrupt(data, key=KEY, defer=lambda _: None)
    corrupt(data, key=KEY, verify=False)
