"""Recover from damaged stored results: select the nodes that a run computes or loads again.

Damage shows when a result is loaded, or, in a lazy value, in a node that uses the result.
Then the damaged result is computed again, and with it everything computed from the damaged value:
the node that failed, and nodes whose values may still read from the damaged files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functionfuse._graph.graph import ItemRef
from functionfuse._kernel.annotations import add_note
from functionfuse._kernel.damage import take_damage
from functionfuse.plan import Action, make_plan

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from functionfuse._execution.reference_counts import RefCounts
    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.damage import Damage
    from functionfuse._kernel.units import Record

__all__ = ["Recovery"]


class Recovery:
    """The damaged results of one run; reads and changes the scheduler's lists."""

    def __init__(
        self,
        spec: RunSpec,
        actions: list[Action],
        records: list[Record | None],
        values: RefCounts[Any],
    ) -> None:
        """Begin with no damage.

        Args:
            spec: The run.
            actions: The action of each node.
            records: The record of each node that is done.
            values: The reference counts and handles of results.
        """
        self._damaged: set[str] = set()  # nodes whose results are computed again, each once
        self.unusable: set[str] = set()  # of these, nodes that were not stored again yet
        self._run_spec = spec
        self._nodes = spec.graph.order
        self._actions = actions
        self._records = records
        self._results = values
        self._called: set[int] = set()  # forgotten methods: they may have changed their instances

    def is_open(self, node: GraphNode) -> bool:
        """Tell whether a node was added to the run and is not done."""
        number = node.number
        return self._actions[number] is not Action.SKIP and self._records[number] is None

    def damage_behind(self, error: BaseException, users: Sequence[GraphNode]) -> Damage | None:
        """Return the damage that made a unit fail, if computing the damaged result again can help.

        Args:
            error: The unit's exception.
            users: The nodes of the unit.
        """
        damage = take_damage(error, self._run_spec.workflow)
        damaged = self._run_spec.graph.nodes.get(damage.node) if damage else None
        if damage is None or damaged is None:
            return None
        dependents = self.dependents(damaged)
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

    def dependents(self, damaged: GraphNode) -> set[int]:
        """Return the numbers of the computed nodes downstream of a damaged result."""
        found = {damaged.number}
        for node in self._nodes:
            if self._actions[node.number] is Action.COMPUTE and not found.isdisjoint(node.parents):
                found.add(node.number)
        return found - {damaged.number}

    def condemn(self, damaged: GraphNode) -> None:
        """Mark a stored result as damaged: it is computed again instead of loaded."""
        self._damaged.add(damaged.name)
        self.unusable.add(damaged.name)
        self._records[damaged.number] = None

    def forget(self, nodes: Iterable[GraphNode], dependents: Container[int]) -> None:
        """Reset some nodes to skipped, without record and result.

        Args:
            nodes: The nodes.
            dependents: All nodes downstream of the damaged result; they run again.
        """
        self.unusable -= {
            name
            for name in self.unusable
            if self._records[self._run_spec.graph.nodes[name].number] is not None
        }
        for node in nodes:
            number = node.number
            called = self._actions[number] is Action.COMPUTE
            if called and node.state is not None and node.state.number not in dependents:
                self._called.add(number)
            self._actions[number] = Action.SKIP
            self._records[number] = None
            self._results.drop(number)

    def plan_again(
        self, wanted: Sequence[GraphNode], failed: Container[str]
    ) -> list[tuple[GraphNode, Action]]:
        """Plan, in graph order, how forgotten nodes get their values again.

        Args:
            wanted: The forgotten nodes.
            failed: The names of failed nodes: they are not tried again.
        """
        live = {node.name for node in self._nodes if self._results[node.number] is not None}
        available = _Available(self._run_spec.stored(), live, self.unusable)
        running = {
            node.name
            for node in self._nodes
            if self.is_open(node) and self._actions[node.number] is Action.COMPUTE
        }
        plan = make_plan(self._run_spec.graph, available, (), self._refs(wanted), running)
        again = {
            node.number: action
            for node, action in zip(self._nodes, plan.actions.values(), strict=True)
            if node.name not in failed and self._is_needed_again(node, action)
        }
        return self._with_earlier_calls(again)

    def _refs(self, wanted: Sequence[GraphNode]) -> list[ItemRef]:
        """References to some nodes: to their instance, where a node that is not done uses it."""
        instances: set[int] = set()
        if self._run_spec.graph.has_instances:
            instances = {ref.number for ref in self._run_spec.graph.targets if ref.slot == "state"}
            users = [*wanted, *(node for node in self._nodes if self.is_open(node))]
            instances.update(*[node.instance_parents for node in users])
        return [
            ItemRef(node.name, node.number, slot="state" if node.number in instances else "value")
            for node in wanted
        ]

    def _is_needed_again(self, node: GraphNode, action: Action) -> bool:
        if action is Action.SKIP:
            return False
        if action is Action.COMPUTE and self._actions[node.number] is Action.LOAD:
            return True  # a method whose instance is needed and not only its result
        return self._results[node.number] is None and not self.is_open(node)

    def _with_earlier_calls(self, again: dict[int, Action]) -> list[tuple[GraphNode, Action]]:
        """Add the earlier calls of an instance, where a later call may have changed it."""
        for node in reversed(self._nodes):
            if node.state is not None and again.get(node.number) is Action.COMPUTE:
                done = self._actions[node.number] is Action.COMPUTE and not self.is_open(node)
                before = self._nodes[node.state.number]
                if (done or node.number in self._called) and not self.is_open(before):
                    again[before.number] = Action.COMPUTE
        return [(self._nodes[number], again[number]) for number in sorted(again)]


@dataclass(frozen=True, slots=True)
class _Available:
    """The results that are available during a run: in use, or stored and not damaged."""

    stored: Container[str]
    live: Container[str]
    unusable: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.live or (name in self.stored and name not in self.unusable)
