"""Result materialization: drain iterators in results of nodes into lists, and refuse single-use values.

Every consumer of a node gets its result: the same object, a copy in another process, or the stored one.
An iterator has its items only for the first consumer, has no pickle, and may read files that are removed later.
"""

from __future__ import annotations

import inspect
import io
import itertools
import operator
from collections import UserDict, UserList, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from enum import Enum
from functools import lru_cache
from types import AsyncGeneratorType, CoroutineType, GeneratorType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from functionfuse._graph.nodes import ATOMS
from functionfuse._graph.placeholder import Placeholder
from functionfuse._graph.search import find_placeholder
from functionfuse._kernel.single_use import is_future_type, single_use
from functionfuse.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NodeInResultError",
    "Role",
    "complete",
    "is_flat",
    "make_reusable",
    "refuse_lost_parts",
    "role_of",
]


class NodeInResultError(GraphError):
    """A node's function returned a node."""


class Role(Enum):
    """The treatment of the values of a type."""

    ITERATOR = "drained into a list"
    ASYNCHRONOUS = "completed by an event loop as a whole result, refused as a part of one"
    SINGLE_USE = "refused, some depending on the value"
    DICT = "searched: keys and values"
    SEQUENCE = "searched: items, which can be set"
    TUPLE = "searched: items"
    FIXED = "searched: members, which cannot be set"
    RECORD = "searched: fields"


#: Roles of classes and their subclasses; the first that applies.
_ROLES: Final[dict[Role, tuple[type, ...]]] = {
    Role.ASYNCHRONOUS: (CoroutineType, AsyncIterator),
    Role.SINGLE_USE: (Placeholder, io.IOBase),
    Role.ITERATOR: (Iterator,),
    Role.DICT: (dict, UserDict),
    Role.SEQUENCE: (list, deque, UserList),
    Role.TUPLE: (tuple,),
    Role.FIXED: (set, frozenset),
    Role.RECORD: (SimpleNamespace,),
}
#: Roles of classes by name: their libraries need not be installed.
_ROLES_BY_NAME: Final = {
    ("numpy", "ndarray"): Role.FIXED,
    ("tempfile", "_TemporaryFileWrapper"): Role.SINGLE_USE,
}
#: Attributes of classes whose instances are records: dataclasses, attrs, pydantic.
_RECORD_MARKS: Final = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__")
_REPLACED: Final = {Role.ITERATOR, Role.ASYNCHRONOUS, Role.SINGLE_USE}
#: As a whole result: argument binding gives each consumer its own copy.
_MEMORY_FILES: Final = frozenset({io.BytesIO, io.StringIO})
#: Iterators that are never the state of an object, as an `itertools.count` may be.
_CONSUMED: Final = frozenset({GeneratorType, AsyncGeneratorType, map, filter, zip})


def make_reusable(value: Any) -> Any:
    """Return a result with lists in place of its iterators, at any depth of containers.

    Lists, dicts and records are changed in place, so that references to them stay valid.

    Raises:
        GraphError: Only one consumer could use the result, or a part of it.
    """
    if type(value) in _MEMORY_FILES or not _has_single_use(value):
        return value
    return _Materializer().materialize(value, "")


async def complete(value: Any) -> Any:
    """Await a coroutine; drain an asynchronous iterator, also one that a coroutine returns, into a list."""
    if inspect.iscoroutine(value):
        value = await value
    return [item async for item in value] if isinstance(value, AsyncIterator) else value


# ---- search ----


@lru_cache(maxsize=256)
def role_of(kind: type) -> Role | None:
    """The role of a type; None if its values stay unchanged."""
    if kind in ATOMS:
        return None
    for role, classes in _ROLES.items():
        if issubclass(kind, classes):
            return role
    if any(hasattr(kind, mark) for mark in _RECORD_MARKS):
        return Role.RECORD
    if is_future_type(kind):
        return Role.SINGLE_USE
    return _ROLES_BY_NAME.get((kind.__module__, kind.__name__))


def _has_single_use(value: Any) -> bool:
    """Whether a result or a part of it has to be drained or refused.

    The search is level by level: each takes a few passes in C, also over millions of parts.
    """
    kind: Any = type(value)
    role = role_of(kind)
    if role is None or is_flat(value, kind):
        return False
    level, seen = [value], set[int]()
    while level:
        roles = {each: role for each in set(map(type, level)) if (role := role_of(each))}
        if not _REPLACED.isdisjoint(roles.values()):
            return True
        parts: list[Iterable[Any]] = []
        for each, role in roles.items():
            # each once: a list of two times the same list, and so on, has no end otherwise
            nested = {
                id(part): part for part in level if type(part) is each and id(part) not in seen
            }
            seen.update(nested)
            parts.append(_PARTS[role]([*nested.values()]))
        level = list(_flat(parts))
    return False


def is_flat(value: Any, kind: type) -> bool:
    """Whether a value is a container of nothing but atoms, as far as one pass in C shows."""
    if kind not in _PLAIN_CONTAINERS:
        return kind.__name__ == "ndarray" and value.dtype.kind != "O"
    if kind is dict and not ATOMS.issuperset(map(type, value.values())):
        return False
    return ATOMS.issuperset(map(type, value))


def _members(value: Any) -> Iterable[Any]:
    """The members of a set, or of a numpy array of objects; none of other arrays."""
    if isinstance(value, set | frozenset):
        return value
    members: list[Any] = value.ravel().tolist() if value.dtype.kind == "O" else []
    return members


