"""The old published format of result files: a pickle stream, and its SHA-1."""

from __future__ import annotations

import hashlib
from typing import Final

from functionfuse.errors import CorruptResult

__all__ = ["old_stream"]

_SHA1_SIZE: Final = 20


def old_stream(data: bytearray | memoryview) -> bytes:
    """The pickle stream of a file of the old published format, which ends with its SHA-1.

    Raises:
        CorruptResult: It is not of that format, or not what was written.
    """
    stream, digest = bytes(data[:-_SHA1_SIZE]), bytes(data[-_SHA1_SIZE:])
    if not stream or hashlib.sha1(stream, usedforsecurity=False).digest() != digest:
        message = "it is neither a result file nor one of the old format"
        raise CorruptResult(message)
    return stream
