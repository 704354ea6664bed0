"""Recover from damaged stored results: select the nodes that a run computes or loads again.

Damage shows when a result is loaded, or, in a lazy value, in a node that uses the result.
Then the damaged result is computed again, and with it everything computed from the damaged value:
the node that failed, and nodes whose values may still read from the damaged files.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from functionfuse._execution.run_state import NodeState
from functionfuse._graph.graph import ItemRef
from functionfuse._kernel.annotations import add_note
from functionfuse._kernel.damage import take_damage
from functionfuse.errors import DamagedResultWarning
from functionfuse.plan import Action, make_plan

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._execution.run_state import RunState
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.damage import Damage
    from functionfuse.engine import Engine

__all__ = ["Recovery"]

H = TypeVar("H")


class Recovery(Generic[H]):
    """The damaged results of one run; resets nodes in the run's state, and adds them again."""

    def __init__(self, spec: RunSpec, engine: Engine[H], run: RunState[H]) -> None:
        """Begin with no damage.

        Args:
            spec: The run.
            engine: The engine that runs the units.
            run: The state of the run.
        """
        # units in flight that use a damaged value: the nodes that run again with them
        self.outdated: dict[H, set[int]] = {}
        self._damaged: set[str] = set()  # nodes whose results are computed again, each once
        self.unusable: set[str] = set()  # of these, nodes that were not stored again yet
        self._run_spec = spec
        self._engine = engine
        self._run = run
        self._called: set[int] = set()  # reset methods: they may have changed their instances

    def recover_from(self, error: BaseException, node: GraphNode) -> bool:
        """Compute the damaged result again that made a unit fail; tell whether there was one.

        Args:
            error: The unit's exception.
            node: The unit's node.
        """
        users = self._run.groups.in_flight(node)
        damage = None if self._run.releases_early else self._damage_behind(error, users)
        if damage is not None:
            self.recover(self._run_spec.graph.nodes[damage.node], damage.problem, users)
        return damage is not None

    def recover(self, damaged: GraphNode, problem: str, users: Sequence[GraphNode]) -> None:
        """Compute a damaged result and the nodes that used it again.

        Args:
            damaged: The node whose stored result is damaged.
            problem: The reason, for the warning.
            users: The nodes of the unit that failed.
        """
        message = f"the stored result of node {damaged.name!r} is damaged and is computed again: {problem}"
        warnings.warn(message, DamagedResultWarning, stacklevel=2)
        run = self._run
        self._damaged.add(damaged.name)
        self.unusable.add(damaged.name)
        run.states[damaged.number] = NodeState.SKIPPED
        run.groups.pop_in_flight(users[0])
        dependents = self._dependents(damaged)
        used = [
            run.nodes[number]
            for number in sorted(dependents)
            if run.states[number] is NodeState.DONE and run.results[number] is not None
        ]
        dependents.update(node.number for node in users)
        self._outdate(dependents)
        nodes = {node.number: node for node in (damaged, *users, *used)}
        self._run_again([*nodes.values()], dependents)

    def rerun_outdated(self, handle: H, node: GraphNode) -> None:
        """Run a finished unit again that used a damaged value; a result that it stored is loaded."""
        dependents = self.outdated.pop(handle)
        with suppress(BaseException):  # retrieved, since engines log failures that are not
            self._engine.record(handle)
        self._engine.release(handle)
        self._run_again(self._run.groups.pop_in_flight(node), dependents)

    def _damage_behind(self, error: BaseException, users: Sequence[GraphNode]) -> Damage | None:
        """Return the damage that made a unit fail, if computing the damaged result again can help.

        Args:
            error: The unit's exception.
            users: The nodes of the unit.
        """
        damage = take_damage(error, self._run_spec.workflow)
        damaged = self._run_spec.graph.nodes.get(damage.node) if damage else None
        if damage is None or damaged is None:
            return None
        dependents = self._dependents(damaged)
        if all(node.number not in dependents for node in users):
            return None
        if damage.node in self._damaged:
            add_note(
                error,
                f"the result of node {damage.node!r} was damaged, was computed again in this run, "
                "and is damaged again: check the disk under the storage",
            )
            return None
        return damage

    def _dependents(self, damaged: GraphNode) -> set[int]:
        """Return the numbers of the computed nodes downstream of a damaged result."""
        found = {damaged.number}
        for node in self._run.nodes:
            computed = self._run.actions[node.number] is Action.COMPUTE
            if computed and not found.isdisjoint(node.parents):
                found.add(node.number)
        return found - {damaged.number}

    def _outdate(self, dependents: set[int]) -> None:
        """Mark units in flight that depend on some nodes as outdated: when they are done, they run again.

        Args:
            dependents: The nodes; those of the outdated units are added.
        """
        run = self._run
        for handle, (node, _, load, _) in run.pending.items():  # units come after their inputs
            parts = () if load else run.groups.in_flight(node)
            numbers = {part.number for part in parts}
            if parts and not dependents.isdisjoint(numbers.union(node.parents)):
                dependents |= numbers
                self.outdated[handle] = dependents
                run.unreported.discard(handle)
                for number in numbers:
                    run.results.drop(number)

    def _run_again(self, nodes: Sequence[GraphNode], dependents: set[int]) -> None:
        """Reset some nodes, add them again with their dependencies, and rebuild the queue."""
        run = self._run
        self._reset(nodes, dependents)
        again = self._plan_again(nodes)
        for node, _ in again:
            run.records[node.number] = None
            run.results.drop(node.number)
        run.add(again)
        run.groups.dissolve()  # the damaged result may depend on a node of one
        run.queue.clear()
        run.enqueue([node for node in run.nodes if run.states[node.number] is NodeState.WAITING])

    def _reset(self, nodes: Iterable[GraphNode], dependents: Container[int]) -> None:
        """Reset some nodes to skipped, without record and result.

        Args:
            nodes: The nodes.
            dependents: All nodes downstream of the damaged result; they run again.
        """
        run, by_name = self._run, self._run_spec.graph.nodes
        ended = NodeState.DONE, NodeState.FAILED
        self.unusable -= {n for n in self.unusable if run.states[by_name[n].number] in ended}
        for node in nodes:
            number = node.number
            called = run.actions[number] is Action.COMPUTE
            if called and node.state is not None and node.state.number not in dependents:
                self._called.add(number)
            run.actions[number], run.states[number] = Action.SKIP, NodeState.SKIPPED
            run.records[number] = None
            run.results.drop(number)

    def _plan_again(self, wanted: Sequence[GraphNode]) -> list[tuple[GraphNode, Action]]:
        """Plan, in graph order, how reset nodes get their values again; failed nodes are not tried again."""
        run = self._run
        live = {node.name for node in run.nodes if run.results[node.number] is not None}
        available = _Available(self._run_spec.stored(), live, self.unusable)
        running = {
            node.name
            for node in run.nodes
            if run.actions[node.number] is Action.COMPUTE
            and (run.is_open(node) or run.has_failed(node.number))
        }
        plan = make_plan(self._run_spec.graph, available, (), self._refs(wanted), running)
        again = {
            node.number: action
            for node, action in zip(run.nodes, plan.actions.values(), strict=True)
            if self._is_needed_again(node, action)
        }
        return self._with_earlier_calls(again)

    def _refs(self, wanted: Sequence[GraphNode]) -> list[ItemRef]:
        """References to some nodes: to their instance, where a node that is not done uses it."""
        instances: set[int] = set()
        if self._run_spec.graph.has_instances:
            instances = {ref.number for ref in self._run_spec.graph.targets if ref.slot == "state"}
            users = [*wanted, *filter(self._run.is_open, self._run.nodes)]
            instances.update(*[node.instance_parents for node in users])
        return [
            ItemRef(node.name, node.number, slot="state" if node.number in instances else "value")
            for node in wanted
        ]

    def _is_needed_again(self, node: GraphNode, action: Action) -> bool:
        run, number = self._run, node.number
        if action is Action.SKIP or run.has_failed(number):
            return False
        if action is Action.COMPUTE and run.actions[number] is Action.LOAD:
            return True  # a method whose instance is needed and not only its result
        return run.results[number] is None and not run.is_open(node)

    def _with_earlier_calls(self, again: dict[int, Action]) -> list[tuple[GraphNode, Action]]:
        """Add the earlier calls of an instance, where a later call may have changed it."""
        run = self._run
        for node in reversed(run.nodes):
            if node.state is not None and again.get(node.number) is Action.COMPUTE:
                done = run.actions[node.number] is Action.COMPUTE and not run.is_open(node)
                before = run.nodes[node.state.number]
                over = not run.is_open(before) and not run.has_failed(before.number)
                if (done or node.number in self._called) and over:
                    again[before.number] = Action.COMPUTE
        return [(run.nodes[number], again[number]) for number in sorted(again)]


@dataclass(frozen=True, slots=True)
class _Available:
    """The results that are available during a run: in use, or stored and not damaged."""

    stored: Container[str]
    live: Container[str]
    unusable: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.live or (name in self.stored and name not in self.unusable)
