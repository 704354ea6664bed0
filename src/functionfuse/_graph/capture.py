"""Argument capture: copy containers among a call's arguments when the call is recorded."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.changed_objects import note_object
from functionfuse._graph.nodes import ATOMS, Container, Item, Node, Placeholder
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["build_dict", "capture_arguments"]


def capture_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Capture arguments: copy containers, and turn those that hold nodes into a `Container`.

    A list that grows after the call, or a dict of parameters that is changed for the next call,
    then has the same effect as in plain Python.
    Other objects are captured by reference.

    Raises:
        GraphError: A container contains itself.
    """
    try:
        if not _UNCHANGED_TYPES.issuperset(map(type, args)):
            args = tuple([_capture(value) for value in args])
        return args, {key: _capture(value) for key, value in kwargs.items()} if kwargs else _NONE
    except RecursionError:
        message = (
            "an argument contains itself, or is nested deeper than Python's recursion limit: "
            "make it in a @workflow function and pass that node instead"
        )
        raise GraphError(message) from None


_NONE: Final[dict[str, Any]] = {}  # shared by all calls without keywords; never changed

_UNCHANGED_TYPES: Final = ATOMS | {Node, Item}
_REFERENCE_TYPES: Final = frozenset({Node, Item, Container})


def _capture(value: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """Capture one argument; see `capture_arguments`."""
    kind = type(value)
    if kind in _UNCHANGED_TYPES:
        return value
    if issubclass(kind, Placeholder):
        return value._current()
    if kind is dict:
        return _capture_parts(build_dict, itertools.chain.from_iterable(value.items()))
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        return _capture_parts(kind, value)
    if isinstance(value, tuple) and hasattr(kind, "_make"):
        return _capture_parts(kind._make, value)
    if hasattr(kind, "__dataclass_fields__"):
        return _capture_dataclass(value)
    note_object(value)
    return value


def _capture_parts(build: Callable[[Iterable[Any]], Any], values: Iterable[Any]) -> Any:
    parts = list(values)
    if ATOMS.issuperset(map(type, parts)):  # a large literal costs one pass in C
        return build(parts)
    parts = [_capture(part) for part in parts]
    return (
        build(parts)
        if _REFERENCE_TYPES.isdisjoint(map(type, parts))
        else Container(build, tuple(parts))
    )


def _capture_dataclass(value: Any) -> Any:
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    parts = [_capture(getattr(value, name)) for name in names]
    if _REFERENCE_TYPES.isdisjoint(map(type, parts)):
        note_object(value)
        return value
    return Container(_DataclassCopier(value, tuple(names)), tuple(parts))


def build_dict(parts: Iterable[Any]) -> dict[Any, Any]:
    """Build a dict from its keys and values in alternation."""
    keys_and_values = iter(parts)
    return dict(zip(keys_and_values, keys_and_values, strict=True))


class _DataclassCopier:
    """Copies a dataclass instance with other field values, also if it is frozen or slotted."""

    __slots__ = ("names", "pattern")

    def __init__(self, pattern: Any, names: tuple[str, ...]) -> None:
        # without the nodes in its fields, so that neither they nor their graphs are pickled with it
        self.pattern = _with_fields(pattern, names, itertools.repeat(None))
        self.names = names

    def __call__(self, parts: Iterable[Any]) -> Any:
        return _with_fields(self.pattern, self.names, parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _DataclassCopier, (self.pattern, self.names)


def _with_fields(pattern: Any, names: tuple[str, ...], values: Iterable[Any]) -> Any:
    # not dataclasses.replace: it runs __init__ again, and refuses init=False fields
    new = object.__new__(type(pattern))
    if hasattr(pattern, "__dict__"):
        new.__dict__.update(pattern.__dict__)
    for name, value in zip(names, values, strict=False):
        object.__setattr__(new, name, value)
    return new
