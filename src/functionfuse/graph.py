"""The graph that a workflow is made of: immutable, named, in the order in which the calls were written."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter, is_
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from functionfuse.errors import DuplicateNameError, GraphError, NotANodeError
from functionfuse.garbage import collection_paused
from functionfuse.nodes import (
    ATOMS,
    Container,
    Instance,
    Item,
    Kind,
    Node,
    Slot,
    undecorated,
)
from functionfuse.signature import Signature, base_name

if TYPE_CHECKING:
    import re
    from collections.abc import (
        Callable,
        Collection,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

__all__ = ["Graph", "Number", "Ref", "Step", "build", "references"]


#: Makes a named tuple of all its fields in a third of the time that its own constructor takes.
new: Final = tuple.__new__


class Number(int):
    """A step's position in the graph; among the arguments of another step, what stands for its result.

    One object, since there is one for each step of a graph, however large.
    """

    __slots__ = ()
    path: ClassVar[tuple[Any, ...]] = ()
    slot: ClassVar[Slot] = "value"

    @property
    def number(self) -> int:
        """As `Ref` calls it."""
        return self


class Ref(NamedTuple):
    """The result of a step, an item of it, or the instance that it leaves."""

    step: str
    number: int
    path: tuple[Any, ...] = ()
    slot: Slot = "value"

    def __str__(self) -> str:
        return self.step + "".join(f"[{key!r}]" for key in self.path)


class Step(NamedTuple):
    """A node's place in a graph."""

    name: str
    number: int  # its position in the graph
    func: Callable[..., Any]
    args: tuple[Any, ...]  # a Number or Ref wherever a node stood, also within a Container
    kwargs: Mapping[str, Any]
    kind: Kind
    state: Ref | None  # the instance that a METHOD works on
    place: str  # "pipeline.py:41", for messages
    parents: tuple[int, ...]  # positions of the steps whose outcomes it takes, each once

    @property
    def instances(self) -> set[int]:
        """Those parents whose instance it takes, not only their value."""
        return {ref.number for ref in references(self.takes) if ref.slot == "state"}

    @property
    def takes(self) -> tuple[Any, ...]:
        """All that its call is given."""
        return (self.state, *self.args, *self.kwargs.values())

    @property
    def function(self) -> str:
        """The name of the user's function, as its author reads it."""
        return base_name(self.func)


_STATELESS: Final = ATOMS | {Number}


def references(values: Iterable[Any]) -> Iterator[Number | Ref]:
    """What stands for results among the arguments of a step, also inside containers."""
    for value in values:
        kind = type(value)
        if kind is Number or kind is Ref:
            yield value
        elif kind is Container:
            yield from references(value.parts)


@dataclass(frozen=True)
class Graph:
    """The steps that some targets need, each after all that it needs itself."""

    order: tuple[Step, ...]  # by their number
    targets: tuple[Ref, ...]
    groups: tuple[tuple[str, ...], ...] = ()  # steps that an engine gets as one unit, see `fuse`

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.order)

    @cached_property
    def steps(self) -> Mapping[str, Step]:
        """The steps by their name, in the same order."""
        return MappingProxyType({step.name: step for step in self.order})

    @cached_property
    def stateful(self) -> bool:
        """Tell whether a decorated class is in it."""
        return any(step.kind is Kind.CONSTRUCT for step in self)

    @cached_property
    def state_readers(self) -> Mapping[int, int]:
        """How many steps and targets take the instance that a step leaves; one that takes it twice counts twice."""
        if not self.stateful:
            return {}
        taken: list[Number | Ref] = [ref for ref in self.targets if ref.slot == "state"]
        for step in self:
            if step.state is not None:
                taken.append(step.state)
            given = (*step.args, *step.kwargs.values()) if step.kwargs else step.args
            if not _STATELESS.issuperset(map(type, given)):
                taken += [ref for ref in references(given) if ref.slot == "state"]
        return Counter([ref.number for ref in taken])

    def select(self, pattern: re.Pattern[str] | None) -> list[str]:
        """The names that a pattern matches in full, in graph order; None is all."""
        if pattern is None:
            return list(self.steps)
        return [name for name in self.steps if pattern.fullmatch(name)]

    def replace_func(self, name: str, func: Callable[..., Any]) -> Graph:
        """The same graph with another function in one step.

        Raises:
            GraphError: There is no such step.
            TypeError: The function cannot take the step's arguments, or is none.
        """
        if name not in self.steps:
            message = f"there is no node {name!r} whose function could be replaced"
            raise GraphError(message)
        if not callable(func):
            message = f"node {name!r} needs a function, not {func!r}"
            raise TypeError(message)
        step, func = self.steps[name], undecorated(func)
        instance = () if step.state is None else (step.state,)
        Signature(func).check((*instance, *step.args), dict(step.kwargs))
        order = list(self.order)
        order[step.number] = step._replace(func=func)
        return dataclasses.replace(self, order=tuple(order))

    def __repr__(self) -> str:
        return f"<graph of {len(self)} node{'s' * (len(self) != 1)}>"

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
        for step in self.order:
            kind = (step.name in names, kinds.get(step.name))
            left = [
                levels[parent.number]
                + (parent.name in names and (True, kinds.get(parent.name)) != kind)
                for parent in map(self.order.__getitem__, step.parents)
            ]
            levels.append(max(left, default=0))
            if step.name in names:
                groups[levels[-1], kind].append(step.name)
        together = tuple(tuple(group) for group in groups.values() if len(group) > 1)
        return dataclasses.replace(self, groups=together)

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        nodes = [f'    n{step.number}["{_label(step.name)}"]' for step in self]
        edges = [f"    n{parent} --> n{step.number}" for step in self for parent in step.parents]
        return "\n".join(["flowchart TD", *nodes, *edges])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:  # JupyterLab draws it
        return {"text/vnd.mermaid": self.mermaid(), "text/plain": repr(self)}


