"""Containers of the standard library that hold nodes, for the recording tests."""

from __future__ import annotations

import itertools
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

from functionfuse import workflow

__all__ = ["SEEN", "containers", "contents", "double", "send"]


@workflow
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@workflow
def send(message: Any) -> None:
    """Have an effect and no result."""


# ---- containers ----


@dataclass
class Folder:
    """A tree whose parts know their parents."""

    size: Any
    parent: Folder | None = None
    parts: list[Folder] = field(default_factory=list)


@dataclass
class Missing(Exception):
    """An exception with a field."""

    number: Any


@dataclass(frozen=True, slots=True)
class Limits:
    """A frozen dataclass with slots."""

    low: Any
    high: Any = 9


@dataclass
class Lazy:
    """A dataclass with an attribute that is computed when it is read."""

    number: Any

    @cached_property
    def expensive(self) -> int:
        """Fail if the library reads it."""
        message = "computed too early"
        raise AssertionError(message)


class Point(NamedTuple):
    """A named tuple."""

    x: Any


def folders() -> Folder:
    """A tree with nodes in it."""
    root = Folder(double(1))
    root.parts.append(Folder(double(2), parent=root))
    return root


def grouped() -> defaultdict[str, list[Any]]:
    """A dict that is filled as usual."""
    groups = defaultdict[str, list[Any]](list)
    groups["a"].append(double(1))
    return groups


def paired() -> list[Any]:
    """A list of two times the same list, and so on."""
    pair: list[Any] = [double(1)]
    for _ in range(40):
        pair = [pair, pair]
    return pair


def containers() -> dict[str, Any]:
    """Containers of all kinds that hold nodes, by name."""
    return {
        "defaultdict": grouped(),
        "OrderedDict": OrderedDict(b=double(1), a=2),
        "Counter": Counter(a=double(1)),
        "deque": deque([double(1)], maxlen=3),
        "ChainMap": ChainMap({"a": double(1)}, {"b": 1}),
        "proxy": MappingProxyType({"a": double(1)}),
        "UserDict": UserDict(a=double(1)),
        "UserList": UserList([double(1)]),
        "namespace": SimpleNamespace(a=[double(1)]),
        "keys": {double(1): 0}.keys(),
        "values": {"a": double(1)}.values(),
        "items": {"a": double(1)}.items(),
        "frozenset": frozenset({double(1)}),
        "slice": slice(double(1), None),
        "named tuple": Point([double(1)]),
        "generator": (double(number) for number in range(2)),
        "map": map(double, [1]),
        "zip": zip([double(1)], "a", strict=True),
        "chain": itertools.chain([double(1)], [3]),
        "tree": folders(),
        "exception": Missing(double(1)),
        "frozen": Limits(double(1)),
        "lazy": Lazy(double(1)),
        "pairs": paired(),
    }


_AT_DEFINITION = [double(50)]


@workflow
def contents(given: dict[str, Any], default: Any = _AT_DEFINITION) -> dict[str, Any]:
    """What a function sees of its containers."""
    groups, queue, root = given["defaultdict"], given["deque"], given["tree"]
    seen = {name: value for name, value in given.items() if name not in _ITERATORS | _VIEWS}
    seen |= {name: [*given[name]] for name in _ITERATORS | _VIEWS}
    seen |= {
        "defaultdict": (dict(groups), groups["new"], type(groups).__name__),
        "deque": ([*queue], queue.maxlen),
        "proxy": (dict(given["proxy"]), type(given["proxy"]).__name__),
        "tree": (root.size, root.parts[0].size, root.parts[0].parent is root),
        "exception": (given["exception"].args, given["exception"].number),
        "lazy": vars(given["lazy"]),
        "pairs": given["pairs"][0][0] is given["pairs"][1][1],
        "default": default,
    }
    return seen


_ITERATORS = {"generator", "map", "zip", "chain"}
_VIEWS = {"keys", "values", "items"}

SEEN = {
    "defaultdict": ({"a": [2]}, [], "defaultdict"),
    "OrderedDict": OrderedDict(b=2, a=2),
    "Counter": Counter(a=2),
    "deque": ([2], 3),
    "ChainMap": ChainMap({"a": 2}, {"b": 1}),
    "proxy": ({"a": 2}, "mappingproxy"),
    "UserDict": UserDict(a=2),
    "UserList": UserList([2]),
    "namespace": SimpleNamespace(a=[2]),
    "keys": [2],
    "values": [2],
    "items": [("a", 2)],
    "frozenset": frozenset({2}),
    "slice": slice(2, None),
    "named tuple": Point([2]),
    "generator": [0, 2],
    "map": [2],
    "zip": [(2, "a")],
    "chain": [2, 3],
    "tree": (2, 4, True),
    "exception": ((2,), 2),
    "frozen": Limits(2),
    "lazy": {"number": 2},
    "pairs": True,
    "default": [100],
}
