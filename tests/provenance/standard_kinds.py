"""Values of standard types, each with another one that differs in one respect."""

from __future__ import annotations

import array
import enum
import functools
import io
import ipaddress
import json
import operator
import random
import re
import threading
import types
import typing
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

__all__ = ["STANDARD_KINDS"]


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1
    BLUE = 2


class Access(enum.Flag):
    """Flags, whose combinations are made when they are used."""

    READ = 1
    WRITE = 2
    LIST = 4


class Level(enum.IntEnum):
    """An enumeration of numbers."""

    LOW = 1


@dataclass
class Settings:
    """A dataclass."""

    rate: float
    layers: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    """A frozen dataclass, equal by value."""

    rate: float
    parts: Any = ()


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    """A frozen dataclass without a dict."""

    rate: float
    label: str


@dataclass(slots=True)
class Slots:
    """A dataclass without a dict."""

    label: str
    parts: list[int]


class Point(NamedTuple):
    """A named tuple."""

    x: float
    y: float = 0.0


class Slotted:
    """An object with slots, one of which is not set."""

    __slots__ = ("left", "right")

    def __init__(self, left: Any) -> None:
        """Set one slot."""
        self.left = left


class WithState:
    """An object that says what its state is."""

    def __init__(self, number: int) -> None:
        """Take a number; the lock does not count."""
        self.number, self.lock = number, threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"number": self.number}


class WithReduce:
    """An object that says how it is made."""

    def __init__(self, number: int) -> None:
        """Take a number."""
        self.number = number

    def __reduce__(self) -> Any:
        return WithReduce, (self.number,)


class Cached:
    """An object with a value that is computed when it is asked for."""

    def __init__(self, number: int, *, ask: bool) -> None:
        """Take a number."""
        self.number = number
        if ask:
            assert self.double

    @functools.cached_property
    def double(self) -> int:
        """Computed once."""
        return 2 * self.number

    def method(self) -> int:
        """A method, which can be a value."""
        return self.number


class Text(str):
    """A text with an attribute."""

    __slots__ = ("language",)

    language: str


class Keyed(dict[str, Any]):
    """A subclass of a dict, with an attribute."""

    def __init__(self, name: str, **items: Any) -> None:
        """Take a name and items."""
        super().__init__(**items)
        self.name = name


class Problem(Exception):
    """An exception with an argument by keyword."""

    def __init__(self, *, code: int) -> None:
        """Take a code."""
        super().__init__(f"code {code}")
        self.code = code


class Tree:
    """An object that knows its parent."""

    def __init__(self, *children: Tree, name: str = "") -> None:
        """Take children."""
        self.children, self.name = children, name
        self.parent: Tree | None = None
        for child in children:
            child.parent = self


class Member:
    """An object in a set, which knows the set and is not compared by value."""

    def __init__(self, name: str) -> None:
        """Take a name."""
        self.name = name
        self.neighbours: set[Member] = set()


def ring(*names: str) -> Member:
    """Members that are each other's neighbours."""
    members = [Member(name) for name in names]
    for member in members:
        member.neighbours = {other for other in members if other is not member}
    return members[0]


def cyclic(*items: Any) -> list[Any]:
    """A list that holds itself."""
    made: list[Any] = [*items]
    made.append(made)
    return made


def two(value: Any) -> Any:
    """The same object twice."""
    return [value, value]


def helper(x: int) -> int:
    """A function of a module."""
    return x


def other_helper(x: int) -> int:
    """Another function of a module."""
    return x


def scale(by: int) -> Any:
    """A local function with a value of its own."""
    return lambda x: x * by


def default(by: int) -> Any:
    """A lambda with a default."""
    return lambda x, by=by: x * by


def closed(text: str) -> io.StringIO:
    """A text in memory, in the middle of which reading goes on."""
    file = io.StringIO(text)
    file.read(1)
    return file


def spoken(text: str, language: str) -> Text:
    """A text in a language."""
    made = Text(text)
    made.language = language
    return made


def view(text: bytes) -> memoryview:
    """Every second byte."""
    return memoryview(text)[::2]


def seeded(seed: int) -> random.Random:
    """A random generator."""
    return random.Random(seed)  # noqa: S311 - not for secrets


