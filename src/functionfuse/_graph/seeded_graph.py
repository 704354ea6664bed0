"""Graphs with the seeds of their nodes in place of `SEED` and `RNG`."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter, is_, methodcaller
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.builder import LazyGraph
from functionfuse._graph.nodes import ATOMS, Container, containers_in
from functionfuse._graph.seeds import SeedPlaceholder, SeedSource
from functionfuse.errors import SeedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functionfuse._graph.graph import Graph, GraphNode

__all__ = ["bind_seeds"]

_ARGS: Final = attrgetter("args")
_KWARGS: Final = attrgetter("kwargs")
_VALUES: Final = methodcaller("values")


def bind_seeds(graph: Graph, seeds: Mapping[str, int], workflow: str) -> Graph:
    """Return the graph with the seeds of its nodes in place of placeholders.

    Raises:
        SeedError: A node that takes a placeholder has no seed.
    """
    if not SeedPlaceholder.captured or not _has_sources(graph):
        return graph
    order: list[GraphNode] = []
    without: list[tuple[GraphNode, SeedSource]] = []
    for node in graph.order:
        binder = _Binder(seeds.get(node.name))
        order.append(binder.bind_node(node))
        if binder.seed is None and binder.found:
            without.append((node, binder.found[0]))
    if without:
        raise _missing_seed(without, workflow)
    return graph if all(map(is_, order, graph.order)) else graph.with_nodes(order)


def _has_sources(graph: Graph) -> bool:
    """Tell whether a placeholder is among the arguments; without making the nodes of a lazy graph."""
    nodes: Sequence[Any] = graph.collected.nodes if isinstance(graph, LazyGraph) else graph.order
    by_position = chain.from_iterable(map(_ARGS, nodes))  # passes in C, which every run makes
    by_name = chain.from_iterable(map(_VALUES, map(_KWARGS, nodes)))
    given = chain(by_position, by_name)
    return any(type(each.build) is SeedSource for each in containers_in(given))


class _Binder:
    """Replaces the sources among the arguments of one node."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self.found: list[SeedSource] = []
        self._memo: dict[int, Container] = {}  # a container that occurs twice stays one

    def bind_node(self, node: GraphNode) -> GraphNode:
        """Return a node with the seed in its sources, or the node if there are none."""
        if Container not in map(type, (*node.args, *node.kwargs.values())):
            return node
        args = tuple([self._bound(value) for value in node.args])
        kwargs = {name: self._bound(value) for name, value in node.kwargs.items()}
        return node._replace(args=args, kwargs=kwargs) if self.found else node

    def _bound(self, value: Any) -> Any:
        if type(value) is not Container:
            return value
        made = self._memo.get(id(value))
        if made is None:
            made = self._memo[id(value)] = self._bind(value)
        return made

    def _bind(self, value: Container) -> Container:
        if type(value.build) is SeedSource:
            self.found.append(value.build)
            return Container(value.build.with_seed(self.seed), ())
        if ATOMS.issuperset(map(type, value.parts)):
            return value
        return Container(value.build, tuple([self._bound(part) for part in value.parts]))


_SHOWN: Final = 3  # nodes in a message


def _missing_seed(without: Sequence[tuple[GraphNode, SeedSource]], workflow: str) -> SeedError:
    shown = [
        f"node {node.name!r} ({node.function} at {node.location}) takes {source}"
        for node, source in without[:_SHOWN]
    ]
    if len(without) > _SHOWN:
        shown.append(f"{len(without) - _SHOWN} more nodes take one")
    return SeedError(
        f"{', '.join(shown)}, and workflow {workflow!r} gives it no seed: "
        "call set_seed(17) on the workflow, or query(...).set_seed(17) for these nodes, "
        "or pass a value for the argument"
    )
