"""Checksum algorithms, and digests of the chunks of a file: inline, or in several threads.

XXH3-128 shows accidents, and is faster than a copy: it is computed inline, for the chunk that is copied next.
BLAKE3 also shows forgeries, and is slower: threads compute it.
The threads belong to one call: those of a library would be missing in a forked process, which would wait for them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Algorithm", "Hasher", "blake3", "close_digests", "digests", "split", "xxh3"]

#: Bytes from which on threads are faster than none.
_THREADED: Final = 4 * 2**20
_MOST: Final = 4  # threads: more are limited by memory bandwidth


class Hasher(Protocol):
    """An incremental digest."""

    def update(self, data: Any, /) -> object:
        """Add bytes."""

    def digest(self) -> bytes:
        """The digest of all bytes so far."""


class Algorithm(NamedTuple):
    """A checksum algorithm."""

    name: str  # in headers
    size: int  # bytes of a digest
    digest: Callable[[Any], bytes]
    start: Callable[[], Hasher]
    is_cryptographic: bool  # other bytes with the same digest cannot be found


@functools.cache
def xxh3() -> Algorithm:
    """XXH3-128; its library is imported by the first call."""
    import xxhash

    digest = xxhash.xxh3_128_digest
    return Algorithm("xxh3-128", 16, digest, xxhash.xxh3_128, is_cryptographic=False)


@functools.cache
def blake3() -> Algorithm:
    """BLAKE3; its library is imported by the first call."""
    from blake3 import blake3 as start

    return Algorithm("blake3", 32, lambda data: start(data).digest(), start, is_cryptographic=True)


def split(data: memoryview, size: int) -> list[memoryview]:
    """Split a buffer into chunks, at least one; only the last one is smaller."""
    if len(data) <= size:
        return [data]
    return [data[start : start + size] for start in range(0, len(data), size)]


def digests(
    algorithm: Algorithm,
    pieces: Sequence[memoryview],
    fill: Callable[[int], object] | None = None,
) -> Iterator[bytes]:
    """The digests of buffers, each computed when it is requested, or before by threads.

    Call `close_digests` on what it returns.

    Args:
        algorithm: The checksum algorithm.
        pieces: The buffers.
        fill: Reads the contents of the buffer with this index, just before its digest is computed.
    """
    is_short = len(pieces) == 1 or sum(map(len, pieces)) < _THREADED
    if fill is None and (is_short or not algorithm.is_cryptographic):
        return map(algorithm.digest, pieces)

    def digest(index: int) -> bytes:
        if fill:
            fill(index)
        return algorithm.digest(pieces[index])

    if is_short:
        return map(digest, range(len(pieces)))
    return _digests_of_threads(digest, len(pieces))


def close_digests(found: Iterator[bytes]) -> None:
    """End the threads that compute digests.

    The garbage collector must not be the one to end them: it may run in a thread that is being started,
    which holds the lock that the end of a thread requires.
    """
    if isinstance(found, Generator):
        found.close()


def _digests_of_threads(digest: Callable[[int], bytes], count: int) -> Iterator[bytes]:
    from concurrent.futures import ThreadPoolExecutor

    threads = min(_MOST, count, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads, "functionfuse-digests")
    try:
        yield from pool.map(digest, range(count))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # a running thread may write into a buffer
