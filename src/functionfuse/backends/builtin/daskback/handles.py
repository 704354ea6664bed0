"""Units that Dask has, and which of them wait for which.

A unit's value stays on the workers as long as the client holds the future of its task, or another task needs it.
So the future is let go as soon as all tasks that take the value are there, and one of them waits for nothing else.
What becomes of the unit is then seen at the future of that task, or of one that takes its value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from distributed import Future

    from functionfuse._kernel.units import Record
    from functionfuse._transport.broadcast import Lent

__all__ = ["Handle", "seen_at"]


@dataclass(eq=False, slots=True)
class Handle:
    """A unit that Dask has, or that it could not be given."""

    name: str
    key: str
    number: int  # in the order of submission
    future: Future[Any] | None = None
    literals: Sequence[Lent[Future[Any]]] = ()
    record: Record | None = None
    error: BaseException | None = None
    lost: bool = False  # something that it needs has failed
    waits_for: set[Handle] = field(default_factory=set)  # those of its inputs that were not told
    awaiting: list[Handle] = field(default_factory=list)  # those that take it
    told: bool = False  # to the runner
    unneeded: bool = False  # nobody will ask for the value
    value: Any = None  # once it was fetched

    @property
    def failed(self) -> bool:
        """Tell whether it has no value and will have none."""
        return self.lost or self.error is not None

    def wait_for(self, inputs: Iterable[Handle]) -> None:
        """Be told after some others."""
        self.waits_for = set(inputs)
        for parent in self.waits_for:
            parent.awaiting.append(self)

    def tell_those_that_wait(self) -> list[Handle]:
        """Let others wait for this one no longer; gives those that can be told now."""
        if self.failed:
            self._lose_those_that_wait()
        ready = []
        for child in self.awaiting:
            child.waits_for.remove(self)
            if not child.waits_for and (child.record is not None or child.failed):
                ready.append(child)
        self.awaiting.clear()
        return ready

    def _lose_those_that_wait(self) -> None:
        """Note it of all at once: none of them tells anything about what else they wait for."""
        waiting = [*self.awaiting]
        while waiting:
            child = waiting.pop()
            if not child.lost:
                child.lost = True
                waiting += child.awaiting

    def leading_here(self) -> list[Handle]:
        """What this one waits for and what is not known to have ended, and itself; in the order of submission."""
        found: set[Handle] = set()
        waiting = [self]
        while waiting:
            handle = waiting.pop()
            if handle not in found and handle.record is None and not handle.failed:
                found.add(handle)
                waiting += handle.waits_for
        return sorted(found, key=attrgetter("number"))

    def let_go(self) -> None:
        """Let the value go, if what becomes of the unit is known or will be seen elsewhere."""
        if self.told or self.record is not None or any(map(self._is_all_for, self.awaiting)):
            self.drop()

    def _is_all_for(self, child: Handle) -> bool:
        """Tell whether a unit waits for this one alone: then it has no value only if this one has none.

        If it failed over something else, Dask would give up what nobody holds and needs any more, also while that runs.
        """
        return not child.failed and child.waits_for == {self}

    def drop(self) -> None:
        """Let the value go."""
        future, self.future, self.value = self.future, None, None
        if future is not None:
            future.release()  # what waits to hear of it may keep it


def seen_at(handle: Handle) -> Handle | None:
    """Where to see what becomes of a unit: itself, or one that waits for it; none if all were taken back."""
    waiting, seen = [handle], {handle}
    while waiting:
        other = waiting.pop()
        if other.future is not None:
            return other
        waiting += [child for child in other.awaiting if child not in seen]
        seen.update(other.awaiting)
    return None
