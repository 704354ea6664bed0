"""Parts of a value: what its digest is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

__all__ = ["Parts", "Raw", "Undigestible", "hash_bytes", "hash_text"]

#: A header of atoms, the labels of the parts, and the parts. A label is an index, a text, or a tuple of a key.
Parts = tuple[tuple[Any, ...], Sequence[Any], Sequence[Any]]


class Undigestible(Exception):
    """A value without a digest; the message says what it is."""


class Raw:
    """Bytes that represent a part."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def hash_bytes(data: Any) -> bytes:
    """The XXH3-128 of bytes, or of a contiguous buffer without a copy."""
    return _xxh3()(data)


def hash_text(data: bytes) -> str:
    """The XXH3-128 of bytes in hexadecimal digits."""
    return _xxh3_text()(data)


@cache
def _xxh3() -> Callable[[Any], bytes]:
    from xxhash import xxh3_128_digest  # imported when the first digest is made

    return xxh3_128_digest


@cache
def _xxh3_text() -> Callable[[bytes], str]:
    from xxhash import xxh3_128_hexdigest

    return xxh3_128_hexdigest
