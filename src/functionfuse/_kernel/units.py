"""What travels to a worker, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Mapping

    from functionfuse._graph.builder import WrittenGraph
    from functionfuse._graph.graph import Graph, Step
    from functionfuse.storage.base import Results

__all__ = ["Outcome", "Record", "Stateful", "Status", "Timings", "Together", "Unit", "Whole"]

#: What became of a step; "cached": the engine's own cache had it.
Status = Literal["computed", "loaded", "cached", "failed"]


class Record(NamedTuple):
    """What is known of one step of a run."""

    name: str
    status: Status
    started: float  # seconds since the epoch
    seconds: float  # in the worker: reading, set-up, the call and saving
    worker: str  # host and process
    nbytes: int | None  # stored size, where the storage tells
    parts: Sequence[Record] = ()  # of the steps that ran together as this one


class Outcome(NamedTuple):
    """What comes back from a worker."""

    value: Any
    record: Record


@dataclass(slots=True)
class Stateful:
    """The value of a constructor or a method: what it returned, and the instance that it leaves."""

    state: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Together:
    """The values of steps that ran together, by their numbers: those that somebody else needs."""

    values: Mapping[int, Any]


class Unit(NamedTuple):
    """What travels to a worker: one step, or several that run together, and what running it takes."""

    step: Step
    workflow: str
    engine: str = ""
    storage: Results | None = None  # None: neither looked at nor saved to
    load: bool = False  # the result is stored, and only its value is needed
    setup: Callable[[], object] | None = None  # what a plugin's remote_initialize() returned
    sole: bool = False  # no other step and no target takes the instance that this METHOD takes
    parts: Sequence[Unit] = ()  # what runs together: then `step` stands for all of them
    keep: tuple[int, ...] = ()  # the numbers of those parts whose values somebody else needs
    recompute: bool = False  # the stored result is damaged: replace it instead of loading it


@dataclass(frozen=True, slots=True)
class Whole(Sequence[Unit]):
    """All steps of a graph, which are only computed: nothing is stored or set up.

    Their units are made when somebody looks at them.
    """

    graph: WrittenGraph
    workflow: str
    engine: str

    def __len__(self) -> int:
        return len(self.graph)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._unit(step) for step in self.graph.order[index]]
        return self._unit(self.graph.order[index])

    def _unit(self, step: Step) -> Unit:
        sole = step.state is not None and self.graph.state_readers[step.state.number] == 1
        return Unit(step, self.workflow, self.engine, sole=sole)


@dataclass(frozen=True, slots=True)
class Timings(Sequence[Record]):
    """The records of steps that were computed one after the other; they are made when somebody looks at them."""

    graph: Graph
    started: float  # seconds since the epoch
    ends: array[float]  # seconds after that
    worker: str

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self.ends))[index]
        if isinstance(number, range):
            return [self[part] for part in number]
        before = self.ends[number - 1] if number else 0.0
        seconds = self.ends[number] - before
        return Record(
            self.graph.order[number].name,
            "computed",
            self.started + before,
            seconds,
            self.worker,
            None,
        )
