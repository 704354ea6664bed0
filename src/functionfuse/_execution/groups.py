"""Task groups: the nodes of a run that are submitted as one unit, and their inputs and outputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._graph.graph import GraphNode
    from functionfuse.plan import Plan

__all__ = ["Group", "Groups"]


@dataclass(frozen=True)
class Group:
    """Nodes that run as one unit, in graph order."""

    nodes: tuple[GraphNode, ...]

    @cached_property
    def numbers(self) -> set[int]:
        """The nodes' numbers."""
        return {node.number for node in self.nodes}

    @cached_property
    def internal_uses(self) -> Counter[int]:
        """How many nodes of the group take the result of each."""
        parents = [parent for node in self.nodes for parent in node.parents]
        return Counter(parent for parent in parents if parent in self.numbers)

    @cached_property
    def external_uses(self) -> list[int]:
        """The parents outside the group, once for each node that takes one."""
        parents = [parent for node in self.nodes for parent in node.parents]
        return [parent for parent in parents if parent not in self.numbers]

    def as_node(self) -> GraphNode:
        """The node of the group's unit."""
        first, last = self.nodes[0], self.nodes[-1]
        name = f"{first.name} .. {last.name} ({len(self.nodes)} nodes)"
        return first._replace(name=name, parents=tuple(dict.fromkeys(self.external_uses)))

    def outputs(self, count: Callable[[int], int], also: Collection[int]) -> tuple[int, ...]:
        """The nodes whose values leave the unit.

        Args:
            count: Gives the number of consumers of a node, within the group and outside.
            also: Nodes whose values leave it in any case.
        """
        uses = self.internal_uses
        return tuple(each for each in self.numbers if count(each) > uses[each] or each in also)


class Groups:
    """The task groups of one run."""

    def __init__(self, spec: RunSpec, plan: Plan) -> None:
        """Plan the groups of the nodes that are computed."""
        self._by_number = _plan_groups(spec, plan)
        self._in_flight: dict[int, tuple[GraphNode, ...]] = {}  # by the number of the first node
        self.recovery_outputs = self._recovery_outputs(spec)

    def __bool__(self) -> bool:
        return bool(self._by_number)

    def get(self, number: int) -> Group | None:
        """The group in which a node will be submitted."""
        return self._by_number.get(number)

    def leader(self, number: int) -> int:
        """The node with which this one is submitted: the first of its group, or itself."""
        group = self._by_number.get(number)
        return number if group is None else group.nodes[0].number

    def dissolve(self) -> None:
        """Submit each node alone from now on."""
        self._by_number = {}

    def add_in_flight(self, group: Group) -> None:
        """Record that a group was submitted."""
        self._in_flight[group.nodes[0].number] = group.nodes

    def in_flight(self, node: GraphNode) -> tuple[GraphNode, ...]:
        """The nodes of a unit in flight, given its node."""
        return self._in_flight.get(node.number, (node,))

    def pop_in_flight(self, node: GraphNode) -> tuple[GraphNode, ...]:
        """The nodes of a unit that is not in flight any more, given its node."""
        return self._in_flight.pop(node.number, (node,))

    def _recovery_outputs(self, spec: RunSpec) -> set[int]:
        """The nodes of groups whose values a node outside may come to need.

        With a storage, a result that was to be loaded may turn out to be damaged while its parents are in flight.
        """
        if not self._by_number or spec.results is None:
            return set()
        return {
            parent
            for node in spec.graph.order
            for parent in node.parents
            if parent in self._by_number and self.leader(parent) != self.leader(node.number)
        }


def _plan_groups(spec: RunSpec, plan: Plan) -> dict[int, Group]:
    """The group of each node that is in one."""
    if spec.on_error == "continue":  # a failure would lose the results of the nodes before it
        return {}
    actions, nodes = plan.actions, spec.graph.nodes
    groups: dict[int, Group] = {}
    for names in spec.graph.groups:
        group = tuple(nodes[name] for name in names if actions[name] is Action.COMPUTE)
        # a node that may be kept waits for some nodes of the group, and others wait for it
        is_certain = all(actions[name] is not Action.MAYBE for name in names)
        if len(group) > 1 and is_certain:
            groups |= dict.fromkeys([node.number for node in group], Group(group))
    return groups
