"""Frames of the tests of the file format."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse.errors import CorruptResult
from functionfuse.storage.file_format.file_format import (
    frame,
    header_size,
    unframe,
)
from functionfuse.storage.file_format.signatures import SigningKey

if TYPE_CHECKING:
    import mmap


__all__ = ["ABOUT", "KEY", "SMALL", "WITH_BUFFERS", "corrupt", "framed", "read", "resigned"]

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
    """A file with another header and the right checksum of it, as an attacker makes it."""
    written = json.dumps(header).encode()
    start = struct.pack("<8sII", data[:8], 2, len(written))
    digest = hashlib.sha256(start + bytes(32) + written).digest()
    return bytearray(start + digest + bytes(32) + written) + data[header_size(bytes(data)) :]
