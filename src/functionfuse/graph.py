"""The graph that a workflow is made of: immutable, named, in the order in which the calls were written."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from functionfuse.errors import DuplicateNameError, GraphError, NotANodeError
from functionfuse.nodes import (
    Container,
    Instance,
    Item,
    Kind,
    Node,
    Signature,
    Slot,
    base_name,
    undecorated,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Graph", "Ref", "Step", "build", "references"]


@dataclass(frozen=True, slots=True)
class Ref:
    """The result of a step, or an item of it."""

    step: str
    path: tuple[Any, ...] = ()
    slot: Slot = Slot.VALUE

    def __str__(self) -> str:
        return self.step + "".join(f"[{key!r}]" for key in self.path)


@dataclass(frozen=True, slots=True)
class Step:
    """A node's place in a graph."""

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]  # a Ref wherever a node stood; what holds nodes is a Container of Refs
    kwargs: Mapping[str, Any]
    kind: Kind
    state: Ref | None  # the instance that a METHOD works on
    place: str  # "pipeline.py:41", for messages
    parents: tuple[str, ...]  # the steps whose outcomes it takes, each once, in order of use
    instances: tuple[str, ...] = ()  # those parents whose instance it takes, not only their value

    @property
    def function(self) -> str:
        """The name of the user's function, as its author reads it."""
        return base_name(self.func)


def references(values: Iterable[Any]) -> Iterator[Ref]:
    """The references among the arguments of a step, also inside containers."""
    for value in values:
        if type(value) is Ref:
            yield value
        elif type(value) is Container:
            yield from references(value.parts)


@dataclass(frozen=True)
class Graph:
    """The steps that some targets need, each after all that it needs itself."""

    steps: Mapping[str, Step]
    targets: tuple[Ref, ...]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps.values())

    @cached_property
    def state_readers(self) -> Mapping[str, int]:
        """How many steps and targets take the instance that a step leaves."""
        targets = [ref.step for ref in self.targets if ref.slot is Slot.STATE]
        return Counter(targets + [name for step in self for name in step.instances])

    def select(self, pattern: re.Pattern[str] | None) -> list[str]:
        """The names that a pattern matches in full, in graph order; None is all."""
        if pattern is None:
            return list(self.steps)
        return [name for name in self.steps if pattern.fullmatch(name)]

    def replace_func(self, name: str, func: Callable[..., Any]) -> Graph:
        """The same graph with another function in one step.

        Raises:
            GraphError: There is no such step.
            TypeError: The function cannot take the step's arguments.
        """
        if name not in self.steps:
            message = f"there is no node {name!r} whose function could be replaced"
            raise GraphError(message)
        step, func = self.steps[name], undecorated(func)
        instance = () if step.state is None else (step.state,)
        Signature(func).check((*instance, *step.args), dict(step.kwargs))
        steps = {**self.steps, name: dataclasses.replace(step, func=func)}
        return Graph(MappingProxyType(steps), self.targets)

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        number = {name: f"n{index}" for index, name in enumerate(self.steps)}
        nodes = [f'    {number[name]}["{_label(name)}"]' for name in self.steps]
        edges = [
            f"    {number[parent]} --> {number[step.name]}" for step in self for parent in step.parents
        ]
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
    parents = _needed(item.node for item in wanted)
    nodes = sorted(parents, key=_serial)
    names = _names(nodes)
    steps = {names[node]: _step(node, parents[node], names) for node in nodes}
    return Graph(MappingProxyType(steps), tuple(_reference(item, names) for item in wanted))


def _target(target: Any) -> Item:
    if isinstance(target, Instance):
        return target.current()
    if isinstance(target, Node):
        return Item(target, ())
    if isinstance(target, Item):
        return target
    message = f"a workflow takes the nodes that it shall compute, not {target!r}"
    if isinstance(target, list | tuple):
        message += "; to give several, write them as separate arguments: Workflow(*nodes)"
    raise NotANodeError(message)


def _serial(node: Node[Any]) -> int:
    return node.serial


def _needed(wanted: Iterable[Node[Any]]) -> dict[Node[Any], list[Node[Any]]]:
    """Every node that the wanted ones need, with its parents; without recursion, graphs are deep."""
    parents: dict[Node[Any], list[Node[Any]]] = {}
    waiting = list(wanted)
    while waiting:
        node = waiting.pop()
        if node not in parents:
            found: list[Node[Any]] = [] if node.state is None else [node.state]
            _collect(node.args, found)
            if node.kwargs:
                _collect(node.kwargs.values(), found)
            parents[node] = found
            waiting += found
    return parents


def _collect(values: Iterable[Any], found: list[Node[Any]]) -> None:
    for value in values:
        kind = type(value)
        if kind is Node:
            found.append(value)
        elif kind is Item:
            found.append(value.node)
        elif kind is Container:
            _collect(value.parts, found)


def _names(nodes: list[Node[Any]]) -> dict[Node[Any], str]:
    """A name for each node; those that the user did not name are counted in the order of writing."""
    names: dict[Node[Any], str] = {}
    owners: dict[str, Node[Any]] = {}
    bases: dict[int, str] = {}  # by id: a callable need not be hashable
    counts: Counter[str] = Counter()
    for node in nodes:
        name = node.name
        if name is None:
            base = bases.get(id(node.func)) or bases.setdefault(id(node.func), base_name(node.func))
            name = f"{base}_{counts[base]:04d}"
            counts[base] += 1
        if owners.setdefault(name, node) is not node:
            message = (
                f"two different nodes are called {name!r}: {owners[name].place} and {node.place}. "
                "Results are stored under these names: call set_name() on one of them"
            )
            raise DuplicateNameError(message)
        names[node] = name
    return names


def _step(node: Node[Any], parents: list[Node[Any]], names: Mapping[Node[Any], str]) -> Step:
    args, kwargs, state = node.args, node.kwargs, None
    instances: tuple[str, ...] = ()
    if parents:
        args = tuple([_reference(value, names) for value in args])
        kwargs = {key: _reference(value, names) for key, value in kwargs.items()}
        if node.state is not None:
            state = Ref(names[node.state], slot=Slot.STATE)
        refs = references((state, *args, *kwargs.values()))
        instances = tuple({ref.step: None for ref in refs if ref.slot is Slot.STATE})
    return Step(
        names[node],
        node.func,
        args,
        kwargs,
        node.kind,
        state,
        node.place,
        tuple(dict.fromkeys([names[parent] for parent in parents])),
        instances,
    )


def _reference(value: Any, names: Mapping[Node[Any], str]) -> Any:
    """An argument of a step for an argument of a node: nodes become references by name."""
    kind = type(value)
    if kind is Node:
        return Ref(names[value])
    if kind is Item:
        return Ref(names[value.node], value.path, value.slot)
    if kind is Container:
        return Container(value.build, tuple([_reference(part, names) for part in value.parts]))
    return value
