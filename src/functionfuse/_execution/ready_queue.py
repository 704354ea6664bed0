"""Ready queue: nodes that wait for their parents, and a heap of nodes that can be submitted."""

from __future__ import annotations

from collections import defaultdict
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ReadyQueue"]

#: Sorting takes longer than adding one by one if the queue has this many times as many nodes.
_FEW: Final = 8


class ReadyQueue:
    """The numbers of nodes that are not submitted; the first in graph order is submitted first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._ready: list[int] = []
        self._missing_parents: dict[int, int] = {}  # by waiting node
        self._children: defaultdict[int, list[int]] = defaultdict(list)  # that wait for a node

    def __bool__(self) -> bool:
        """Tell whether a node is ready."""
        return bool(self._ready)

    def pop(self) -> int:
        """Return the first ready node."""
        return heappop(self._ready)

    def wait(self, number: int, parents: Sequence[int]) -> None:
        """Let a node wait for parents, in addition to those for which it waits already."""
        for parent in parents:
            self._children[parent].append(number)
        if parents:
            self._missing_parents[number] = self._missing_parents.get(number, 0) + len(parents)

    def push(self, numbers: Iterable[int]) -> None:
        """Add nodes; those that wait for parents are not ready yet."""
        new = [number for number in numbers if number not in self._missing_parents]
        if len(new) * _FEW < len(self._ready):
            for number in new:
                heappush(self._ready, number)
        else:
            self._ready += new
            self._ready.sort()  # a sorted list is a heap

    def unblock_children(self, parents: Iterable[int]) -> None:
        """Let no node wait for these parents any more."""
        if not self._children:
            return
        for parent in parents:
            for number in self._children.pop(parent, ()):
                self._missing_parents[number] -= 1
                if not self._missing_parents[number]:
                    del self._missing_parents[number]
                    heappush(self._ready, number)

    def clear(self) -> None:
        """Remove all nodes."""
        self._ready.clear()
        self._missing_parents.clear()
        self._children.clear()
