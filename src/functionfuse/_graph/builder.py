"""Graph builder: number and name the collected nodes and turn their arguments into references."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from functools import cached_property
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.gc import gc_paused
from functionfuse._graph.collect import collect, duplicate_name
from functionfuse._graph.graph import Graph, GraphNode, ItemRef, ResultRef, new_tuple
from functionfuse._graph.nodes import ATOMS, Container, Item, Node, Slot
from functionfuse._graph.signature import base_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import CodeType

    from functionfuse._graph.collect import CollectedGraph

__all__ = ["LazyGraph", "build"]


def build(targets: Iterable[Any]) -> LazyGraph:
    """Build the graph of the targets and all their dependencies.

    Args:
        targets: Nodes, items of nodes, or instances of decorated classes.

    Raises:
        NotANodeError: A target is something else, or there are no targets.
        DuplicateNameError: Two different nodes have the same name.
    """
    graph = LazyGraph(collect(targets))
    if any(map(_NUMBERED_NAME.fullmatch, graph.collected.names.values())):
        graph.order  # noqa: B018 - a given name may be the automatic name of another node
    return graph


class LazyGraph(Graph):
    """A graph whose `GraphNode`s are made on first access: a run of plain calls does not need them."""

    collected: CollectedGraph
    replaced: Mapping[Node[Any], GraphNode]  # nodes whose function was replaced

    def __init__(self, collected: CollectedGraph) -> None:
        self.__dict__ |= {"collected": collected, "replaced": {}}

    def __len__(self) -> int:
        return len(self.collected.nodes)

    @cached_property
    def order(self) -> tuple[GraphNode, ...]:
        """The nodes, by number."""
        with gc_paused():
            return _NodeFactory(self.collected).make()

    @cached_property
    def targets(self) -> tuple[ItemRef, ...]:
        """References to the targets."""
        wanted = [(item, self.node(item.node)) for item in self.collected.targets]
        return tuple(
            [ItemRef(node.name, node.number, item.path, item.slot) for item, node in wanted]
        )

    def with_nodes(self, order: Iterable[GraphNode]) -> Graph:
        """Return the graph with other functions in its nodes."""
        graph, nodes = LazyGraph(self.collected), tuple(order)
        pairs = zip(self.collected.nodes, nodes, strict=True)
        replaced = {node: new_tuple for node, new_tuple in pairs if new_tuple.func is not node.func}
        graph.__dict__ |= {"order": nodes, "replaced": replaced}
        return graph

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a plain graph, with the names: copies of `Node`s would be other nodes."""
        return Graph, (self.order, self.targets)

    def node(self, node: Node[Any]) -> GraphNode:
        """The graph node of a `Node`."""
        number = bisect_left(self.collected.nodes, node.serial, key=attrgetter("serial"))
        return self.order[number]


