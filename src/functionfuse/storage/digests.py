"""SHA-256 of large buffers: by blocks, on several cores at once."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BLOCK", "blocks", "digests"]

#: A block, and so each digest, is of so many bytes; the last one of a buffer may be smaller.
BLOCK: Final = 16 * 2**20
_MOST: Final = 4  # threads: memory is not faster than that


def blocks(data: memoryview) -> list[memoryview]:
    """A buffer in blocks, at least one."""
    if len(data) <= BLOCK:
        return [data]
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def digests(pieces: Sequence[memoryview]) -> list[bytes]:
    """The SHA-256 of each piece."""
    if len(pieces) == 1 or sum(map(len, pieces)) < BLOCK:  # not worth a thread
        return [_digest(piece) for piece in pieces]
    from concurrent.futures import ThreadPoolExecutor

    threads = min(_MOST, len(pieces), os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, "functionfuse-digests") as pool:
        return list(pool.map(_digest, pieces))


def _digest(piece: memoryview) -> bytes:
    return hashlib.sha256(piece).digest()
