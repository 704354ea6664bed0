"""Argument guards of one run: find the values that several nodes share, and guard them."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from functionfuse._execution.mutation_watch import MutationWatch, WatchedNode
from functionfuse._graph.graph import ItemRef, ResultRef, references
from functionfuse._graph.nodes import ATOMS, Container, Kind
from functionfuse._kernel.argument_guard import ArgumentGuard
from functionfuse._kernel.argument_sources import LITERAL, Owner, name_arguments
from functionfuse._kernel.borrowed_values import forget_run
from functionfuse.plan import Action

if TYPE_CHECKING:
    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.argument_sources import Source
    from functionfuse._kernel.units import Guard
    from functionfuse.engine import Engine
    from functionfuse.plan import Plan

__all__ = ["ArgumentGuards"]

_CALLER: Final = "the caller of run()"


class ArgumentGuards:
    """Creates the guards of nodes, and reports the changes that they found."""

    def __init__(self, spec: RunSpec, engine: Engine[Any], plan: Plan) -> None:
        """Find the consumers of each result, if the run is checked or watched."""
        self._spec = spec
        self._check, self._read_only = spec.mutation == "raise", spec.read_only
        self._run = uuid4().hex
        self._consumers: defaultdict[int, list[tuple[str, ResultRef | ItemRef]]] = defaultdict(list)
        self._watch: MutationWatch[int] | None = None
        if self._check:
            self._find_consumers()
        elif spec.mutation == "warn" and engine.capabilities.shares_values:
            self._watch = MutationWatch(lambda number: spec.graph.order[number].name)
            self._uses = self._count_uses(plan)

    def _find_consumers(self) -> None:
        for node in self._spec.graph:
            for ref in references(node.arguments):
                self._consumers[ref.number].append((f"node {node.name!r}", ref))
        for target in self._spec.graph.targets:
            self._consumers[target.number].append((_CALLER, target))

    def _count_uses(self, plan: Plan) -> Counter[int]:
        """How many computed nodes and targets take the result of each node."""
        actions, graph = plan.actions, self._spec.graph
        no = Action.LOAD, Action.SKIP
        computed = [node.parents for node in graph if actions[node.name] not in no]
        targets = {target.number for target in graph.targets}
        return Counter([*chain.from_iterable(computed), *targets])

    def of(self, node: GraphNode) -> Guard | None:
        """The guard of a node that is computed."""
        if self._check or self._read_only:
            return ArgumentGuard(self._run, self._sources(node), self._check, self._read_only)
        if self._watch is None:
            return None
        shared = {number for number in (node.number, *node.parents) if self._uses[number] > 1}
        return WatchedNode(self._watch, self._uses[node.number], shared) if shared else None

    def end(self) -> None:
        """Warn of changes, and release the data of the run."""
        if self._check:
            forget_run(self._run)
        if self._watch is not None:
            self._watch.close()

    # ---- sources ----

    def _sources(self, node: GraphNode) -> dict[str, Source]:
        args = node.args if node.state is None else (node.state, *node.args)
        named = name_arguments(node.func, args, node.kwargs, is_method=node.state is not None)
        sources = {name: self._source(value, node) for name, value in named}
        return {name: source for name, source in sources.items() if source is not None}

    def _source(self, argument: Any, node: GraphNode) -> Source:
        kind = type(argument)
        if kind is ResultRef or kind is ItemRef:
            return self._owner(argument, node)
        if kind is Container:
            return tuple([self._source(part, node) for part in argument.parts])
        return None if kind in ATOMS else LITERAL

    def _owner(self, ref: ResultRef | ItemRef, node: GraphNode) -> Owner:
        owner = self._spec.graph.order[ref.number]
        consumer = f"node {node.name!r}"
        others = [
            name
            for name, other in self._consumers[ref.number]
            if name != consumer and _overlap(ref, other)
        ]
        if self._is_stored(owner) and ref.slot != "state":
            others.append("the storage")
        return Owner(owner.name, tuple(dict.fromkeys(others)), ref.slot == "state")

    def _is_stored(self, node: GraphNode) -> bool:
        spec = self._spec
        stores = spec.results is not None and node.name not in spec.always_run
        return stores and node.kind is not Kind.CONSTRUCT


def _overlap(one: ResultRef | ItemRef, other: ResultRef | ItemRef) -> bool:
    """Tell whether two references may have a part in common: an item and another item do not."""
    if one.slot != other.slot:
        return True
    return all(key == other_key for key, other_key in zip(one.path, other.path, strict=False))
