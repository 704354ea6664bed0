"""Immutable graph of named nodes, in the order of the calls."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from functionfuse._graph.decorators import undecorated
from functionfuse._graph.nodes import ATOMS, Container, Kind, Slot
from functionfuse._graph.seeds import rebind_placeholders
from functionfuse._graph.signature import Signature, base_name
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping

__all__ = ["Graph", "GraphNode", "ItemRef", "ResultRef", "references"]


#: Makes a named tuple from all its fields in a third of its constructor's time.
new_tuple: Final = tuple.__new__


class ResultRef(int):
    """Reference to the result of a node: its number in the graph.

    An int, which is small: a graph has one for each node.
    """

    __slots__ = ()
    path: ClassVar[tuple[Any, ...]] = ()
    slot: ClassVar[Slot] = "value"

    @property
    def number(self) -> int:
        """The node's number, as in `ItemRef`."""
        return self


class ItemRef(NamedTuple):
    """Reference to the result of a node, an item of it, or its instance after the call."""

    node: str
    number: int
    path: tuple[Any, ...] = ()
    slot: Slot = "value"

    def __str__(self) -> str:
        return self.node + "".join(f"[{key!r}]" for key in self.path)


class GraphNode(NamedTuple):
    """A node of a graph, with its name and number."""

    name: str
    number: int  # its position in the graph
    func: Callable[..., Any]
    args: tuple[Any, ...]  # with a ResultRef or ItemRef for each node, also within a Container
    kwargs: Mapping[str, Any]
    kind: Kind
    state: ItemRef | None  # the instance that a METHOD works on
    location: str  # "pipeline.py:41", for messages
    parents: tuple[int, ...]  # numbers of the nodes to whose outcomes it refers, each once

    @property
    def instance_parents(self) -> set[int]:
        """The parents to whose instance it refers."""
        return {ref.number for ref in references(self.arguments) if ref.slot == "state"}

    @property
    def arguments(self) -> tuple[Any, ...]:
        """All arguments of its call, with the instance."""
        return (self.state, *self.args, *self.kwargs.values())

    @property
    def function(self) -> str:
        """The name of the user's function, as its author reads it."""
        return base_name(self.func)


_STATELESS: Final = ATOMS | {ResultRef}


def references(values: Iterable[Any]) -> Iterator[ResultRef | ItemRef]:
    """Yield the references among a node's arguments, also within containers."""
    waiting, seen = [*values], set[int]()
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is ResultRef or kind is ItemRef:
            yield value
        elif kind is Container and id(value) not in seen:
            seen.add(id(value))
            waiting += value.parts


@dataclass(frozen=True, eq=False)
class Graph:
    """The targets' nodes, each after its dependencies."""

    order: tuple[GraphNode, ...]  # by number
    targets: tuple[ItemRef, ...]
    groups: tuple[tuple[str, ...], ...] = ()  # nodes that an engine gets as one unit, see `fuse`

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[GraphNode]:
        return iter(self.order)

    @cached_property
    def nodes(self) -> Mapping[str, GraphNode]:
        """The nodes by name, in the same order."""
        return MappingProxyType({node.name: node for node in self.order})

    @cached_property
    def has_instances(self) -> bool:
        """Tell whether a node constructs an instance."""
        return any(node.kind is Kind.CONSTRUCT for node in self)

    @cached_property
    def instance_uses(self) -> Mapping[int, int]:
        """How many references of nodes and targets there are to each node's instance."""
        if not self.has_instances:
            return {}
        found: list[ResultRef | ItemRef] = [ref for ref in self.targets if ref.slot == "state"]
        for node in self:
            if node.state is not None:
                found.append(node.state)
            given = (*node.args, *node.kwargs.values()) if node.kwargs else node.args
            if not _STATELESS.issuperset(map(type, given)):
                found += [ref for ref in references(given) if ref.slot == "state"]
        return Counter([ref.number for ref in found])

    def select(self, pattern: re.Pattern[str] | None) -> list[str]:
        """Return the names that a pattern matches in full, in graph order; None matches all."""
        if pattern is None:
            return list(self.nodes)
        return [name for name in self.nodes if pattern.fullmatch(name)]

    def replace_func(self, name: str, func: Callable[..., Any]) -> Graph:
        """Return the graph with another function in one node.

        Raises:
            GraphError: No node has this name.
            TypeError: The function cannot be called with the node's arguments.
        """
        if name not in self.nodes:
            message = f"there is no node {name!r} whose function could be replaced"
            raise GraphError(message)
        if not callable(func):
            message = f"node {name!r} needs a function, not {func!r}"
            raise TypeError(message)
        node, func = self.nodes[name], undecorated(func)
        instance = () if node.state is None else (node.state,)
        signature = Signature(func)
        args, kwargs = rebind_placeholders(
            (*instance, *node.args), node.kwargs, Signature(node.func), signature
        )
        signature.check(args, dict(kwargs))
        order = list(self.order)
        order[node.number] = node._replace(func=func, args=args[len(instance) :], kwargs=kwargs)
        return self.with_nodes(order)

    def __repr__(self) -> str:
        return f"<graph of {len(self)} node{'s' * (len(self) != 1)}>"

    def with_nodes(self, order: Iterable[GraphNode]) -> Graph:
        """Return the graph with other functions in its nodes."""
        return Graph(tuple(order), self.targets, self.groups)

    def with_groups(self, groups: tuple[tuple[str, ...], ...]) -> Graph:
        """Return the graph with these task groups."""
        return Graph(self.order, self.targets, groups)

    def fuse(self, names: Collection[str], kinds: Mapping[str, Hashable]) -> Graph:
        """Return the graph with some nodes fused, in as few task groups as their order allows.

        Groups form no cycle: a node's level is the largest number of groups that a path to it leaves,
        and only nodes of one level are fused.

        Args:
            names: The nodes to be fused.
            kinds: A key of each node; only nodes with equal keys are fused, or without any.
        """
        levels: list[int] = []
        groups: defaultdict[tuple[int, Hashable], list[str]] = defaultdict(list)
        for node in self.order:
            kind = (node.name in names, kinds.get(node.name))
            left = [
                levels[parent.number]
                + (parent.name in names and (True, kinds.get(parent.name)) != kind)
                for parent in map(self.order.__getitem__, node.parents)
            ]
            levels.append(max(left, default=0))
            if node.name in names:
                groups[levels[-1], kind].append(node.name)
        fused = tuple(tuple(group) for group in groups.values() if len(group) > 1)
        return self.with_groups(fused)

    def mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart."""
        nodes = [f'    n{node.number}["{_label(node.name)}"]' for node in self]
        edges = [f"    n{parent} --> n{node.number}" for node in self for parent in node.parents]
        return "\n".join(["flowchart TD", *nodes, *edges])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:  # JupyterLab draws it
        return {"text/vnd.mermaid": self.mermaid(), "text/plain": repr(self)}


def _label(name: str) -> str:
    """Return a name escaped for Mermaid."""
    return "".join(char if char.isalnum() or char in " _-." else f"#{ord(char)};" for char in name)
