"""Cyclic dataclasses: copy objects that refer to each other, with results in place of their nodes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functionfuse._graph.containers import splitter
from functionfuse._graph.nodes import ATOMS
from functionfuse._graph.objects import split_object
from functionfuse._graph.placeholder import Placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Split = Callable[[Any], tuple[Callable[[Sequence[Any]], Any], list[Any]] | None]

__all__ = ["CyclicCopier", "CyclicObjects", "find_objects"]


@dataclass(frozen=True, slots=True)
class CyclicObjects:
    """All objects that one object refers to through containers and dataclasses."""

    dataclasses: Sequence[Any]
    placeholders: Sequence[Placeholder[Any]]
    leaves: Sequence[Any]  # objects of other types, which are not copied
    seen: Mapping[int, Any]  # all of them, by id


def find_objects(root: Any) -> CyclicObjects:
    """Find all objects that an object refers to through containers and dataclasses."""
    dataclasses: list[Any] = []
    placeholders: list[Placeholder[Any]] = []
    leaves: list[Any] = []
    seen = {id(root): root}
    waiting = [root]
    while waiting:
        whole = waiting.pop()
        kind = type(whole)
        split: Split | None = splitter(kind)
        if isinstance(whole, Placeholder):
            placeholders.append(whole)
            continue
        if split is None and hasattr(kind, "__dataclass_fields__"):
            dataclasses.append(whole)
            split = split_object
        if split is None or (taken_apart := split(whole)) is None:
            leaves.append(whole)
            continue
        for part in taken_apart[1]:
            if type(part) not in ATOMS and id(part) not in seen:
                seen[id(part)] = part
                waiting.append(part)
    return CyclicObjects(dataclasses, placeholders, leaves, seen)


class _Hole:
    """Represents a node in a pattern."""


class CyclicCopier:
    """Copies an object with all that it refers to, and puts results in the places of its nodes."""

    __slots__ = ("holes", "leaves", "pattern")

    def __init__(self, pattern: Any, holes: Sequence[_Hole], leaves: Sequence[Any]) -> None:
        self.pattern, self.holes, self.leaves = pattern, holes, leaves

    @classmethod
    def of(cls, root: Any, found: CyclicObjects) -> CyclicCopier:
        """Copy an object as a pattern, without its nodes."""
        holes = [_Hole() for _ in found.placeholders]
        return cls(
            _copy_pattern(root, found.placeholders, holes, found.leaves), holes, found.leaves
        )

    def __call__(self, parts: Sequence[Any]) -> Any:
        return _copy_pattern(self.pattern, self.holes, parts, self.leaves)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return CyclicCopier, (self.pattern, self.holes, self.leaves)


def _copy_pattern(
    root: Any, holes: Sequence[Any], values: Sequence[Any], leaves: Sequence[Any]
) -> Any:
    """Copy an object, with values in the places of holes; leaves are not copied."""
    memo = {id(leaf): leaf for leaf in leaves}
    memo |= {id(hole): value for hole, value in zip(holes, values, strict=True)}
    return copy.deepcopy(root, memo)
