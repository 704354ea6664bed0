"""Run plan: the action of each node and its reason, found from the targets backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from functionfuse._common.tables import Table
from functionfuse._graph.nodes import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, ValuesView

    from functionfuse._graph.graph import Graph, ItemRef
    from functionfuse._provenance.run_provenance import RunProvenance

__all__ = ["Action", "Plan", "PlannedNode", "make_plan"]


NOTHING: Final[frozenset[str]] = frozenset()


class Action(Enum):
    """The action of a run for one node."""

    COMPUTE = "compute"
    LOAD = "load"
    #: Kept if the stale results that it was computed from get the same values again; else computed.
    MAYBE = "maybe"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One line of a plan."""

    name: str
    action: Action
    reason: str


@dataclass(frozen=True)
class Plan:
    """The actions of all nodes of a graph, in graph order."""

    actions: Mapping[str, Action]
    graph: Graph
    _stored: Container[str]
    _always_run: Collection[str]
    #: What results are stamped with and compared by; None without a storage that keeps fingerprints.
    provenance: RunProvenance | None = None
    #: Why nothing is known of stored results; empty where fingerprints are compared.
    _unknown: str = ""

    def __len__(self) -> int:
        return len(self.actions)

    def __iter__(self) -> Iterator[PlannedNode]:
        return (self[name] for name in self.actions)

    def __getitem__(self, name: str) -> PlannedNode:
        action, reason = self.actions[name], self._reason(name)
        hint = self._hints.get(name) if action is Action.COMPUTE else None
        return PlannedNode(name, action, f"{reason}; {hint}" if hint else reason)

    @property
    def reads(self) -> bool:
        """Tell whether stored results are read: to load them, or by methods that run only for their instance."""
        planned = self.actions.values()
        if Action.LOAD in planned or Action.MAYBE in planned:
            return True
        return self.graph.has_instances and any(
            self.actions[node.name] is Action.COMPUTE and node.name in self._stored
            for node in self.graph
            if node.kind is Kind.METHOD
        )

    def names(self, action: Action) -> list[str]:
        """The nodes with this action, in graph order."""
        return [name for name, planned in self.actions.items() if planned is action]

    def __str__(self) -> str:
        return self._table().text()

    def __repr__(self) -> str:
        counts = [(len(self.names(action)), action.value) for action in Action]
        return f"<plan: {', '.join(f'{count} {action}' for count, action in counts if count)}>"

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        rows = [(node.name, node.action.value, node.reason) for node in self]
        if not self.graph.groups:
            return Table(("node", "action", "reason"), rows)
        group = {name: f"with {names[0]}" for names in self.graph.groups for name in names}
        grouped = [(*row, group.get(row[0], "")) for row in rows]
        return Table(("node", "action", "reason", "runs"), grouped)

    def always_run_upstream(self, name: str) -> str | None:
        """A node upstream of a loaded one that always runs: its value is not compared."""
        return self._always_upstream.get(name) if self.actions[name] is Action.LOAD else None

    def _reason(self, name: str) -> str:
        if name in self._always_run:
            return "always runs and is never stored"
        stored = "stored; " if name in self._stored else "not stored; "
        needed = self._causes.get(name, "nothing that is computed needs it")
        reason = self._staleness_reason(name) or stored + needed
        upstream = self.always_run_upstream(name)
        return (
            f"{reason}; the value of {upstream!r}, which always runs, is not compared"
            if upstream
            else reason
        )

    def _staleness_reason(self, name: str) -> str | None:
        action = self.actions[name]
        if self._unknown and action is Action.LOAD:
            return f"unknown: {self._unknown}"
        if self.provenance is None:
            return None
        return self.provenance.causes.reason(self.graph.nodes[name].number, action.value)

    @cached_property
    def _hints(self) -> dict[str, str]:
        """What gives nodes other numbers than their author means."""
        from functionfuse._graph.generator_hints import (
            generator_hints,  # late: runs need no reasons
        )

        return generator_hints(self.graph)

    @cached_property
    def _always_upstream(self) -> dict[str, str]:
        """Of each node with nodes upstream that always run: the nearest one."""
        found: dict[str, str] = {}
        for node in self.graph.order if self._always_run else ():
            names = [self.graph.order[parent].name for parent in node.parents]
            nearest = [name for name in names if name in self._always_run]
            nearest += [found[name] for name in names if name in found]
            if nearest:
                found[node.name] = nearest[0]
        return found

    @cached_property
    def _causes(self) -> dict[str, str]:
        """Why nodes are needed."""
        values: dict[str, str] = {}
        instances: dict[str, str] = {}
        for ref in self.graph.targets:
            (instances if ref.slot == "state" else values)[ref.node] = "a target"
        order = self.graph.order
        computed = Action.COMPUTE, Action.MAYBE
        for name in reversed([name for name, made in self.actions.items() if made in computed]):
            node = self.graph.nodes[name]
            if self.provenance and self.actions[name] is Action.MAYBE:
                for parent in self.provenance.stale_parents(node.number):
                    values.setdefault(order[parent].name, f"{name!r} depends on its value")
                continue
            for parent in node.parents:
                values.setdefault(order[parent].name, f"needed by {name!r}")
            for parent in node.instance_parents:
                instances.setdefault(order[parent].name, f"its instance is needed by {name!r}")
        return values | instances


