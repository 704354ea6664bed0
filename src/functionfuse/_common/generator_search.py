"""Search for random generators in the values of a script's global variables."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import chain, islice
from types import BuiltinFunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.global_references import importable_module, is_generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["generators_in"]

_MAX_OBJECTS: Final = 500  # that are looked into
_MAX_ITEMS: Final = 100  # of one container


def generators_in(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the generators in containers, in partial objects, and in objects of classes that are pickled by value.

    Those of libraries' objects are not found: an estimator repeats what it was seeded for.
    """
    waiting = deque(values)
    seen: dict[int, Any] = {}
    while waiting and len(seen) < _MAX_OBJECTS:
        value = waiting.popleft()
        if is_generator(value):
            yield value
        elif id(value) not in seen and (parts := _parts(value)):
            seen[id(value)] = value
            waiting.extend(islice(parts, _MAX_ITEMS))


def _parts(value: Any) -> Iterable[Any]:
    kind = type(value)
    if kind is dict:
        return value.values()  # type: ignore[no-any-return]
    if kind in _CONTAINERS:
        return value  # type: ignore[no-any-return]
    if kind is partial:
        return chain([value.func], value.args, value.keywords.values())
    if kind is MethodType or kind is BuiltinFunctionType:
        return [value.__self__]
    if issubclass(kind, type) or importable_module(kind.__module__) is not None:
        return ()
    attributes: dict[str, Any] = getattr(value, "__dict__", {})
    return attributes.values()


_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})
