"""Encodings of large objects by identity: an array that many nodes take is hashed once in a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Encoding", "EncodingCache"]

#: The token of an object, the unknown parts with their paths within it, and the functions and types in it.
Encoding = tuple[bytes, tuple[tuple[str, str], ...], tuple[Any, ...]]


class EncodingCache:
    """Remembers encodings by the identity of their objects, which it does not keep alive where that is possible."""

    def __init__(self) -> None:
        self._encodings: dict[int, tuple[Callable[[], Any], Encoding]] = {}

    def get(self, value: Any) -> Encoding | None:
        """Return the encoding of this very object, if it is known."""
        known = self._encodings.get(id(value))
        return known[1] if known is not None and known[0]() is value else None

    def add(self, value: Any, encoding: Encoding) -> Encoding:
        """Remember the encoding of an object."""
        try:
            self._encodings[id(value)] = ref(value), encoding
        except TypeError:  # without weak references: bytes, texts
            self._encodings[id(value)] = lambda: value, encoding
        return encoding
