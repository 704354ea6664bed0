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
    from functionfuse._transport.broadcast import BroadcastRef

__all__ = ["Handle", "observable_handle"]


@dataclass(eq=False, slots=True)
class Handle:
    """A unit that Dask has, or that it could not be given."""

    name: str
    key: str
    number: int  # in the order of submission
    future: Future[Any] | None = None
    literals: Sequence[BroadcastRef[Future[Any]]] = ()
    record: Record | None = None
    error: BaseException | None = None
    upstream_failed: bool = False  # something that it needs has failed
    pending_inputs: set[Handle] = field(
        default_factory=set
    )  # those of its inputs that were not told
    dependents: list[Handle] = field(default_factory=list)  # those that take it
    reported: bool = False  # to the runner
    released: bool = False  # nobody will ask for the value
    value: Any = None  # once it was fetched

    @property
    def failed(self) -> bool:
        """Tell whether it has no value and will have none."""
        return self.upstream_failed or self.error is not None

    def wait_for(self, inputs: Iterable[Handle]) -> None:
        """Be told after some others."""
        self.pending_inputs = set(inputs)
        for parent in self.pending_inputs:
            parent.dependents.append(self)

    def report_to_dependents(self) -> list[Handle]:
        """Let others wait for this one no longer; gives those that can be told now."""
        if self.failed:
            self._fail_dependents()
        ready = []
        for child in self.dependents:
            child.pending_inputs.remove(self)
            if not child.pending_inputs and (child.record is not None or child.failed):
                ready.append(child)
        self.dependents.clear()
        return ready

    def _fail_dependents(self) -> None:
        """Note it of all at once: none of them tells anything about what else they wait for."""
        waiting = [*self.dependents]
        while waiting:
            child = waiting.pop()
            if not child.upstream_failed:
                child.upstream_failed = True
                waiting += child.dependents

    def unfinished_ancestors(self) -> list[Handle]:
        """What this one waits for and what is not known to have ended, and itself; in the order of submission."""
        found: set[Handle] = set()
        waiting = [self]
        while waiting:
            handle = waiting.pop()
            if handle not in found and handle.record is None and not handle.failed:
                found.add(handle)
                waiting += handle.pending_inputs
        return sorted(found, key=attrgetter("number"))

    def release_if_observable(self) -> None:
        """Let the value go, if what becomes of the unit is known or will be seen elsewhere."""
        if (
            self.reported
            or self.record is not None
            or any(map(self._is_only_input_of, self.dependents))
        ):
            self.release_future()

    def _is_only_input_of(self, child: Handle) -> bool:
        """Tell whether a unit waits for this one alone: then it has no value only if this one has none.

        If it failed over something else, Dask would give up what nobody holds and needs any more, also while that runs.
        """
        return not child.failed and child.pending_inputs == {self}

    def release_future(self) -> None:
        """Let the value go."""
        future, self.future, self.value = self.future, None, None
        if future is not None:
            future.release()  # what waits to hear of it may keep it


def observable_handle(handle: Handle) -> Handle | None:
    """Where to see what becomes of a unit: itself, or one that waits for it; none if all were taken back."""
    waiting, seen = [handle], {handle}
    while waiting:
        other = waiting.pop()
        if other.future is not None:
            return other
        waiting += [child for child in other.dependents if child not in seen]
        seen.update(other.dependents)
    return None
