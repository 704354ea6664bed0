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

__all__ = ["Graph", "Number", "Ref", "Step", "references"]


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


@dataclass(frozen=True, eq=False)
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
        return self.with_steps(order)

    def __repr__(self) -> str:
        return f"<graph of {len(self)} node{'s' * (len(self) != 1)}>"

    def with_steps(self, order: Iterable[Step]) -> Graph:
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
        return self.with_groups(together)

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