def make_plan(  # noqa: PLR0913 - the last are for runs with fingerprints
    graph: Graph,
    stored: Container[str],
    always_run: Collection[str] = frozenset(),
    wanted: Iterable[ItemRef] | None = None,
    provenance: RunProvenance | None = None,
    unknown: str = "",
) -> Plan:
    """Plan backwards from the wanted results: a stored result that is not stale ends the walk.

    Args:
        graph: The graph to run.
        stored: The names of the nodes whose results can be loaded.
        always_run: The names of the nodes that always run and are never stored.
        wanted: References to the wanted results; by default the graph's targets.
        provenance: Judges stored results; without it, all of them can be loaded.
        unknown: Why nothing is known of stored results, for reasons.
    """
    if stored == NOTHING and wanted is None:  # a graph holds only what its targets need
        return Plan(_AllComputed(graph), graph, stored, always_run, provenance)
    wanted = graph.targets if wanted is None else wanted
    if provenance is None:
        actions = _plan_backwards(graph, stored, always_run, wanted)
    else:
        actions = _LevelWalk(graph, always_run, provenance).plan(wanted)
    return Plan(MappingProxyType(actions), graph, stored, always_run, provenance, unknown)


class _AllComputed(Mapping[str, Action]):
    """The actions of nodes that are all computed."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __getitem__(self, name: str) -> Action:
        if name not in self._graph.nodes:
            raise KeyError(name)
        return Action.COMPUTE

    def __len__(self) -> int:
        return len(self._graph)

    def __iter__(self) -> Iterator[str]:
        return iter(self._graph.nodes)

    def values(self) -> ValuesView[Action]:
        """Made in one pass: a run uses all of them."""
        return dict.fromkeys(range(len(self._graph)), Action.COMPUTE).values()


def _plan_backwards(
    graph: Graph,
    stored: Container[str],
    always_run: Collection[str],
    wanted: Iterable[ItemRef],
) -> dict[str, Action]:
    values = {ref.number for ref in wanted}
    instances = {ref.number for ref in wanted if ref.slot == "state"}
    actions = dict.fromkeys(graph.nodes, Action.SKIP)
    for node in reversed(graph.order):
        name, needed = node.name, node.number in values
        # an instance is not stored: the calls that made it run again
        if node.number in instances or name in always_run or (needed and name not in stored):
            actions[name] = Action.COMPUTE
            values.update(node.parents)
            if graph.has_instances:
                instances |= node.instance_parents
        elif needed:
            actions[name] = Action.LOAD
    return actions


class _LevelWalk:
    """Plans by fingerprints, from the wanted results upstream: the headers of each level are read together."""

    def __init__(
        self, graph: Graph, always_run: Collection[str], provenance: RunProvenance
    ) -> None:
        self._graph = graph
        self._always_run = always_run
        self._provenance = provenance
        self._actions = [Action.SKIP] * len(graph)

    def plan(self, wanted: Iterable[ItemRef]) -> dict[str, Action]:
        """Return the action of each node."""
        level: dict[int, bool] = {}  # needed nodes; True: computed whatever is stored
        for ref in wanted:
            level[ref.number] = level.get(ref.number, False) or ref.slot == "state"
        nodes = self._graph.nodes
        level.update({nodes[name].number: True for name in self._always_run})
        while level:
            level = self._next_level(level)
        return dict(zip(nodes, self._actions, strict=True))

    def _next_level(self, level: Mapping[int, bool]) -> dict[int, bool]:
        actions, compute = self._actions, Action.COMPUTE
        values = [n for n, computed in level.items() if not computed and actions[n] is Action.SKIP]
        verdicts = self._provenance.staleness.judge(values)
        found: dict[int, bool] = {}
        for number, computed in level.items():
            known = actions[number]
            if known is compute or (known is not Action.SKIP and not computed):
                continue
            actions[number] = compute if computed else Action(verdicts[number].outcome)
            for parent, instance in self._needs(number):
                found[parent] = found.get(parent, False) or instance
        return found

    def _needs(self, number: int) -> Iterable[tuple[int, bool]]:
        """The parents that a node requires, each with whether it is for the instance."""
        match self._actions[number]:
            case Action.COMPUTE:
                node = self._graph.order[number]
                instances = self._provenance.staleness.instance_parents(node)
                return [(parent, parent in instances) for parent in node.parents]
            case Action.MAYBE:
                return [(parent, False) for parent in self._provenance.stale_parents(number)]
            case _:
                return ()
