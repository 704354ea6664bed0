"""Digests of large objects by identity: an array that many nodes take is hashed once in a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Unit", "UnitCache"]

#: The token of an object, the unknown parts with their paths within it, and the functions and types in it.
Unit = tuple[bytes, tuple[tuple[str, str], ...], tuple[Any, ...]]


class UnitCache:
    """Remembers units by the identity of their objects, which it does not keep alive where that is possible."""

    def __init__(self) -> None:
        self._units: dict[int, tuple[Callable[[], Any], Unit]] = {}

    def get(self, value: Any) -> Unit | None:
        """Return the unit of this very object, if it is known."""
        known = self._units.get(id(value))
        return known[1] if known is not None and known[0]() is value else None

    def add(self, value: Any, unit: Unit) -> Unit:
        """Remember the unit of an object."""
        try:
            self._units[id(value)] = ref(value), unit
        except TypeError:  # without weak references: bytes, texts
            self._units[id(value)] = lambda: value, unit
        return unit
