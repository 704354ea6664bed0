"""Run state: the state, action, record and result of each node of one run, and the units in flight."""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from functionfuse._execution.groups import Groups
from functionfuse._execution.ready_queue import ReadyQueue
from functionfuse._execution.reference_counts import RefCounts
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.units import Record
    from functionfuse.engine import Engine

__all__ = ["NodeState", "RunState", "Submitted"]

H = TypeVar("H")


class NodeState(IntEnum):
    """The state of a node in one run."""

    SKIPPED = 0  # not planned, or reset by recovery
    WAITING = 1  # for its parents, or in the queue of ready nodes
    IN_FLIGHT = 2
    DONE = 3
    FAILED = 4
    UPSTREAM_FAILED = 5  # it will have no value: a parent, or another node of its unit, failed


class Submitted(NamedTuple):
    """A unit in flight."""

    node: GraphNode
    time: float  # seconds since the epoch
    load: bool  # the unit reads a stored result and computes nothing
    inputs: Sequence[Any]  # the handles of its inputs, on an engine that schedules


class RunState(Generic[H]):
    """What is known of a run's nodes and units; the scheduler and recovery change it."""

    def __init__(self, spec: RunSpec, engine: Engine[H]) -> None:
        """Plan a run of which no node was added yet."""
        self.plan = spec.plan()
        # lists by node number, since a graph may be large
        self.nodes = spec.graph.order
        self.states = [NodeState.SKIPPED] * len(self.nodes)
        self.actions = [Action.SKIP] * len(self.nodes)
        self.records: list[Record | None] = [None] * len(self.nodes)
        self.failures: dict[str, BaseException] = {}
        self.queue = ReadyQueue()
        self.groups = Groups(spec, self.plan)
        self.pending: dict[H, Submitted] = {}
        # computing units that an engine that schedules has not reported: their results are inputs of others
        self.unreported: set[H] = set()
        self.may_keep = Action.MAYBE in self.plan.actions.values()
        # a loaded result may be damaged, and a node that was to be kept may be computed:
        # then results of units in flight may be needed again
        reads = self.plan.reads or (spec.results is not None and spec.results.always_read)
        self.releases_early = engine.capabilities.releases_early and not reads
        self.results = RefCounts(
            engine,
            len(self.nodes),
            self.pending if engine.capabilities.schedules else (),
            release_early=self.releases_early,
        )
        # in graph order, parents of an inline engine's nodes are done: nothing has to wait
        self._in_order = engine.capabilities.inline and not self.groups

    @cached_property
    def children(self) -> list[list[int]]:
        """The numbers of the nodes that take the result of each node."""
        children: list[list[int]] = [[] for _ in self.nodes]
        for node in self.nodes:
            for parent in node.parents:
                children[parent].append(node.number)
        return children

    def is_open(self, node: GraphNode) -> bool:
        """Tell whether a node was added to the run and is not done."""
        state = self.states[node.number]
        return state is NodeState.WAITING or state is NodeState.IN_FLIGHT

    def will_compute(self, node: GraphNode) -> bool:
        """Tell whether a node was added to be computed, and is not done."""
        return self.actions[node.number] is Action.COMPUTE and self.is_open(node)

    def has_failed(self, number: int) -> bool:
        """Tell whether a node will have no value in this run."""
        state = self.states[number]
        return state is NodeState.FAILED or state is NodeState.UPSTREAM_FAILED

    def add(self, planned: Iterable[tuple[GraphNode, Action]]) -> list[GraphNode]:
        """Add planned nodes to the run; return those that are not skipped."""
        added: list[GraphNode] = []
        states, actions, waiting = self.states, self.actions, NodeState.WAITING
        for node, action in planned:
            if action is not Action.SKIP:
                actions[node.number] = action
                states[node.number] = waiting
                added.append(node)
                if action is Action.COMPUTE:
                    self.results.retain(node.parents)
        return added

    def enqueue(self, nodes: Sequence[GraphNode]) -> None:
        """Make nodes ready, or let them wait for their parents; nodes that may be kept wait elsewhere."""
        if self.may_keep:
            nodes = [node for node in nodes if self.actions[node.number] is not Action.MAYBE]
        if not self._in_order:
            for node in nodes:
                self._wait_for_parents(node)
        leaders = [node.number for node in nodes]
        if self.groups:
            leaders = [number for number in leaders if number == self.groups.leader(number)]
        self.queue.push(leaders)

    def _wait_for_parents(self, node: GraphNode) -> None:
        if self.actions[node.number] is Action.LOAD:
            return
        leader = self.groups.leader(node.number)
        parents = [
            parent
            for parent in node.parents
            if self._blocks_children(parent) and self.groups.leader(parent) != leader
        ]
        self.queue.wait(leader, parents)

    def _blocks_children(self, parent: int) -> bool:
        """Tell whether the children of a node cannot be submitted yet.

        An engine that schedules takes them as soon as the parent is submitted,
        but not before a stored result is loaded: it may turn out to be damaged.
        """
        return self.is_open(self.nodes[parent]) and self.results[parent] not in self.unreported

    def deliver(self, handle: H, numbers: Sequence[int]) -> None:
        """Set the handle of the results of some nodes, and unblock their children."""
        self.results.set_handle(handle, numbers)
        self.queue.unblock_children(numbers)

    def mark_upstream_failed(self, node: GraphNode) -> None:
        """Record that a node, and the other nodes of its unit, will have no value."""
        for other in self.groups.pop_in_flight(node):
            self.states[other.number] = NodeState.UPSTREAM_FAILED
            self.results.discard(other.number)
