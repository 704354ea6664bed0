"""Nodes as they were written into a graph: numbers and names, and what stands for results."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from functools import cached_property
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.gc import collection_paused
from functionfuse._graph.collect import duplicate, write
from functionfuse._graph.graph import Graph, Number, Ref, Step, new
from functionfuse._graph.nodes import ATOMS, Container, Item, Node, Slot
from functionfuse._graph.signature import base_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import CodeType

    from functionfuse._graph.collect import Written

__all__ = ["WrittenGraph", "build"]


def build(targets: Iterable[Any]) -> WrittenGraph:
    """The graph of everything that the targets need.

    Args:
        targets: Nodes, items of nodes, or instances of decorated classes.

    Raises:
        NotANodeError: A target is something else, or there is none.
        DuplicateNameError: Two different nodes have one name.
    """
    graph = WrittenGraph(write(targets))
    if any(map(_LIKE_COUNTED.fullmatch, graph.written.names.values())):
        graph.order  # noqa: B018 - a name that was given may be that of another node
    return graph


class WrittenGraph(Graph):
    """A graph whose steps are made when somebody asks for one: who only wants the values does not."""

    written: Written
    replaced: Mapping[Node[Any], Step]  # steps that have another function than their node

    def __init__(self, written: Written) -> None:
        self.__dict__ |= {"written": written, "replaced": {}}

    def __len__(self) -> int:
        return len(self.written.nodes)

    @cached_property
    def order(self) -> tuple[Step, ...]:
        """The steps, by their number."""
        with collection_paused():
            return _Steps(self.written).make()

    @cached_property
    def targets(self) -> tuple[Ref, ...]:
        """What was asked for."""
        wanted = [(item, self.step(item.node)) for item in self.written.targets]
        return tuple([Ref(step.name, step.number, item.path, item.slot) for item, step in wanted])

    def with_steps(self, order: Iterable[Step]) -> Graph:
        """The same graph with other functions in its steps."""
        graph, steps = WrittenGraph(self.written), tuple(order)
        pairs = zip(self.written.nodes, steps, strict=True)
        replaced = {node: step for node, step in pairs if step.func is not node.func}
        graph.__dict__ |= {"order": steps, "replaced": replaced}
        return graph

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled as steps, with their names: copies of nodes would be other nodes."""
        return Graph, (self.order, self.targets)

    def step(self, node: Node[Any]) -> Step:
        """The step of one of the nodes."""
        number = bisect_left(self.written.nodes, node.serial, key=attrgetter("serial"))
        return self.order[number]


class _Steps:
    """Makes the steps of nodes, in the order of writing."""

    def __init__(self, written: Written) -> None:
        self._nodes = written.nodes
        self._name_of = _Names(written.names).of
        self._first = self._nodes[0].serial
        span = self._nodes[-1].serial - self._first + 1
        # what stands for each node, by its serial number less the first one: a list is faster,
        # and a fifth as large where most nodes are in the graph that were written meanwhile
        self._numbers: Any = [None] * span if span <= 2 * len(self._nodes) else {}
        self._made: list[Step] = []
        self._parents: tuple[Number, ...] = ()  # of the last one
        self._written_at: tuple[CodeType | str, int, str] = "", 0, ""  # the last one

    def make(self) -> tuple[Step, ...]:
        """All of them.

        Raises:
            DuplicateNameError: A name that was given is one that is counted.
        """
        for node in self._nodes:
            self._made.append(self._step(node))
        return tuple(self._made)

    def _step(self, node: Node[Any]) -> Step:
        name, number = self._name_of(node), Number(len(self._made))
        self._numbers[node.serial - self._first] = number
        parents: list[Number] = []
        state, args, kwargs = None, node.args, node.kwargs
        if node.state is not None:
            state = self._refer(node.state, parents, slot="state")
        if not ATOMS.issuperset(map(type, args)):
            args = tuple([self._reference(value, parents) for value in args])
        if kwargs:
            kwargs = {key: self._reference(value, parents) for key, value in kwargs.items()}
        each = self._each_once(parents, args)
        place = self._place(node)
        return new(Step, (name, number, node.func, args, kwargs, node.kind, state, place, each))

    def _reference(self, value: Any, parents: list[Number]) -> Any:
        """An argument of a step for an argument of a node, with what stands for results where nodes stood."""
        kind = type(value)
        if kind is Node:
            number = self._numbers[value.serial - self._first]
            parents.append(number)
            return number
        if kind is Item:
            return self._refer(value.node, parents, value.path, value.slot)
        if kind is Container:
            parts = [self._reference(part, parents) for part in value.parts]
            return Container(value.build, tuple(parts))
        return value

    def _refer(
        self,
        node: Node[Any],
        parents: list[Number],
        path: tuple[Any, ...] = (),
        slot: Slot = "value",
    ) -> Ref:
        number = self._numbers[node.serial - self._first]
        parents.append(number)
        return new(Ref, (self._made[number].name, number, path, slot))

    def _each_once(self, parents: list[Number], args: tuple[Any, ...]) -> tuple[Number, ...]:
        """The parents of a step: what it is given itself, where it is given nothing else; one object for many readers."""
        each = tuple(dict.fromkeys(parents) if len(parents) > 1 else parents)
        if len(each) == len(args) and all(map(is_, each, args)):
            return args
        if each != self._parents:
            self._parents = each
        return self._parents

    def _place(self, node: Node[Any]) -> str:
        """Where a node was written: many are of one line."""
        code, instruction, place = self._written_at
        if node.instruction != instruction or node.code is not code:
            place = node.place
            self._written_at = node.code, node.instruction, place
        return place


class _Names:
    """The names of nodes: what they were given, or a count for each name of a function.

    No two counts make the same name.
    """

    def __init__(self, given: Mapping[Node[Any], str]) -> None:
        self._counters: dict[str, Iterator[str]] = {}
        self._next: dict[int, Callable[[], str]] = {}  # by id: a callable need not be hashable
        self._given = given
        self._taken = {name: node for node, name in given.items()}

    def of(self, node: Node[Any]) -> str:
        """The name of a node; each is asked for once, in order.

        Raises:
            DuplicateNameError: Another one was given the name that is counted for this one.
        """
        if node in self._given:
            return self._given[node]
        counted = self._next.get(id(node.func))
        name = counted() if counted else self._first(node.func)
        if name in self._taken:
            raise duplicate(name, node, self._taken[name])
        return name

    def _first(self, func: Callable[..., Any]) -> str:
        """Begin to count the nodes of a function, or go on where another one has its name."""
        base = base_name(func)
        counter = self._counters.setdefault(base, _counted(base))
        self._next[id(func)] = counter.__next__
        return next(counter)


def _counted(base: str) -> Iterator[str]:
    for count in range(_FOUR_DIGITS):
        yield f"{base}_{count:04d}"
    for count in itertools.count(_FOUR_DIGITS):
        yield f"{base}_{count}"


_FOUR_DIGITS: Final = 1_000  # from here on, a number needs no zeros
_LIKE_COUNTED: Final = re.compile(r".*_\d{4,}", re.DOTALL)
