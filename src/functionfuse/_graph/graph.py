"""The graph that a workflow is made of: immutable, named, in the order in which the calls were written."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from functionfuse._graph.decorators import undecorated
from functionfuse._graph.nodes import ATOMS, Container, Kind, Slot
from functionfuse._graph.signature import Signature, base_name
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping

__all__ = ["Graph", "GraphNode", "ItemRef", "ResultRef", "references"]


#: Makes a named tuple of all its fields in a third of the time that its own constructor takes.
new_tuple: Final = tuple.__new__


class ResultRef(int):
    """A step's position in the graph; among the arguments of another step, what stands for its result.

    One object, since there is one for each step of a graph, however large.
    """

    __slots__ = ()
    path: ClassVar[tuple[Any, ...]] = ()
    slot: ClassVar[Slot] = "value"

    @property
    def number(self) -> int:
        """As `ItemRef` calls it."""
        return self


class ItemRef(NamedTuple):
    """The result of a step, an item of it, or the instance that it leaves."""

    node: str
    number: int
    path: tuple[Any, ...] = ()
    slot: Slot = "value"

    def __str__(self) -> str:
        return self.node + "".join(f"[{key!r}]" for key in self.path)


class GraphNode(NamedTuple):
    """A node's place in a graph."""

    name: str
    number: int  # its position in the graph
    func: Callable[..., Any]
    args: tuple[Any, ...]  # a Number or Ref wherever a node stood, also within a Container
    kwargs: Mapping[str, Any]
    kind: Kind
    state: ItemRef | None  # the instance that a METHOD works on
    location: str  # "pipeline.py:41", for messages
    parents: tuple[int, ...]  # positions of the steps whose outcomes it takes, each once

    @property
    def instance_parents(self) -> set[int]:
        """Those parents whose instance it takes, not only their value."""
        return {ref.number for ref in references(self.arguments) if ref.slot == "state"}

    @property
    def arguments(self) -> tuple[Any, ...]:
        """All that its call is given."""
        return (self.state, *self.args, *self.kwargs.values())

    @property
    def function(self) -> str:
        """The name of the user's function, as its author reads it."""
        return base_name(self.func)


_STATELESS: Final = ATOMS | {ResultRef}


def references(values: Iterable[Any]) -> Iterator[ResultRef | ItemRef]:
    """What stands for results among the arguments of a step, also inside containers."""
    for value in values:
        kind = type(value)
        if kind is ResultRef or kind is ItemRef:
            yield value
        elif kind is Container:
            yield from references(value.parts)


@dataclass(frozen=True, eq=False)
class Graph:
    """The steps that some targets need, each after all that it needs itself."""

    order: tuple[GraphNode, ...]  # by their number
    targets: tuple[ItemRef, ...]
    groups: tuple[tuple[str, ...], ...] = ()  # steps that an engine gets as one unit, see `fuse`

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[GraphNode]:
        return iter(self.order)

    @cached_property
    def nodes(self) -> Mapping[str, GraphNode]:
        """The steps by their name, in the same order."""
        return MappingProxyType({node.name: node for node in self.order})

    @cached_property
    def has_instances(self) -> bool:
        """Tell whether a decorated class is in it."""
        return any(node.kind is Kind.CONSTRUCT for node in self)

    @cached_property
    def instance_uses(self) -> Mapping[int, int]:
        """How many steps and targets take the instance that a step leaves; one that takes it twice counts twice."""
        if not self.has_instances:
            return {}
        taken: list[ResultRef | ItemRef] = [ref for ref in self.targets if ref.slot == "state"]
        for node in self:
            if node.state is not None:
                taken.append(node.state)
            given = (*node.args, *node.kwargs.values()) if node.kwargs else node.args
            if not _STATELESS.issuperset(map(type, given)):
                taken += [ref for ref in references(given) if ref.slot == "state"]
        return Counter([ref.number for ref in taken])

    def select(self, pattern: re.Pattern[str] | None) -> list[str]:
        """The names that a pattern matches in full, in graph order; None is all."""
        if pattern is None:
            return list(self.nodes)
        return [name for name in self.nodes if pattern.fullmatch(name)]

    def replace_func(self, name: str, func: Callable[..., Any]) -> Graph:
        """The same graph with another function in one step.

        Raises:
            GraphError: There is no such step.
            TypeError: The function cannot take the step's arguments, or is none.
        """
        if name not in self.nodes:
            message = f"there is no node {name!r} whose function could be replaced"
            raise GraphError(message)
        if not callable(func):
            message = f"node {name!r} needs a function, not {func!r}"
            raise TypeError(message)
        node, func = self.nodes[name], undecorated(func)
        instance = () if node.state is None else (node.state,)
        Signature(func).check((*instance, *node.args), dict(node.kwargs))
        order = list(self.order)
        order[node.number] = node._replace(func=func)
        return self.with_nodes(order)

    def __repr__(self) -> str:
        return f"<graph of {len(self)} node{'s' * (len(self) != 1)}>"

    def with_nodes(self, order: Iterable[GraphNode]) -> Graph:
        """The same graph with other functions in its steps."""
        return Graph(tuple(order), self.targets, self.groups)

    def with_groups(self, groups: tuple[tuple[str, ...], ...]) -> Graph:
        """The same graph with these steps to be run together."""
        return Graph(self.order, self.targets, groups)

    def fuse(self, names: Collection[str], kinds: Mapping[str, Hashable]) -> Graph:
        """The same graph with some steps to be run together, in as few groups as their order allows.

        A group never waits for something that waits for the group:
        a step's level is the number of times that a path to it leaves a group,
        and only steps of one level run together.

        Args:
            names: The steps to be fused.
            kinds: What must be the same within a group; steps that are not in it are alike.
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
        together = tuple(tuple(group) for group in groups.values() if len(group) > 1)
        return self.with_groups(together)

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        nodes = [f'    n{node.number}["{_label(node.name)}"]' for node in self]
        edges = [f"    n{parent} --> n{node.number}" for node in self for parent in node.parents]
        return "\n".join(["flowchart TD", *nodes, *edges])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:  # JupyterLab draws it
        return {"text/vnd.mermaid": self.mermaid(), "text/plain": repr(self)}


def _label(name: str) -> str:
    """A name as Mermaid shows it literally."""
    return "".join(char if char.isalnum() or char in " _-." else f"#{ord(char)};" for char in name)
