"""Handles of submitted units, and the units for which each waits.

A unit's result stays on the workers as long as the client has the future of its task, or a dependent requires it.
So the future is released as soon as all dependents are submitted, and one of them waits for no other unit.
The outcome of the unit is then observed at the future of that dependent, or of a dependent of it.
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
    """A submitted unit, or one that could not be submitted."""

    name: str
    key: str
    number: int  # in the order of submission
    future: Future[Any] | None = None
    literals: Sequence[BroadcastRef[Future[Any]]] = ()
    record: Record | None = None
    error: BaseException | None = None
    upstream_failed: bool = False
    pending_inputs: set[Handle] = field(default_factory=set)  # its inputs that were not reported
    dependents: list[Handle] = field(default_factory=list)
    reported: bool = False  # to the scheduler of the run
    released: bool = False  # its result is not fetched
    value: Any = None  # once it was fetched

    @property
    def failed(self) -> bool:
        """Tell whether the unit will have no result."""
        return self.upstream_failed or self.error is not None

    def wait_for(self, inputs: Iterable[Handle]) -> None:
        """Let this unit be reported after its inputs."""
        self.pending_inputs = set(inputs)
        for parent in self.pending_inputs:
            parent.dependents.append(self)

    def report_to_dependents(self) -> list[Handle]:
        """Remove this unit from the inputs of its dependents; return those that can be reported now."""
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
        """Mark all transitive dependents: their futures do not show the outcome of other inputs."""
        waiting = [*self.dependents]
        while waiting:
            child = waiting.pop()
            if not child.upstream_failed:
                child.upstream_failed = True
                waiting += child.dependents

    def unfinished_ancestors(self) -> list[Handle]:
        """The unit and its upstream units without a known outcome, in the order of submission."""
        found: set[Handle] = set()
        waiting = [self]
        while waiting:
            handle = waiting.pop()
            if handle not in found and handle.record is None and not handle.failed:
                found.add(handle)
                waiting += handle.pending_inputs
        return sorted(found, key=attrgetter("number"))

    def release_if_observable(self) -> None:
        """Release the result, if the outcome of the unit is known or can be observed at a dependent."""
        if (
            self.reported
            or self.record is not None
            or any(map(self._is_only_input_of, self.dependents))
        ):
            self.release_future()

    def _is_only_input_of(self, child: Handle) -> bool:
        """Tell whether a dependent waits for this unit alone: then it fails upstream only with this unit.

        If another input failed, Dask would cancel this unit while it runs, since no future and no task requires it.
        """
        return not child.failed and child.pending_inputs == {self}

    def release_future(self) -> None:
        """Release the future and the fetched result."""
        future, self.future, self.value = self.future, None, None
        if future is not None:
            future.release()  # callbacks may still refer to the future


def observable_handle(handle: Handle) -> Handle | None:
    """The unit, or a dependent, at whose future its outcome is observed; None if all were cancelled."""
    waiting, seen = [handle], {handle}
    while waiting:
        other = waiting.pop()
        if other.future is not None:
            return other
        waiting += [child for child in other.dependents if child not in seen]
        seen.update(other.dependents)
    return None
