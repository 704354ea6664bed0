"""Shallow search for nodes in any object, through the parts that pickle would send."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.containers import part_label
from functionfuse._graph.nodes import ATOMS
from functionfuse._graph.object_parts import parts_function
from functionfuse._graph.placeholder import Placeholder

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._graph.object_parts import Label, Parts

    Path = tuple["Path", Label] | None

__all__ = ["find_placeholder"]

_MAX_DEPTH: Final = 8
_NEAR: Final = 2  # levels at which iterators are found
_MAX_OBJECTS: Final = 500  # searched for parts
_MAX_PARTS: Final = 2_000  # of one object, other than numbers and strings

_NO_TYPES: Final[frozenset[type]] = frozenset()


def find_placeholder(value: Any, iterators: frozenset[type] = _NO_TYPES) -> tuple[Any, str] | None:
    """Find a node, item or instance in an object; returns it with its path, as `, item 0, attribute 'x'`.

    The search is bounded, since every call and every result is searched:
    it goes a few levels deep, level by level.

    Args:
        value: The object.
        iterators: Types of iterators that are found as well, in the object and its attributes.
    """
    if isinstance(value, Placeholder):
        return value, ""
    waiting: deque[tuple[Any, Path, int]] = deque([(value, None, 0)])
    seen = {id(value): value}
    while waiting:
        whole, path, depth = waiting.popleft()
        kind: Any = type(whole)
        look = parts_function(kind)
        if look is None:
            continue
        for label, part in _parts_of(look, whole):
            kind = type(part)
            if kind in ATOMS or id(part) in seen:
                continue
            if issubclass(kind, Placeholder) or (depth < _NEAR and kind in iterators):
                return part, _format((path, label))
            if depth < _MAX_DEPTH and len(seen) < _MAX_OBJECTS and parts_function(kind) is not None:
                seen[id(part)] = part
                waiting.append((part, (path, label), depth + 1))
    return None


def _parts_of(look: Callable[[Any], Parts], whole: Any) -> Parts:
    try:
        return [*islice(look(whole), _MAX_PARTS)]
    except Exception:  # noqa: BLE001 - of an object in the middle of a change, or with broken methods
        return ()


def _format(path: Path) -> str:
    labels: list[str] = []
    while path is not None:
        path, label = path
        label = label if isinstance(label, str) else part_label(*label)
        labels.append(f", {label}" if label else "")
    return "".join(reversed(labels))
