"""Frames of the tests of the file format."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from xxhash import xxh3_128_digest

from functionfuse.errors import CorruptResult
from functionfuse.storage.file_format.file_format import header_size, unframe
from functionfuse.storage.file_format.frame import frame
from functionfuse.storage.file_format.signatures import SigningKey

if TYPE_CHECKING:
    import mmap


__all__ = [
    "ABOUT",
    "KEY",
    "SMALL",
    "WITH_BUFFERS",
    "corrupt",
    "framed",
    "headed",
    "read",
    "resigned",
]

ABOUT = {"workflow": "w", "node": "node"}
KEY = SigningKey("a test", b"0123456789abcdef")
SMALL = {"rows": [1, "two", None], "array": np.arange(3)}
#: Two buffers, the first with padding behind it.
WITH_BUFFERS = [np.arange(513), np.zeros(1024)]


def framed(value: object, **options: Any) -> bytearray:
    """The bytes of a result file."""
    return bytearray(frame(value, ABOUT, **options).joined())


def read(data: bytearray | memoryview | mmap.mmap, **options: Any) -> Any:
    """The value in the bytes of a result file."""
    return unframe(data, "w", "node", **options)


def corrupt(data: bytearray, **options: Any) -> None:
    """Assert that bytes are not believed."""
    with pytest.raises(CorruptResult):
        read(data, **options)


def resigned(data: bytearray, header: dict[str, Any]) -> bytearray:
    """A file with another header and the right checksum of it, as an attacker makes it."""
    written = json.dumps(header).encode()
    return bytearray(headed(written)) + data[header_size(bytes(data)) :]


def headed(header: bytes, signature: bytes = bytes(32), version: int = 3) -> bytes:
    """A prefix with the right checksum, and the header."""
    start = struct.pack("<8sII", b"\x89FFUSE\r\n", version, len(header))
    return start + xxh3_128_digest(start + signature + header) + signature + header
