"""Sources of a call's arguments: the parts that other nodes, the storage or the caller have as well.

The coordinator derives them from references; a worker matches them with values, by the names of parameters.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._graph.containers import part_label, splitter
from functionfuse._graph.nodes import ATOMS
from functionfuse._graph.objects import split_object
from functionfuse._kernel.binding import LITERALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["LITERAL", "Owner", "Part", "Source", "name_arguments", "owned_parts", "parts_of"]


class Owner(NamedTuple):
    """The origin of an argument, or of a part of it."""

    node: str = ""  # empty for an object of the user, which is captured by reference
    shared_with: tuple[str, ...] = ()  # other owners of the value; if empty, the node may change it
    is_instance: bool = False


#: A literal: its lists, dicts, sets and tuples are copied for each call, and other objects are not.
LITERAL: Final = "literal"
#: For a container that holds nodes: the sources of its parts.
Source = Owner | str | tuple[Any, ...] | None


class Part(NamedTuple):
    """An argument, or a part of it, that exists outside of the call."""

    path: str  # like `items[0]`
    owner: Owner
    value: Any


_USER: Final = Owner()


def owned_parts(source: Source, value: Any, path: str) -> Iterator[Part]:
    """Yield the mutable parts of an argument that exist outside of the call."""
    kind = type(value)
    if source is None or kind in ATOMS:
        return
    if type(source) is Owner:
        yield Part(path, source, value)
    elif source != LITERAL:
        for part, (name, piece) in zip(source, parts_of(value, path), strict=False):
            yield from owned_parts(part, piece, name)
    elif kind not in LITERALS:
        yield Part(path, _USER, value)
    elif not ATOMS.issuperset(map(type, value.values() if kind is dict else value)):
        for name, piece in parts_of(value, path):
            yield from owned_parts(LITERAL, piece, name)


def parts_of(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the paths and values of a container's parts, in the order of its captured parts."""
    kind = type(value)
    split = splitter(kind)
    if isinstance(value, set | frozenset):  # unordered; members do not change
        return
    if split is not None:
        parts = split(value)[1]
        yield from ((_path(path, kind, parts, number), part) for number, part in enumerate(parts))
    elif isinstance(value, tuple):
        yield from ((f"{path}[{number}]", part) for number, part in enumerate(value))
    elif (taken := split_object(value)) is not None:
        build, parts = taken
        names = ["", *(f".{name}" for name in build.names)]
        yield from ((f"{path}{name}", part) for name, part in zip(names, parts, strict=True))


def _path(path: str, kind: type, parts: Sequence[Any], number: int) -> str:
    """The path of a part of a standard container."""
    what, _, name = part_label(kind, parts, number).partition(" ")
    match what:
        case "item":
            return f"{path}[{name}]"
        case "attribute":
            return f"{path}.{parts[number - 1]}"
        case "":
            return path
        case _:
            return f"{what} {name} of {path}"


def name_arguments(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, is_method: bool
) -> list[tuple[str, Any]]:
    """The arguments of a call with the names of their parameters, without the instance of a method.

    A keyword argument has its keyword as its name, also when it is passed by position.
    """
    given = args[is_method:]
    names = _positional_names(func, len(given), is_method=is_method)
    return [*zip(names, given, strict=True), *kwargs.items()]


def _positional_names(func: Callable[..., Any], count: int, *, is_method: bool) -> list[str]:
    try:
        parameters = [*inspect.signature(func).parameters.values()][is_method:]
    except (TypeError, ValueError):  # a builtin function
        parameters = []
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{number}]" for number in range(count - len(names))]
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return [*names, *(f"number {number + 1}" for number in range(len(names), count))][:count]
