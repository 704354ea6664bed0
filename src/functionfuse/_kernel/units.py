"""Units of work that are sent to workers, and their outcomes and records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from functionfuse._graph.graph import new_tuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._context.caller_context import CallerContext
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.seeding import NodeSeeding
    from functionfuse.storage.base import Results

__all__ = [
    "GroupResult",
    "Guard",
    "InstanceResult",
    "Outcome",
    "Record",
    "Status",
    "Unit",
]

#: The status of a node that ran; "cached": the result came from the engine's own cache.
Status = Literal["computed", "loaded", "cached", "failed"]


class Record(NamedTuple):
    """The record of one node in one run."""

    name: str
    status: Status
    started: float  # seconds since the epoch
    seconds: float  # in the worker: loading, set-up, the call and saving
    worker: str  # host and process
    nbytes: int | None  # stored size, if the storage reports one
    subrecords: Sequence[Record] = ()  # of the nodes of a group
    messages: Sequence[bytes] = ()  # log records and warnings of a worker process
    digest: str | None = None  # of the stored value, if the storage reports one


class Outcome(NamedTuple):
    """The value and the record of a unit that ran."""

    value: Any
    record: Record


class Guard(Protocol):
    """Makes the call of a node, and looks after its arguments."""

    def call(
        self,
        compute: Callable[[GraphNode, Sequence[Any], Mapping[str, Any]], Any],
        node: GraphNode,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Compute a node."""


@dataclass(slots=True)
class InstanceResult:
    """The value of a constructor or a method: its result, and the instance after the call."""

    state: Any
    value: Any


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The values of a group's nodes that are used outside the group, by node number."""

    values: Mapping[int, Any]


class Unit(NamedTuple):
    """A unit of work: a node, or a group of nodes, with everything that a worker needs to run it."""

    node: GraphNode
    workflow: str
    engine: str = ""
    storage: Results | None = None  # None: nothing is loaded or saved
    load: bool = False  # the result is stored: read it
    #: The function that a plugin's remote_initialize() returned, or the seeds of a node.
    setup: Callable[[], object] | NodeSeeding | None = None
    exclusive_instance: bool = False  # no other node and no target uses the instance of this METHOD
    subunits: Sequence[Unit] = ()  # of a group: `node` then represents all of them
    outputs: tuple[
        int, ...
    ] = ()  # the numbers of the nodes whose values are used outside the group
    recompute: bool = False  # the stored result is damaged: replace it instead of loading it
    context: CallerContext | None = (
        None  # what surrounds the call; None: it is in the caller's thread
    )
    guard: Guard | None = None  # of the arguments
    fingerprint: Mapping[str, Any] | None = None  # what the result depends on, for its header
    replace: bool = True  # a stored result that depends on something else is replaced

    def __reduce__(self) -> tuple[Any, ...]:
        # the context first: it extends the path on which the modules of functions are found
        return _unit, (self.context, tuple(self))


def _unit(_: CallerContext | None, fields: tuple[Any, ...]) -> Unit:
    return new_tuple(Unit, fields)
