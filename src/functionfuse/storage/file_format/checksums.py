"""SHA-256 of large buffers: by blocks, on several cores at once."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BLOCK", "blocks", "digesting", "digests"]

#: A block, and so each digest, is of so many bytes; the last one of a buffer may be smaller.
BLOCK: Final = 16 * 2**20
_MOST: Final = 4  # threads: memory is not faster than that


def blocks(data: memoryview) -> list[memoryview]:
    """A buffer in blocks, at least one."""
    if len(data) <= BLOCK:
        return [data]
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def digesting(pieces: Sequence[memoryview]) -> Callable[[], list[bytes]]:
    """Begin with the SHA-256 of each piece; what is returned waits for them."""
    if len(pieces) == 1 or sum(map(len, pieces)) < BLOCK:  # not worth a thread
        found = [_digest(piece) for piece in pieces]
        return lambda: found
    from concurrent.futures import ThreadPoolExecutor

    threads = min(_MOST, len(pieces), os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads, "functionfuse-digests")
    later = [pool.submit(_digest, piece) for piece in pieces]
    pool.shutdown(wait=False)  # the threads end with the last piece
    return lambda: [future.result() for future in later]


def digests(pieces: Sequence[memoryview]) -> list[bytes]:
    """The SHA-256 of each piece."""
    return digesting(pieces)()


def _digest(piece: memoryview) -> bytes:
    return hashlib.sha256(piece).digest()
