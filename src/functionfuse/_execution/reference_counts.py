"""Reference-count intermediate results and release each after its last consumer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from functionfuse.engine import Engine

__all__ = ["RefCounts"]

H = TypeVar("H")


class RefCounts(Generic[H]):
    """The reference counts of nodes' results, and the engine's handles of them, by node number."""

    def __init__(
        self, engine: Engine[H], count: int, in_flight: Collection[H], *, release_early: bool
    ) -> None:
        """Begin without results.

        Args:
            engine: The engine that made the handles.
            count: The number of nodes.
            in_flight: The handles of units in flight.
            release_early: Release units in flight, too; the engine keeps what their dependents need.
        """
        self._engine = engine
        self._in_flight = in_flight
        self._release_early = release_early
        self._counts = [0] * count  # consumers that were not submitted yet
        self._handles: list[H | None] = [None] * count
        self._shared: Counter[int] = Counter()  # results in use by the id of their group's handle

    def __getitem__(self, number: int) -> Any:
        """The handle of a result; None without a result."""
        return self._handles[number]

    def count(self, number: int) -> int:
        """The number of consumers that a result still has."""
        return self._counts[number]

    def retain(self, numbers: Iterable[int]) -> None:
        """Count one more consumer of some results."""
        for number in numbers:
            self._counts[number] += 1

    def set_handle(self, handle: H, numbers: Sequence[int]) -> None:
        """Set the handle of the results of some nodes, where they have consumers."""
        for number in numbers:
            if self._counts[number] and self._handles[number] is not handle:
                self._handles[number] = handle
                if len(numbers) > 1:
                    self._shared[id(handle)] += 1

    def is_referenced(self, handle: H) -> bool:
        """Tell whether a result of a group's handle has consumers."""
        return id(handle) in self._shared

    def release(self, numbers: Iterable[int]) -> None:
        """Count one consumer less of some results; release those without consumers."""
        uses = self._counts
        for number in numbers:
            uses[number] -= 1
            if not uses[number] and self._handles[number] is not None:
                self.release_handle(number)

    def release_internal(self, uses: Counter[int]) -> None:
        """Count less consumers of results that are used within the same unit."""
        for number, count in uses.items():
            self._counts[number] -= count

    def release_handle(self, number: int) -> None:
        """Release a result; its handle as well, unless another result has the same."""
        handle, self._handles[number] = self._handles[number], None
        assert handle is not None
        if id(handle) in self._shared:
            self._shared[id(handle)] -= 1
            if self._shared[id(handle)]:
                return
            del self._shared[id(handle)]
        if self._release_early or handle not in self._in_flight:
            self._engine.release(handle)

    def drop(self, number: int) -> None:
        """Release a result, if there is one."""
        if self._handles[number] is not None:
            self.release_handle(number)

    def discard(self, number: int) -> None:
        """Forget the handle of a unit that failed."""
        self._handles[number] = None
