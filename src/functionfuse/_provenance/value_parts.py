"""Parts of values of known types, where those that pickle would send differ between processes or versions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: A header of atoms, the labels of the parts, and the parts.
    Parts = tuple[tuple[Any, ...], Sequence[Any], Sequence[Any]]

__all__ = ["Raw", "Undigestible", "parts_of"]


class Undigestible(Exception):
    """A value without a digest; the message says what it is."""


class Raw:
    """Bytes that represent a part."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


@lru_cache(maxsize=4096)
def parts_of(kind: type) -> Callable[[Any], Parts] | None:
    """Return the function that takes values of a type apart; None for types that pickle takes apart."""
    return next((_PARTS[base] for base in kind.__mro__ if base in _PARTS), None)


def _by_text(value: Any) -> Parts:
    return (str(value),), (), ()


_PARTS: Final[dict[type, Callable[[Any], Parts]]] = {PurePath: _by_text}