def _fields(record: Any) -> dict[str, Any]:
    """The fields that are stored in a record; computed ones are not touched."""
    kind: Any = type(record)
    stored: dict[str, Any] = getattr(record, "__dict__", {})
    slots = _slots_of(kind)
    if not slots:
        return stored
    return stored | {name: getattr(record, name) for name in slots if hasattr(record, name)}


@lru_cache(maxsize=256)
def _slots_of(kind: type) -> list[str]:
    """The names of the slots of a class."""
    return [
        name
        for base in kind.__mro__
        for name, slot in vars(base).items()
        if inspect.ismemberdescriptor(slot)
    ]


_flat: Final = itertools.chain.from_iterable
_values: Final = operator.methodcaller("values")
#: The parts of all containers of a role.
_PARTS: Final[dict[Role, Callable[[list[Any]], Iterable[Any]]]] = {
    Role.DICT: lambda dicts: itertools.chain(_flat(dicts), _flat(map(_values, dicts))),
    Role.SEQUENCE: _flat,
    Role.TUPLE: _flat,
    Role.FIXED: lambda values: _flat(map(_members, values)),
    Role.RECORD: lambda records: _flat(map(_values, map(_fields, records))),
}
_PLAIN_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})


# ---- replacement ----


class _Materializer:
    """One pass over a result; an iterator that occurs twice becomes one list."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, Any]] = {}  # with the value, so that its id is not reused

    def materialize(self, value: Any, path: str) -> Any:
        """Return a value with lists in place of iterators.

        Args:
            value: A result, or a part of it.
            path: The path from the result to it, for errors.
        """
        kind: Any = type(value)
        role = role_of(kind)
        if role is None:
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value, value  # for containers that contain themselves
            self._done[id(value)] = value, self._replace(value, role, path)
        return self._done[id(value)][1]

    def _replace(self, value: Any, role: Role, path: str) -> Any:
        match role:
            case Role.ITERATOR | Role.ASYNCHRONOUS | Role.SINGLE_USE:
                return self._drain_or_refuse(value, role, path)
            case Role.TUPLE:
                parts = [self.materialize(part, f"{path}[{n}]") for n, part in enumerate(value)]
                return _with_items(value, parts)
            case Role.FIXED:
                self._require_unchanged(_members(value), path, type(value).__name__)
            case Role.DICT:
                self._require_unchanged(value, path, "key of a dict")
                self._set_parts(value.items(), value.__setitem__, f"{path}[{{!r}}]")
            case Role.SEQUENCE:
                self._set_parts(enumerate(value), value.__setitem__, f"{path}[{{!r}}]")
            case Role.RECORD:  # not setattr: it may be frozen
                set_field = object.__setattr__.__get__(value)
                self._set_parts(_fields(value).items(), set_field, f"{path}.{{}}")
        return value

    def _drain_or_refuse(self, value: Any, role: Role, path: str) -> Any:
        if isinstance(value, Placeholder):
            _refuse_node(value, _at(path))
        if reason := single_use(value):
            _refuse(value, path, reason)
        if role is not Role.ITERATOR:
            return value
        # each item before the next one, which may invalidate it, as a group of itertools.groupby
        return [
            self.materialize(item, f"{path}[{n}]") if _has_single_use(item) else item
            for n, item in enumerate(value)
        ]

    def _set_parts(
        self, parts: Iterable[tuple[Any, Any]], set_part: Callable[[Any, Any], object], path: str
    ) -> None:
        for key, part in list(parts):
            new = self.materialize(part, path.format(key))
            if new is not part:
                set_part(key, new)

    def _require_unchanged(self, parts: Iterable[Any], path: str, what: str) -> None:
        for part in list(parts):
            if self.materialize(part, path) is not part:
                _refuse(part, path, f"a {what} cannot hold the list of its items: return a list")


def _with_items(value: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    """A tuple of the same class with other items; the tuple itself if they are the same."""
    if all(old is new for old, new in zip(value, items, strict=True)):
        return value
    new = tuple.__new__(type(value), items)
    if hasattr(value, "__dict__"):
        new.__dict__.update(value.__dict__)
    return new


def _refuse(value: Any, path: str, reason: str) -> NoReturn:
    message = (
        f"the function returned a {type(value).__qualname__}{_at(path)}, "
        f"which cannot be used by all that take the result: {reason}"
    )
    raise GraphError(message)


def refuse_lost_parts(value: Any) -> None:
    """Raise if there is a node in an object of any type, or a generator; the search is bounded.

    Raises:
        NodeInResultError: There is a node.
        GraphError: There is an iterator that is not drained, since it is not in a container or record.
    """
    found = find_placeholder(value, _CONSUMED)
    if found is None:
        return
    part, path = found
    place = f" in its result ({path[2:]})" if path else ""
    if isinstance(part, Placeholder):
        _refuse_node(part, place)
    message = (
        f"the function returned a {type(part).__qualname__}{place}, "
        "which gives its items to the first node that takes the result: keep a list of them"
    )
    raise GraphError(message)


def _refuse_node(node: Placeholder[Any], place: str) -> NoReturn:
    message = (
        f"the function returned {node!r}{place}, which never runs: pass it to the node as an argument, "
        f"or call the plain function in the node, `{node._plain_call()}`"
    )
    raise NodeInResultError(message)


def _at(path: str) -> str:
    return f" as result{path}" if path else ""
