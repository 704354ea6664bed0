"""Who still needs the values of a run's steps: each is let go when its last consumer has it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from functionfuse.engine import Engine

__all__ = ["Values"]

H = TypeVar("H")


class Values(Generic[H]):
    """The values that are in use, by the numbers of their steps, as the handles that stand for them."""

    def __init__(
        self, engine: Engine[H], count: int, flying: Collection[H], *, early: bool
    ) -> None:
        """Begin with none.

        Args:
            engine: Which has them.
            count: How many steps there are.
            flying: The handles of what is not done.
            early: Let go of what is not done, too; the engine keeps what it still needs.
        """
        self._engine = engine
        self._flying = flying
        self._early = early
        self._uses = [0] * count  # how many still need the value
        self._handles: list[H | None] = [None] * count
        self._shared: Counter[int] = Counter()  # how many values in use a group's handle has, by id

    def __getitem__(self, number: int) -> Any:
        """The handle that stands for a value; None if there is none."""
        return self._handles[number]

    def uses(self, number: int) -> int:
        """How many still need a value."""
        return self._uses[number]

    def need(self, numbers: Iterable[int]) -> None:
        """Count one more consumer of some values."""
        for number in numbers:
            self._uses[number] += 1

    def keep(self, handle: H, numbers: Sequence[int]) -> None:
        """Let a handle stand for the values of some steps, as far as somebody needs them."""
        for number in numbers:
            if self._uses[number] and self._handles[number] is not handle:
                self._handles[number] = handle
                if len(numbers) > 1:
                    self._shared[id(handle)] += 1

    def is_kept(self, handle: H) -> bool:
        """Tell whether a group's handle stands for anything."""
        return id(handle) in self._shared

    def taken(self, numbers: Iterable[int]) -> None:
        """Note that a consumer has some values; those that nobody else needs are let go."""
        uses = self._uses
        for number in numbers:
            uses[number] -= 1
            if not uses[number] and self._handles[number] is not None:
                self.let_go(number)

    def settle_within(self, uses: Counter[int]) -> None:
        """Do not count consumers that run together with what they take."""
        for number, count in uses.items():
            self._uses[number] -= count

    def let_go(self, number: int) -> None:
        """Forget a value; the engine's part of it, too, if it stands for no other."""
        handle, self._handles[number] = self._handles[number], None
        assert handle is not None
        if id(handle) in self._shared:
            self._shared[id(handle)] -= 1
            if self._shared[id(handle)]:
                return
            del self._shared[id(handle)]
        if self._early or handle not in self._flying:
            self._engine.release(handle)

    def drop(self, number: int) -> None:
        """Forget a value, if there is one."""
        if self._handles[number] is not None:
            self.let_go(number)

    def lose(self, number: int) -> None:
        """Note that there is no value and will be none."""
        self._handles[number] = None
