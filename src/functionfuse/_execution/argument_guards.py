"""Argument guards of one run: who takes which value, and who must not change it."""

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
    """Makes the guards of nodes, and reports what they noticed."""

    def __init__(self, spec: RunSpec, engine: Engine[Any], plan: Plan) -> None:
        """Look at the references of a run, unless nothing is to be guarded."""
        self._spec = spec
        self._check, self._read_only = spec.mutation == "raise", spec.read_only
        self._run = uuid4().hex
        self._takers: defaultdict[int, list[tuple[str, ResultRef | ItemRef]]] = defaultdict(list)
        self._watch: MutationWatch[int] | None = None
        if self._check:
            self._find_takers()
        elif spec.mutation == "warn" and engine.capabilities.shares_values:
            self._watch = MutationWatch(lambda number: spec.graph.order[number].name)
            self._uses = self._count_uses(plan)

    def _find_takers(self) -> None:
        for node in self._spec.graph:
            for ref in references(node.arguments):
                self._takers[ref.number].append((f"node {node.name!r}", ref))
        for target in self._spec.graph.targets:
            self._takers[target.number].append((_CALLER, target))

    def _count_uses(self, plan: Plan) -> Counter[int]:
        """How many computed nodes and targets take the result of each node."""
        actions, graph = plan.actions, self._spec.graph
        computed = [node.parents for node in graph if actions[node.name] is Action.COMPUTE]
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
        """Warn of changes that were noticed, and forget the run."""
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
            taker
            for taker, other in self._takers[ref.number]
            if taker != consumer and _overlap(ref, other)
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