class _NodeFactory:
    """Makes the `GraphNode`s of `Node`s, in the order of the calls."""

    def __init__(self, collected: CollectedGraph) -> None:
        self._nodes = collected.nodes
        self._name_of = _NodeNames(collected.names).of
        self._first = self._nodes[0].serial
        span = self._nodes[-1].serial - self._first + 1
        # the reference to each node, by its serial number less the first one: a list is faster,
        # and a fifth as large if the graph has most of the nodes that were made meanwhile
        self._numbers: Any = [None] * span if span <= 2 * len(self._nodes) else {}
        self._made: list[GraphNode] = []
        self._containers: dict[int, Container] = {}  # of one node, by the id of the captured one
        self._parents: tuple[ResultRef, ...] = ()  # of the last one
        self._last_location: tuple[CodeType | str, int, str] = "", 0, ""  # the last one

    def make(self) -> tuple[GraphNode, ...]:
        """Make all nodes.

        Raises:
            DuplicateNameError: A given name is the automatic name of another node.
        """
        for node in self._nodes:
            self._made.append(self._node(node))
        return tuple(self._made)

    def _node(self, node: Node[Any]) -> GraphNode:
        name, number = self._name_of(node), ResultRef(len(self._made))
        self._numbers[node.serial - self._first] = number
        parents: list[ResultRef] = []
        self._containers.clear()
        state, args, kwargs = None, node.args, node.kwargs
        if node.state is not None:
            state = self._refer(node.state, parents, slot="state")
        if not ATOMS.issuperset(map(type, args)):
            args = tuple([self._reference(value, parents) for value in args])
        if kwargs:
            kwargs = {key: self._reference(value, parents) for key, value in kwargs.items()}
        each = self._unique_parents(parents, args)
        location = self._location(node)
        return new_tuple(
            GraphNode, (name, number, node.func, args, kwargs, node.kind, state, location, each)
        )

    def _reference(self, value: Any, parents: list[ResultRef]) -> Any:
        """Return an argument with references in place of nodes; add them to the parents."""
        kind = type(value)
        if kind is Node:
            number = self._numbers[value.serial - self._first]
            parents.append(number)
            return number
        if kind is Item:
            return self._refer(value.node, parents, value.path, value.slot)
        if kind is Container:
            made = self._containers.get(id(value))
            if made is None:
                parts = [self._reference(part, parents) for part in value.parts]
                made = self._containers[id(value)] = Container(value.build, tuple(parts))
            return made
        return value

    def _refer(
        self,
        node: Node[Any],
        parents: list[ResultRef],
        path: tuple[Any, ...] = (),
        slot: Slot = "value",
    ) -> ItemRef:
        number = self._numbers[node.serial - self._first]
        parents.append(number)
        return new_tuple(ItemRef, (self._made[number].name, number, path, slot))

    def _unique_parents(
        self, parents: list[ResultRef], args: tuple[Any, ...]
    ) -> tuple[ResultRef, ...]:
        """The parents of a node; if possible its tuple of arguments, or the tuple of the node before, to save memory."""
        each = tuple(dict.fromkeys(parents) if len(parents) > 1 else parents)
        if len(each) == len(args) and all(map(is_, each, args)):
            return args
        if each != self._parents:
            self._parents = each
        return self._parents

    def _location(self, node: Node[Any]) -> str:
        """The location of a node's call, formatted once for consecutive nodes of one line."""
        code, instruction, location = self._last_location
        if node.instruction != instruction or node.code is not code:
            location = node.location
            self._last_location = node.code, node.instruction, location
        return location


class _NodeNames:
    """Names of nodes: given ones, or a function's name with a count.

    No two counts make the same name.
    """

    def __init__(self, given: Mapping[Node[Any], str]) -> None:
        self._counters: dict[str, Iterator[str]] = {}
        self._next: dict[int, Callable[[], str]] = {}  # by id: a callable need not be hashable
        self._given = given
        self._taken = {name: node for node, name in given.items()}

    def of(self, node: Node[Any]) -> str:
        """Return the name of a node; called once for each node, in order.

        Raises:
            DuplicateNameError: Another node was given the automatic name of this one.
        """
        if node in self._given:
            return self._given[node]
        counted = self._next.get(id(node.func))
        name = counted() if counted else self._first(node.func)
        if name in self._taken:
            raise duplicate_name(name, node, self._taken[name])
        return name

    def _first(self, func: Callable[..., Any]) -> str:
        """Start to count the nodes of a function, or continue the count of another with the same name."""
        base = base_name(func)
        counter = self._counters.setdefault(base, _numbered_names(base))
        self._next[id(func)] = counter.__next__
        return next(counter)


def _numbered_names(base: str) -> Iterator[str]:
    for count in range(_FOUR_DIGITS):
        yield f"{base}_{count:04d}"
    for count in itertools.count(_FOUR_DIGITS):
        yield f"{base}_{count}"


_FOUR_DIGITS: Final = 1_000  # from here on, a number needs no zeros
_NUMBERED_NAME: Final = re.compile(r".*_\d{4,}", re.DOTALL)
