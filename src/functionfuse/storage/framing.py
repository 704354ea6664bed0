"""A result as bytes, and back: self-describing, checked, without a copy of large buffers.

Byte by byte, little-endian::

    8 bytes   magic
    u32       version of the format
    u32       length of the header
    32 bytes  SHA-256 of the header
    ...       header: JSON, see `Header`
    ...       pickle stream, protocol 5, aligned to 64 bytes
    ...       raw buffers of the pickle stream, each aligned to 64 bytes

The header's own `sha256` is that of everything behind it, so no byte of a file can change unseen.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import CorruptResult, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PREFIX_SIZE", "frame", "header_of", "header_size", "unframe"]

MAGIC: Final = b"\x89FFUSE\r\n"
VERSION: Final = 1
_PREFIX: Final = struct.Struct("<8sII32s")
PREFIX_SIZE: Final = _PREFIX.size
_ALIGNMENT: Final = 64
_PADDING: Final = bytes(_ALIGNMENT)
_SHA1_SIZE: Final = 20  # closes a file of the old published format


def frame(value: Any, about: Mapping[str, Any]) -> list[bytes | memoryview]:
    """The chunks of a result file, to be written one after the other.

    Args:
        value: The result. Contiguous buffers in it (arrays) are not copied.
        about: What else the header shall say; what is no JSON value is kept as text.

    Raises:
        StorageError: The value cannot be pickled.
    """
    body = [memoryview(part) for part in _pickled(value)]
    lengths = [part.nbytes for part in body]
    payload: list[bytes | memoryview] = []
    for part, length in zip(body, lengths, strict=True):
        payload += (part, _PADDING[: -length % _ALIGNMENT])
    digest = hashlib.sha256()
    for chunk in payload:
        digest.update(chunk)
    fields = {**about, "codec": "pickle5", "lengths": lengths, "sha256": digest.hexdigest()}
    header = json.dumps(fields, separators=(",", ":"), default=str).encode()
    header += b" " * (-(PREFIX_SIZE + len(header)) % _ALIGNMENT)
    return [
        _PREFIX.pack(MAGIC, VERSION, len(header), hashlib.sha256(header).digest()),
        header,
        *payload,
    ]


def unframe(data: bytearray) -> Any:
    """The value in a result file; its arrays live in `data` and can be written to.

    Raises:
        CorruptResult: The bytes are not those that were written.
        StorageError: They are, but cannot be unpickled here.
    """
    if data[: len(MAGIC)] != MAGIC:
        return _unframe_old(data)
    header, start = _header(data)
    payload = memoryview(data)[start:]
    if hashlib.sha256(payload).hexdigest() != header["sha256"]:
        message = "the contents do not match their digest"
        raise CorruptResult(message)
    stream, *buffers = _parts(payload, header["lengths"])
    return _unpickled(stream, buffers)


def header_of(start: bytes) -> dict[str, Any] | None:
    """What a result file says of itself; None for the old published format.

    Args:
        start: The beginning of the file, longer than its header.

    Raises:
        CorruptResult: The header is not the one that was written.
    """
    return _header(start)[0] if start.startswith(MAGIC) else None


def header_size(start: bytes) -> int:
    """How much of a result file `header_of` needs; 0 for the old published format.

    Args:
        start: The first `PREFIX_SIZE` bytes of the file.
    """
    if len(start) < PREFIX_SIZE or not start.startswith(MAGIC):
        return 0
    length: int = _PREFIX.unpack_from(start)[2]
    return PREFIX_SIZE + length


def _header(data: bytes | bytearray) -> tuple[dict[str, Any], int]:
    if len(data) < PREFIX_SIZE:
        message = "the file is shorter than its header"
        raise CorruptResult(message)
    _, version, length, digest = _PREFIX.unpack_from(data)
    header = bytes(data[PREFIX_SIZE : PREFIX_SIZE + length])
    if hashlib.sha256(header).digest() != digest:
        message = "the header does not match its digest"
        raise CorruptResult(message)
    if version != VERSION:
        message = (
            f"format version {version} is not known here; this FunctionFuse reads version {VERSION}"
        )
        raise CorruptResult(message)
    return json.loads(header), PREFIX_SIZE + length


def _parts(payload: memoryview, lengths: Sequence[int]) -> list[memoryview]:
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length + -length % _ALIGNMENT)
    return [
        payload[start : start + length]
        for (start, _), length in zip(pairwise(starts), lengths, strict=True)
    ]


def _pickled(value: Any) -> list[bytes | memoryview]:
    """A pickle stream and its buffers."""
    try:
        return _pickled_with(pickle.dumps, value)
    except Exception:  # noqa: BLE001 - by reference did not do: __main__ of a worker, a closure
        from cloudpickle import dumps
    try:
        return _pickled_with(dumps, value)
    except Exception as error:
        message = f"a {type(value).__qualname__} that cannot be pickled: {error}"
        raise StorageError(message) from error


def _pickled_with(dumps: Any, value: Any) -> list[bytes | memoryview]:
    buffers: list[pickle.PickleBuffer] = []
    stream = dumps(value, protocol=5, buffer_callback=buffers.append)
    return [stream, *(buffer.raw() for buffer in buffers)]


def _unpickled(stream: bytes | memoryview, buffers: Sequence[memoryview] = ()) -> Any:
    try:
        return pickle.loads(stream, buffers=buffers)
    except Exception as error:
        message = (
            f"the result is intact but cannot be unpickled here ({type(error).__name__}: {error}): "
            "import or define what it is made of, or remove the result"
        )
        raise StorageError(message) from error


def _unframe_old(data: bytearray) -> Any:
    """Read the old published format: a pickle stream and its SHA-1."""
    stream, digest = bytes(data[:-_SHA1_SIZE]), data[-_SHA1_SIZE:]
    if not stream or hashlib.sha1(stream, usedforsecurity=False).digest() != digest:
        message = "it is neither a result file nor one of the old format"
        raise CorruptResult(message)
    return _unpickled(stream)
