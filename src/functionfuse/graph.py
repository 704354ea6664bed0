"""The graph that a workflow is made of: immutable, named, in the order in which the calls were written."""

from __future__ import annotations

import dataclasses
import gc
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import DuplicateNameError, GraphError, NotANodeError
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
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping

__all__ = ["Graph", "Ref", "Step", "build", "references"]


#: Makes a named tuple of all its fields in a third of the time that its own constructor takes.
new: Final = tuple.__new__


class Ref(NamedTuple):
    """The result of a step, or an item of it."""

    step: str
    number: int  # the step's position in the graph
    path: tuple[Any, ...] = ()
    slot: Slot = "value"

    def __str__(self) -> str:
        return self.step + "".join(f"[{key!r}]" for key in self.path)


class Step(NamedTuple):
    """A node's place in a graph."""

    name: str
    number: int  # its position in the graph
    func: Callable[..., Any]
    args: tuple[Any, ...]  # a Ref wherever a node stood; what holds nodes is a Container of Refs
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


def references(values: Iterable[Any]) -> Iterator[Ref]:
    """The references among the arguments of a step, also inside containers."""
    for value in values:
        if type(value) is Ref:
            yield value
        elif type(value) is Container:
            yield from references(value.parts)


_FOUR_DIGITS: Final = (
    1_000  # from here on, a number needs no zeros: to ask for them doubles the time
)


@dataclass(frozen=True)
class Graph:
    """The steps that some targets need, each after all that it needs itself."""

    steps: Mapping[str, Step]
    targets: tuple[Ref, ...]
    groups: tuple[tuple[str, ...], ...] = ()  # steps that an engine gets as one unit, see `fuse`

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps.values())

    @cached_property
    def order(self) -> tuple[Step, ...]:
        """The steps by their number."""
        return tuple(self.steps.values())

    @cached_property
    def stateful(self) -> bool:
        """Tell whether a decorated class is in it."""
        return any(step.kind is Kind.CONSTRUCT for step in self)

    @cached_property
    def state_readers(self) -> Mapping[int, int]:
        """How many steps and targets take the instance that a step leaves; one that takes it twice counts twice."""
        if not self.stateful:
            return {}
        taken = chain(self.targets, *[references(step.takes) for step in self])
        return Counter(ref.number for ref in taken if ref.slot == "state")

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
        steps = {**self.steps, name: step._replace(func=func)}
        return dataclasses.replace(self, steps=MappingProxyType(steps))

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
    with _garbage_collection_paused():
        nodes = sorted(_needed(item.node for item in wanted), key=attrgetter("serial"))
        refs = _refs(nodes)
        places: dict[tuple[int, int], str] = {}  # many nodes are made by one line
        steps = {ref.step: _step(node, ref, refs, places) for node, ref in refs.items()}
    return Graph(MappingProxyType(steps), tuple(_reference(item, refs) for item in wanted))


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Make many objects that all stay without looking again and again for some that do not."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            # hand everything to the oldest generation now, instead of in three passes over it
            gc.freeze()
            gc.unfreeze()
        if enabled:
            gc.enable()


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


def _needed(wanted: Iterable[Node[Any]]) -> set[Node[Any]]:
    """Every node that the wanted ones need; without recursion, graphs are deep."""
    needed: set[Node[Any]] = set()
    waiting = list(wanted)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            _collect(node.args, waiting)
            if node.kwargs:
                _collect(node.kwargs.values(), waiting)
            if node.state is not None:
                waiting.append(node.state)
    return needed


def _collect(values: Iterable[Any], found: list[Node[Any]]) -> None:
    for value in values:
        kind = type(value)
        if kind is Node:
            found.append(value)
        elif kind is Item:
            found.append(value.node)
        elif kind is Container:
            _collect(value.parts, found)


def _refs(nodes: list[Node[Any]]) -> dict[Node[Any], Ref]:
    """A named reference for each node; those without a name are counted in the order of writing."""
    refs: dict[Node[Any], Ref] = {}
    owners: dict[str, Node[Any]] = {}
    bases: dict[int, str] = {}  # by id: a callable need not be hashable
    counts: dict[str, int] = {}
    for number, node in enumerate(nodes):
        name = node.name
        if name is None:
            base = bases.get(id(node.func)) or bases.setdefault(id(node.func), base_name(node.func))
            count = counts[base] = counts.get(base, -1) + 1
            name = f"{base}_{count}" if count >= _FOUR_DIGITS else f"{base}_{count:04d}"
        if owners.setdefault(name, node) is not node:
            message = (
                f"two different nodes are called {name!r}: {owners[name].place} and {node.place}. "
                "Results are stored under these names: call set_name() on one of them"
            )
            raise DuplicateNameError(message)
        refs[node] = new(Ref, (name, number, (), "value"))
    return refs


def _step(
    node: Node[Any],
    ref: Ref,
    refs: Mapping[Node[Any], Ref],
    places: dict[tuple[int, int], str],
) -> Step:
    state = None if node.state is None else refs[node.state]._replace(slot="state")
    args, kwargs = node.args, node.kwargs
    if args:
        args = tuple([value if type(value) in ATOMS else _reference(value, refs) for value in args])
    if kwargs:
        kwargs = {key: _reference(value, refs) for key, value in kwargs.items()}
    parents = _parents(state, args, kwargs)
    name, number, site = ref.step, ref.number, (id(node.code), node.instruction)
    place = places.get(site) or places.setdefault(site, node.place)
    return new(Step, (name, number, node.func, args, kwargs, node.kind, state, place, parents))


def _parents(
    state: Ref | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[int, ...]:
    values = args if state is None and not kwargs else (state, *args, *kwargs.values())
    numbers = [value.number for value in values if type(value) is Ref]
    if Container in map(type, values):
        numbers = [ref.number for ref in references(values)]
    return tuple(dict.fromkeys(numbers)) if len(numbers) > 1 else tuple(numbers)


def _reference(value: Any, refs: Mapping[Node[Any], Ref]) -> Any:
    """An argument of a step for an argument of a node: nodes become references by name."""
    kind = type(value)
    if kind is Node:
        return refs[value]
    if kind is Item:
        return refs[value.node]._replace(path=value.path, slot=value.slot)
    if kind is Container:
        return Container(value.build, tuple([_reference(part, refs) for part in value.parts]))
    return value
