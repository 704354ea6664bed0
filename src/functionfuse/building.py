"""Nodes as they were written into a graph: numbers and names, and what stands for results."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from functools import cached_property
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Final

from functionfuse.garbage import collection_paused
from functionfuse.graph import Graph, Number, Ref, Step, new
from functionfuse.nodes import ATOMS, Container, Item, Node
from functionfuse.signature import base_name
from functionfuse.written import duplicate, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from functionfuse.written import Written

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
    if any(name[-1:].isdigit() for name in graph.written.names.values()):
        graph.order  # noqa: B018 - a name that was given may be one that is counted
    return graph


class WrittenGraph(Graph):
    """A graph whose steps are made when somebody asks for one: who only wants the values does not."""

    written: Written

    def __init__(self, written: Written) -> None:  # noqa: D107
        self.__dict__["written"] = written

    def __len__(self) -> int:
        return len(self.written.nodes)

    @cached_property
    def order(self) -> tuple[Step, ...]:
        """The steps, by their number."""
        with collection_paused():
            return tuple(_steps(self.written.nodes, self.written.names))

    @cached_property
    def targets(self) -> tuple[Ref, ...]:
        """What was asked for."""
        return tuple(
            Ref(self.step(item.node).name, self.step(item.node).number, item.path, item.slot)
            for item in self.written.targets
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled as steps, with their names: copies of nodes would be other nodes."""
        return Graph, (self.order, self.targets)

    def step(self, node: Node[Any]) -> Step:
        """The step of one of the nodes."""
        number = bisect_left(self.written.nodes, node.serial, key=attrgetter("serial"))
        return self.order[number]


class _Numbers:
    """What stands for each node where it is an argument, by its serial number less the first one."""

    __slots__ = ("first", "of")

    def __init__(self, nodes: Sequence[Node[Any]]) -> None:
        self.first = nodes[0].serial
        span = nodes[-1].serial - self.first + 1
        # a list is faster, and a fifth as large where most nodes are in the graph that were written meanwhile
        self.of: Any = [None] * span if span <= 2 * len(nodes) else {}

    def __getitem__(self, node: Node[Any]) -> Number:
        number: Number = self.of[node.serial - self.first]
        return number


def _steps(nodes: Sequence[Node[Any]], names: Mapping[Node[Any], str]) -> list[Step]:
    """The steps of nodes in the order of writing."""
    steps: list[Step] = []
    numbers, name_of = _Numbers(nodes), _Names(names).of
    number_of, first = numbers.of, numbers.first
    code, instruction, place = None, -1, ""
    before: tuple[Number, ...] = ()  # the parents of the last one
    for position, node in enumerate(nodes):
        if node.instruction != instruction or node.code is not code:  # many nodes are of one line
            code, instruction, place = node.code, node.instruction, node.place
        number = number_of[node.serial - first] = Number(position)
        parents: list[Number] = []
        state = None
        if node.state is not None:
            parent = number_of[node.state.serial - first]
            parents.append(parent)
            state = new(Ref, (steps[parent].name, parent, (), "state"))
        args: list[Any] = []
        for value in node.args:  # what `_reference` does, without a call for each node
            kind = type(value)
            if kind is Node:
                value = number_of[value.serial - first]  # noqa: PLW2901
                parents.append(value)
            elif kind is Item:
                parent = number_of[value.node.serial - first]
                parents.append(parent)
                value = new(Ref, (steps[parent].name, parent, value.path, value.slot))  # noqa: PLW2901
            elif kind not in ATOMS:
                value = _reference(value, numbers, parents, steps)  # noqa: PLW2901
            args.append(value)
        kwargs = node.kwargs
        if kwargs:
            kwargs = {
                key: _reference(value, numbers, parents, steps) for key, value in kwargs.items()
            }
        given = tuple(args) if parents else node.args
        each = tuple(parents) if len(parents) <= 1 else _each_once(parents, given)
        if each != before:  # one object for those of many readers
            before = each
        fields = (name_of(node), number, node.func, given, kwargs, node.kind, state, place, before)
        steps.append(new(Step, fields))
    return steps


def _each_once(parents: list[Number], given: tuple[Any, ...]) -> tuple[Number, ...]:
    """The parents of a step; what it is given itself, where it is given nothing else."""
    each = tuple(dict.fromkeys(parents))
    same = len(each) == len(given) and all(map(is_, each, given))
    return given if same else each


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


def _reference(value: Any, numbers: _Numbers, parents: list[Number], steps: Sequence[Step]) -> Any:
    """An argument of a step for an argument of a node, with what stands for results where nodes stood.

    Args:
        value: The argument.
        numbers: What stands for each node.
        parents: Gets the number of each step that is referred to.
        steps: The steps, by number.
    """
    kind = type(value)
    if kind is Node:
        number = numbers[value]
        parents.append(number)
        return number
    if kind in ATOMS:
        return value
    if kind is Item:
        number = numbers[value.node]
        parents.append(number)
        return new(Ref, (steps[number].name, number, value.path, value.slot))
    if kind is Container:
        parts = [_reference(part, numbers, parents, steps) for part in value.parts]
        return Container(value.build, tuple(parts))
    return value