NAN = float("nan")
#: By name: functions that make a value, and one that differs; a value is made again for each use.
STANDARD_KINDS: dict[str, tuple[Any, Any]] = {
    "int": (lambda: 1, lambda: True),
    "large int": (lambda: 3**400, lambda: 3**400 + 1),
    "float": (lambda: 1.0, lambda: 1),
    "zero": (lambda: 0.0, lambda: -0.0),
    "nan": (lambda: float("nan"), lambda: float("inf")),
    "complex": (lambda: 1j, lambda: complex(-0.0, 1)),
    "none": (lambda: None, lambda: False),
    "str": (lambda: "1", lambda: b"1"),
    "surrogate": (lambda: "a\ud800", lambda: "a\ud801"),
    "long str": (lambda: "é" * 9000, lambda: "é" * 9001),
    "bytes": (lambda: b"ab", lambda: bytearray(b"ab")),
    "long bytes": (lambda: b"ab" * 9000, lambda: bytearray(b"ab" * 9000)),
    "bytearray": (lambda: bytearray(b"ab"), lambda: bytearray(b"ac")),
    "list": (lambda: [1, "a", None], lambda: (1, "a", None)),
    "nested list": (lambda: [[1], [2]], lambda: [[1, 2], []]),
    "list of texts": (lambda: ["ab", "c"], lambda: ["a", "bc"]),
    "shared list": (lambda: two([0]), lambda: [[0], [0]]),
    "shared tuple": (lambda: two((1, 2)), lambda: [(1, 2), (1, 3)]),
    "cyclic list": (lambda: cyclic(1), lambda: cyclic(1, 2)),
    "set of str": (lambda: {"alpha", "beta", "gamma"}, lambda: {"alpha", "beta", "delta"}),
    "frozenset": (lambda: frozenset({"a", "b"}), lambda: {"a", "b"}),
    "set of objects": (
        lambda: {Frozen(1.0, ("a", "b")), Frozen(2.0), ("c", None)},
        lambda: {Frozen(1.0, ("a", "b")), Frozen(3.0), ("c", None)},
    ),
    "set of sets": (
        lambda: {frozenset({"a", "b"}), frozenset({"c"})},
        lambda: {frozenset({"a"}), frozenset({"b", "c"})},
    ),
    "members of sets": (lambda: ring("a", "b", "c"), lambda: ring("a", "b", "d")),
    "dict": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    "dict of lists": (lambda: {"a": [1], "b": []}, lambda: {"a": [], "b": [1]}),
    "keys of any type": (lambda: {(1, Colour.RED): [1]}, lambda: {(1, Colour.BLUE): [1]}),
    "Counter": (lambda: Counter("aab"), lambda: Counter("abb")),
    "OrderedDict": (lambda: OrderedDict(a=1, b=2), lambda: OrderedDict(b=2, a=1)),
    "defaultdict": (lambda: defaultdict(int, a=1), lambda: defaultdict(bool, a=1)),
    "deque": (lambda: deque([1, 2], maxlen=3), lambda: deque([1, 2], maxlen=4)),
    "ChainMap": (lambda: ChainMap({"a": 1}, {}), lambda: ChainMap({}, {"a": 1})),
    "UserDict": (lambda: UserDict(a=1), lambda: UserDict(a=2)),
    "UserList": (lambda: UserList([1]), lambda: UserList([2])),
    "proxy": (lambda: types.MappingProxyType({"a": 1}), lambda: types.MappingProxyType({"a": 2})),
    "keys": ({"a": 1}.keys, {"b": 1}.keys),
    "items": ({"a": 1}.items, {"a": 2}.items),
    "namespace": (lambda: types.SimpleNamespace(a=1), lambda: types.SimpleNamespace(a=2)),
    "subclass of dict": (lambda: Keyed("k", a=1), lambda: Keyed("l", a=1)),
    "subclass of str": (lambda: spoken("a", "en"), lambda: spoken("a", "de")),
    "dataclass": (lambda: Settings(0.1, [1]), lambda: Settings(0.1, [2])),
    "frozen dataclass": (lambda: Frozen(0.1), lambda: Frozen(0.2)),
    "frozen slots": (lambda: FrozenSlots(0.1, "a"), lambda: FrozenSlots(0.1, "b")),
    "slots": (lambda: Slots("a", [1]), lambda: Slots("a", [2])),
    "named tuple": (lambda: Point(1.0, 2.0), lambda: (1.0, 2.0)),
    "enum": (lambda: Colour.RED, lambda: Colour.BLUE),
    "int enum": (lambda: Level.LOW, lambda: 1),
    "flag": (lambda: Access.READ | Access.LIST, lambda: Access.READ | Access.WRITE),
    "range": (lambda: range(0, 10, 2), lambda: range(0, 10, 3)),
    "slice": (lambda: two(slice(1, None)), lambda: two(slice(2, None))),
    "ellipsis": (lambda: ..., lambda: NotImplemented),
    "date": (lambda: date(2024, 2, 29), lambda: date(2024, 3, 1)),
    "datetime": (
        lambda: datetime(2024, 1, 1, tzinfo=UTC),
        lambda: datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ),
    "fold": (
        lambda: datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        lambda: datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    ),
    "zone": (lambda: ZoneInfo("Europe/Berlin"), lambda: ZoneInfo("Europe/Paris")),
    "time": (lambda: time(1, 2), lambda: time(1, 3)),
    "timedelta": (lambda: timedelta(seconds=1), lambda: timedelta(seconds=2)),
    "Decimal": (lambda: Decimal("1.0"), lambda: Decimal("1.00")),
    "Fraction": (lambda: Fraction(1, 3), lambda: Fraction(2, 3)),
    "UUID": (lambda: uuid.UUID(int=1), lambda: uuid.UUID(int=2)),
    "path": (lambda: PurePosixPath("a/b"), lambda: PureWindowsPath("a/b")),
    "pattern": (lambda: re.compile("a+"), lambda: re.compile("a+", re.IGNORECASE)),
    "address": (lambda: ipaddress.ip_address("::1"), lambda: ipaddress.ip_address("::2")),
    "partial": (lambda: functools.partial(helper, 1), lambda: functools.partial(helper, x=1)),
    "itemgetter": (lambda: operator.itemgetter(1), lambda: operator.itemgetter(2)),
    "generic": (lambda: list[int], lambda: list[float]),
    "union": (lambda: int | str, lambda: int | bytes),
    "typing": (lambda: typing.Optional[int], lambda: typing.Optional[str]),  # noqa: UP045
    "type": (lambda: Settings, lambda: Frozen),
    "function": (lambda: helper, lambda: other_helper),
    "builtin": (lambda: len, lambda: sum),
    "lambda": (lambda: scale(1), lambda: scale(2)),
    "default": (lambda: default(1), lambda: default(2)),
    "bound method": (
        lambda: Cached(1, ask=False).method,
        lambda: Cached(2, ask=False).method,
    ),
    "builtin method": (lambda: [1].append, lambda: [2].append),
    "method descriptor": (lambda: str.upper, lambda: str.lower),
    "class method descriptor": (
        lambda: vars(dict)["fromkeys"],
        lambda: vars(OrderedDict)["fromkeys"],
    ),
    "module": (lambda: json, lambda: re),
    "property": (lambda: property(helper), lambda: property(other_helper)),
    "lru_cache": (lambda: functools.lru_cache(helper), lambda: functools.lru_cache(other_helper)),
    "cached property": (lambda: Cached(1, ask=True), lambda: Cached(2, ask=True)),
    "slotted": (lambda: Slotted("a"), lambda: Slotted("b")),
    "getstate": (lambda: WithState(1), lambda: WithState(2)),
    "reduce": (lambda: WithReduce(1), lambda: WithReduce(2)),
    "cyclic object": (lambda: Tree(Tree(name="a")), lambda: Tree(Tree(name="b"))),
    "exception": (lambda: ValueError("a"), lambda: ValueError("b")),
    "own exception": (lambda: Problem(code=1), lambda: Problem(code=2)),
    "group": (
        lambda: ExceptionGroup("g", [ValueError("a")]),
        lambda: ExceptionGroup("g", [TypeError("a")]),
    ),
    "random": (lambda: seeded(1), lambda: seeded(2)),
    "shared random": (lambda: two(seeded(1)), lambda: [seeded(1), seeded(1)]),
    "global random": (lambda: random.random, lambda: random.gauss),
    "array": (lambda: array.array("d", [1.0]), lambda: array.array("f", [1.0])),
    "memoryview": (lambda: view(b"abcd"), lambda: view(b"abdd")),
    "BytesIO": (lambda: io.BytesIO(b"a"), lambda: io.BytesIO(b"b")),
    "StringIO": (lambda: closed("ab"), lambda: io.StringIO("ab")),
    "object": (lambda: two(object()), lambda: [object(), object()]),
}