def _label(name: str) -> str:
    """A name as Mermaid shows it literally."""
    return "".join(char if char.isalnum() or char in " _-." else f"#{ord(char)};" for char in name)


def build(targets: Iterable[Any]) -> Graph:
    """The graph of everything that the targets need.

    Args:
        targets: Nodes, items of nodes, or instances of decorated classes.

    Raises:
        NotANodeError: A target is something else, or there is none.
        DuplicateNameError: Two different nodes have one name.
    """
    wanted = [_target(target) for target in targets]
    if not wanted:
        message = "a workflow needs at least one node to compute"
        raise NotANodeError(message)
    with collection_paused():
        nodes = _needed(item.node for item in wanted)
        nodes.sort(key=attrgetter("serial"))
        numbers = _Numbers(nodes)
        steps = _steps(nodes, numbers)
        refs = [_reference(item, numbers, [], steps) for item in wanted]
        del nodes, numbers  # a tuple of the steps is as large
    return Graph(tuple(steps), tuple(refs))


def _target(target: Any) -> Item:
    if isinstance(target, Instance):
        return target._current()
    if isinstance(target, Node):
        return Item(target, ())
    if isinstance(target, Item):
        return target
    message = f"a workflow takes the nodes that it shall compute, not {target!r}"
    if isinstance(target, list | tuple):
        message += "; to give several, write them as separate arguments: Workflow(*nodes)"
    raise NotANodeError(message)


def _needed(wanted: Iterable[Node[Any]]) -> list[Node[Any]]:
    """Every node that the wanted ones need; without recursion, graphs are deep."""
    needed: set[Node[Any]] = set()
    waiting = list(wanted)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            for value in node.args:  # what `_collect` does, without a call for each node
                kind = type(value)
                if kind is Node:
                    waiting.append(value)
                elif kind not in ATOMS:
                    _collect((value,), waiting)
            if node.kwargs:
                _collect(node.kwargs.values(), waiting)
            if node.state is not None:
                waiting.append(node.state)
    return list(needed)


def _collect(values: Iterable[Any], found: list[Node[Any]]) -> None:
    for value in values:
        kind = type(value)
        if kind is Node:
            found.append(value)
        elif kind is Item:
            found.append(value.node)
        elif kind is Container:
            _collect(value.parts, found)


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


def _steps(nodes: Sequence[Node[Any]], numbers: _Numbers) -> list[Step]:
    """The steps of nodes in the order of writing; notes what stands for each."""
    steps: list[Step] = []
    number_of, first = numbers.of, numbers.first
    names = _Names(nodes)
    code, instruction, place = None, -1, ""
    before: tuple[Number, ...] = ()  # the parents of the last one
    for position, node in enumerate(nodes):
        if node.instruction != instruction or node.code is not code:  # many nodes are of one line
            code, instruction, place = node.code, node.instruction, node.place
        name = names.of(node)
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
        fields = (name, number, node.func, given, kwargs, node.kind, state, place, before)
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

    def __init__(self, nodes: Iterable[Node[Any]]) -> None:
        self._counters: dict[str, Iterator[str]] = {}
        self._next: dict[int, Callable[[], str]] = {}  # by id: a callable need not be hashable
        self._given: dict[str, Node[Any]] = {}  # the first node of each name
        for node in nodes:
            if node.name is not None:
                self._given.setdefault(node.name, node)

    def of(self, node: Node[Any]) -> str:
        """The name of a node; each is asked for once, in order.

        Raises:
            DuplicateNameError: Another one has it.
        """
        name = node.name
        if name is None:
            counted = self._next.get(id(node.func))
            name = counted() if counted else self._first(node.func)
        if name in self._given and self._given[name] is not node:
            raise _duplicate(name, node, self._given[name])
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


def _duplicate(name: str, *nodes: Node[Any]) -> DuplicateNameError:
    first, second = sorted(nodes, key=attrgetter("serial"))
    message = (
        f"two different nodes are called {name!r}: {first.place} and {second.place}. "
        "Results are stored under these names: call set_name() on one of them"
    )
    return DuplicateNameError(message)


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
