"""Limits of the restricted unpickler: work in proportion to the stream, and nesting that C can free.

References make small streams expensive: a tuple of two references to a tuple of two references, and so on,
has 2**60 leaves after 60 steps, and hashing it would never end.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import UntrustedResult

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Budget", "NestingLimit"]

_PER_BYTE: Final = 64
_MINIMUM: Final = 1 << 20
#: Python hashes nested tuples, and frees some nested containers, on the C stack.
MAX_NESTING: Final = 100
_WORD: Final = 6  # bits: integers are counted in words of 64 bits
#: Python caches their hash, or computes it in one step.
_CHEAP_KEYS: Final = frozenset({str, bytes, bool, float, complex, type(None)})


class Budget:
    """Steps that one load may spend on copying and hashing objects of the stream."""

    def __init__(self, nbytes: int) -> None:
        """Allow steps in proportion to the length of a stream and its buffers."""
        self._left = _MINIMUM + _PER_BYTE * nbytes

    def spend(self, steps: int) -> None:
        """Spend steps.

        Raises:
            UntrustedResult: The budget is used up.
        """
        self._left -= steps
        if self._left < 0:
            message = "it copies or hashes the same data too often for a genuine result"
            raise UntrustedResult(message)

    def spend_on_keys(self, keys: Collection[Any]) -> None:
        """Spend the cost of hashing keys.

        Raises:
            UntrustedResult: The budget is used up, or the keys are nested too deeply.
        """
        kinds = set(map(type, keys)) - _CHEAP_KEYS
        if kinds == {int}:
            self.spend(sum(key.bit_length() for key in keys if type(key) is int) >> _WORD)
        elif kinds:
            self.spend_on_tree(keys, (tuple,))

    def spend_on_tree(self, items: Iterable[Any], containers: tuple[type, ...]) -> None:
        """Spend the cost of visiting items and their contents, counting every reference.

        Raises:
            UntrustedResult: The budget is used up, or the items are nested too deeply.
        """
        level = list(items)
        for _ in range(MAX_NESTING):
            if not level:
                return
            self.spend(sum(key.bit_length() for key in level if type(key) is int) >> _WORD)
            nested: list[Any] = [item for item in level if isinstance(item, containers)]
            self.spend(len(level) + sum(map(len, nested)))
            level = [item for inner in nested for item in inner]
        raise _nested()


class NestingLimit:
    """Limit on the depth of containers that Python and numpy free recursively, on the C stack.

    Lists, dicts, tuples and sets are not counted: Python frees them iteratively.
    """

    def __init__(self) -> None:  # noqa: D107
        self._kinds: set[type] = {collections.deque, collections.defaultdict}
        self._depths: dict[
            int, int
        ] = {}  # by identity; without an entry: contains no counted containers
        self._contained: set[int] = set()

    def limit(self, kind: type) -> None:
        """Count the containers of another type."""
        self._kinds.add(kind)

    def put(self, container: Any, items: Iterable[Any]) -> None:
        """Record that a container of a counted type gets items.

        A container that is within another one must not get more containers, so that depths are final.

        Raises:
            UntrustedResult: The containers are nested too deeply, or contain themselves.
        """
        inner = [id(item) for item in items if type(item) in self._kinds]
        if not inner:
            return
        depth = 1 + max(self._depths.get(each, 1) for each in inner)
        if depth > MAX_NESTING or id(container) in inner or id(container) in self._contained:
            raise _nested()
        self._depths[id(container)] = max(depth, self._depths.get(id(container), 1))
        self._contained.update(inner)


def _nested() -> UntrustedResult:
    return UntrustedResult(
        f"it nests containers more than {MAX_NESTING} levels deep where Python could not free or "
        "hash them, or puts one into itself"
    )
