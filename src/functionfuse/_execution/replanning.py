"""Replan a run: find how nodes get values that the plan did not foresee, and add what that requires.

A result is needed after all if a stored one is damaged, or if a node that was to be kept is computed.
The walk goes from the needed nodes upstream, and ends at results that are in use or can be loaded.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar

from functionfuse._execution.run_state import NodeState
from functionfuse._graph.nodes import Kind
from functionfuse._provenance.announcement import announce
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Sequence

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._execution.run_state import RunState
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.units import Record

__all__ = ["Replanner"]

H = TypeVar("H")


class Replanner(Generic[H]):
    """Adds nodes to a run whose values are needed after all; failed nodes are not tried again."""

    def __init__(self, spec: RunSpec, run: RunState[H]) -> None:
        """Begin with the run's plan.

        Args:
            spec: The run.
            run: The state of the run.
        """
        #: Nodes whose stored results are damaged and were not stored again yet.
        self.damaged: set[str] = set()
        #: Nodes that are computed although the plan would have kept their results.
        self.changed: set[int] = set()
        self._spec = spec
        self._run = run
        self._provenance = run.plan.provenance
        self._loadable: set[int] = set()  # stored or kept by this run
        self._stored: Container[str] = frozenset()  # without fingerprints
        self._called: set[int] = set()  # reset methods: they may have changed their instances

    def mark_loadable(self, node: GraphNode) -> None:
        """Record that the stored result of a node is the one that this run would compute."""
        self._loadable.add(node.number)

    def mark_stored(self, record: Record) -> None:
        """Record that a unit stored its results, as far as it did."""
        for part in record.subrecords or (record,):
            if part.nbytes is not None or part.digest is not None or part.status == "loaded":
                self.mark_loadable(self._spec.graph.nodes[part.name])

    def reset(self, nodes: Iterable[GraphNode], dependents: Collection[int]) -> None:
        """Reset some nodes to skipped, without record and result.

        Args:
            nodes: The nodes.
            dependents: All nodes downstream of the damaged result; they run again.
        """
        run = self._run
        for node in nodes:
            number = node.number
            called = run.actions[number] is Action.COMPUTE
            if called and node.state is not None and node.state.number not in dependents:
                self._called.add(number)
            run.actions[number], run.states[number] = Action.SKIP, NodeState.SKIPPED
            self._discard(number)

    def add(self, wanted: Sequence[GraphNode]) -> list[GraphNode]:
        """Add nodes that were reset or skipped, with their dependencies; return those that were added."""
        self._drop_repaired()
        self._stored = frozenset() if self._provenance else self._spec.stored()
        planned = self._plan(wanted)
        self._announce_stale(planned)
        for node, _ in planned:
            self._discard(node.number)
        return self._run.add(planned)

    def _announce_stale(self, planned: Iterable[tuple[GraphNode, Action]]) -> None:
        """Warn of stale results that are loaded although the plan did not foresee it.

        Raises:
            StaleResultError: One of them is an error by `on_stale`.
        """
        if self._provenance is not None:
            loaded = [node.number for node, action in planned if action is Action.LOAD]
            foreseen = self._provenance.announced
            if not foreseen.issuperset(loaded):
                announce(self._spec.workflow, self._provenance, loaded, ())

    def _drop_repaired(self) -> None:
        states, nodes = self._run.states, self._spec.graph.nodes
        ended = NodeState.DONE, NodeState.FAILED
        self.damaged -= {name for name in self.damaged if states[nodes[name].number] in ended}

    def _discard(self, number: int) -> None:
        """Drop the record and the result of a node."""
        run = self._run
        record, run.records[number] = run.records[number], None
        if record is not None:
            self.mark_stored(record)
        run.results.drop(number)

    def _plan(self, wanted: Sequence[GraphNode]) -> list[tuple[GraphNode, Action]]:
        """Plan, in graph order, how some nodes get their values.

        Dependents are planned before their dependencies, so a node is planned when all its uses are known.
        """
        run, instances = self._run, self._used_instances(wanted)
        repeated: set[int] = set()  # earlier calls of instances that a later call may have changed
        waiting = sorted({-node.number for node in wanted})
        actions: dict[int, Action] = {}
        while waiting:
            number = -heappop(waiting)
            node = run.nodes[number]
            if number in actions or self._is_under_way(node):
                continue
            action = self._action(node, needs_instance=number in instances)
            if number in repeated:
                action = Action.COMPUTE
            actions[number] = action
            if action is not Action.COMPUTE:
                continue
            for parent in node.parents:
                heappush(waiting, -parent)
            self._judge(node.parents)
            if self._spec.graph.has_instances:
                instances |= node.instance_parents
                repeated.update(self._earlier_calls(node))
        return [
            (run.nodes[number], action)
            for number, action in sorted(actions.items())
            if action is not Action.SKIP
        ]

    def _used_instances(self, wanted: Sequence[GraphNode]) -> set[int]:
        """Those of the wanted nodes whose instances are used: by targets, or by nodes that run."""
        graph, run = self._spec.graph, self._run
        if not graph.has_instances:
            return set()
        numbers = {node.number for node in wanted}
        used = {ref.number for ref in graph.targets if ref.slot == "state"} & numbers
        for node in wanted:
            for child in map(run.nodes.__getitem__, run.children[node.number]):
                if child.number in numbers or run.will_compute(child):
                    used.update(child.instance_parents & {node.number})
        return used

    def _is_under_way(self, node: GraphNode) -> bool:
        """Tell whether a node was added already with all that it needs, or has failed."""
        run = self._run
        waits = run.actions[node.number] is Action.MAYBE and run.is_open(node)
        return waits or run.will_compute(node) or run.has_failed(node.number)

    def _action(self, node: GraphNode, *, needs_instance: bool) -> Action:
        """How a node gets its value: it is skipped if it has one, or is about to have it."""
        run, number = self._run, node.number
        if needs_instance:
            has_instance = run.actions[number] is Action.COMPUTE and run.results[number] is not None
            return Action.SKIP if has_instance else Action.COMPUTE
        if run.results[number] is not None or run.is_open(node):
            return Action.SKIP
        return Action.LOAD if self._can_be_loaded(node) else Action.COMPUTE

    def _can_be_loaded(self, node: GraphNode) -> bool:
        """Tell whether the result of a node is stored, and neither damaged nor stale."""
        number, name = node.number, node.name
        if node.kind is Kind.CONSTRUCT or name in self._spec.always_run or name in self.damaged:
            return False
        record = self._run.records[number]
        if record is not None:
            self.mark_stored(record)
        if number in self._loadable:
            return True
        if self._provenance is None:
            return name in self._stored
        return number not in self.changed and self._provenance.may_load(number)

    def _judge(self, numbers: Iterable[int]) -> None:
        """Read the headers of stored results that may be loaded, in one call of the storage."""
        results, nodes = self._run.results, self._run.nodes
        if self._provenance is not None:
            without = [n for n in numbers if results[n] is None and not self._run.is_open(nodes[n])]
            self._provenance.judge(without)

    def _earlier_calls(self, node: GraphNode) -> Iterable[int]:
        """The call before a method that runs again, if the instance may have changed since."""
        run, number = self._run, node.number
        if node.state is None:
            return ()
        done = run.actions[number] is Action.COMPUTE and not run.is_open(node)
        before = run.nodes[node.state.number]
        over = not run.is_open(before) and not run.has_failed(before.number)
        return (before.number,) if (done or number in self._called) and over else ()
