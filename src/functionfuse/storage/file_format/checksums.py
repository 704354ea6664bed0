"""Checksums: SHA-256 of buffers by blocks, computed in several threads."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BLOCK", "blocks", "digests", "start_digests"]

#: Bytes in a block, which has one digest; the last block of a buffer may be smaller.
BLOCK: Final = 16 * 2**20
_MOST: Final = 4  # threads: more are limited by memory bandwidth


def blocks(data: memoryview) -> list[memoryview]:
    """Split a buffer into blocks, at least one."""
    if len(data) <= BLOCK:
        return [data]
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def start_digests(pieces: Sequence[memoryview]) -> Callable[[], list[bytes]]:
    """Start computing the SHA-256 of each piece; the returned function waits for the digests."""
    if len(pieces) == 1 or sum(map(len, pieces)) < BLOCK:  # faster without a thread
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
    return start_digests(pieces)()


def _digest(piece: memoryview) -> bytes:
    return hashlib.sha256(piece).digest()
