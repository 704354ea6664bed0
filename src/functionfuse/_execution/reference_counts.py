"""Who still needs the values of a run's steps: each is let go when its last consumer has it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from functionfuse.engine import Engine

__all__ = ["RefCounts"]

H = TypeVar("H")


class RefCounts(Generic[H]):
    """The values that are in use, by the numbers of their steps, as the handles that stand for them."""

    def __init__(
        self, engine: Engine[H], count: int, in_flight: Collection[H], *, release_early: bool
    ) -> None:
        """Begin with none.

        Args:
            engine: Which has them.
            count: How many steps there are.
            in_flight: The handles of what is not done.
            release_early: Let go of what is not done, too; the engine keeps what it still needs.
        """
        self._engine = engine
        self._in_flight = in_flight
        self._release_early = release_early
        self._counts = [0] * count  # how many still need the value
        self._handles: list[H | None] = [None] * count
        self._shared: Counter[int] = Counter()  # how many values in use a group's handle has, by id

    def __getitem__(self, number: int) -> Any:
        """The handle that stands for a value; None if there is none."""
        return self._handles[number]

    def count(self, number: int) -> int:
        """How many still need a value."""
        return self._counts[number]

    def retain(self, numbers: Iterable[int]) -> None:
        """Count one more consumer of some values."""
        for number in numbers:
            self._counts[number] += 1

    def set_handle(self, handle: H, numbers: Sequence[int]) -> None:
        """Let a handle stand for the values of some steps, as far as somebody needs them."""
        for number in numbers:
            if self._counts[number] and self._handles[number] is not handle:
                self._handles[number] = handle
                if len(numbers) > 1:
                    self._shared[id(handle)] += 1

    def is_referenced(self, handle: H) -> bool:
        """Tell whether a group's handle stands for anything."""
        return id(handle) in self._shared

    def release(self, numbers: Iterable[int]) -> None:
        """Note that a consumer has some values; those that nobody else needs are let go."""
        uses = self._counts
        for number in numbers:
            uses[number] -= 1
            if not uses[number] and self._handles[number] is not None:
                self.release_handle(number)

    def release_internal(self, uses: Counter[int]) -> None:
        """Do not count consumers that run together with what they take."""
        for number, count in uses.items():
            self._counts[number] -= count

    def release_handle(self, number: int) -> None:
        """Forget a value; the engine's part of it, too, if it stands for no other."""
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
        """Forget a value, if there is one."""
        if self._handles[number] is not None:
            self.release_handle(number)

    def discard(self, number: int) -> None:
        """Note that there is no value and will be none."""
        self._handles[number] = None
