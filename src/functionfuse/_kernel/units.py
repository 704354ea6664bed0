"""What travels to a worker, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._graph.graph import GraphNode
    from functionfuse.storage.base import Results

__all__ = [
    "GroupResult",
    "InstanceResult",
    "Outcome",
    "Record",
    "Status",
    "Unit",
]

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
    subrecords: Sequence[Record] = ()  # of the steps that ran together as this one


class Outcome(NamedTuple):
    """What comes back from a worker."""

    value: Any
    record: Record


@dataclass(slots=True)
class InstanceResult:
    """The value of a constructor or a method: what it returned, and the instance that it leaves."""

    state: Any
    value: Any


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The values of steps that ran together, by their numbers: those that somebody else needs."""

    values: Mapping[int, Any]


class Unit(NamedTuple):
    """What travels to a worker: one step, or several that run together, and what running it takes."""

    node: GraphNode
    workflow: str
    engine: str = ""
    storage: Results | None = None  # None: neither looked at nor saved to
    load: bool = False  # the result is stored, and only its value is needed
    setup: Callable[[], object] | None = None  # what a plugin's remote_initialize() returned
    exclusive_instance: bool = (
        False  # no other step and no target takes the instance that this METHOD takes
    )
    subunits: Sequence[Unit] = ()  # what runs together: then `node` stands for all of them
    outputs: tuple[int, ...] = ()  # the numbers of those parts whose values somebody else needs
    recompute: bool = False  # the stored result is damaged: replace it instead of loading it
