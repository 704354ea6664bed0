"""Programs with the same meaning in plain Python and as a workflow.

Workers import only this module to run their nodes.
"""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Argument", "Box", "Call", "Program", "Shape", "Use", "describe"]

Shape = Literal["value", "list", "tuple", "dict", "set", "box"]


def describe(value: Any) -> str:
    """A text that identifies the type, order and content of a value; equal in all processes."""
    name = type(value).__name__
    if isinstance(value, set | frozenset):
        return f"{name}{sorted(map(describe, value))}"
    if isinstance(value, list | tuple):
        return f"{name}{[describe(part) for part in value]}"
    if isinstance(value, dict):
        return f"{name}{[(describe(key), describe(part)) for key, part in value.items()]}"
    if is_dataclass(value):
        return f"{name}{[describe(getattr(value, field.name)) for field in fields(value)]}"
    return repr(value)


def weigh(value: Any) -> int:
    """A number for a value."""
    return zlib.crc32(describe(value).encode())


@dataclass(frozen=True)
class Box:
    """A dataclass that may hold nodes."""

    inside: Any


def mix(*args: Any, scale: int = 1, **named: Any) -> dict[str, Any]:
    """A result with items that depends on all arguments."""
    parts = [scale * weigh(each) for each in (*args, *named, *named.values())]
    return {"total": sum(parts), "parts": parts}


class Ledger:
    """A class whose methods return its internal list and change it."""

    def __init__(self, *start: Any) -> None:
        self.entries = [weigh(each) for each in start]

    def enter(self, *args: Any, scale: int = 1, **named: Any) -> list[int]:
        """Add an entry; returns the list that later calls extend."""
        self.entries.append(mix(*args, scale=scale, **named)["total"])
        return self.entries

    def __repr__(self) -> str:
        return f"Ledger({self.entries})"


node_of_mix = workflow(mix)
node_of_ledger = workflow(Ledger)


@dataclass(frozen=True)
class Use:
    """The result of an earlier call, or an item of it, or the instance that it created."""

    call: int
    path: tuple[Any, ...] = ()
    whole_object: bool = False


@dataclass(frozen=True)
class Argument:
    """An argument of a call: one use or number, or a container of arguments."""

    shape: Shape
    parts: tuple[Any, ...]  # Use or int for a value, else Argument

    def build(self, take: Callable[[Use], Any]) -> Any:
        """The argument, with values of `take` for earlier results."""
        if self.shape == "value":
            (part,) = self.parts
            return take(part) if isinstance(part, Use) else part
        built = [part.build(take) for part in self.parts]
        if self.shape == "dict":
            return {f"key {number}": part for number, part in enumerate(built)}
        if self.shape == "box":
            return Box(built)
        return {"list": list, "tuple": tuple, "set": set}[self.shape](built)


@dataclass(frozen=True)
class Call:
    """One line of a program."""

    args: tuple[Argument, ...]
    named: tuple[tuple[str, Argument], ...] = ()
    makes: bool = False  # creates an instance
    works_on: int | None = None  # the call that created the instance of this method
    name: str | None = None


@dataclass(frozen=True)
class Program:
    """Calls, and the targets among their results."""

    calls: tuple[Call, ...]
    targets: tuple[Use, ...]

    def nodes(self) -> list[Any]:
        """The targets, as nodes of a graph."""
        return self._perform(node_of_mix, node_of_ledger, lambda value: value, _named)

    def values(self) -> list[Any]:
        """The values of the targets in plain Python, with a copy of every result."""
        return self._perform(mix, Ledger, copy.deepcopy, lambda value, _: value)

    def _perform(
        self,
        function: Callable[..., Any],
        make: Callable[..., Any],
        keep: Callable[[Any], Any],
        name: Callable[[Any, str | None], Any],
    ) -> list[Any]:
        objects: dict[int, Any] = {}
        results: list[Any] = []

        def take(use: Use) -> Any:
            value = keep(objects[use.call]) if use.whole_object else results[use.call]
            for key in use.path:
                value = value[key]
            return value

        for number, call in enumerate(self.calls):
            args = [argument.build(take) for argument in call.args]
            named = {key: argument.build(take) for key, argument in call.named}
            if call.makes:
                objects[number] = name(make(*args), call.name)
                results.append(None)
            else:
                called = function if call.works_on is None else objects[call.works_on].enter
                results.append(name(keep(called(*args, **named)), call.name))
        return [take(use) for use in self.targets]


def _named(node: Any, name: str | None) -> Any:
    return node.set_name(name) if name else node
