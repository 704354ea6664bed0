"""Containers: empty, wide and deep ones, orders, sharing and references to themselves."""

from __future__ import annotations

import math
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from types import SimpleNamespace
from typing import Any, Final

from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]

_LEVELS: Final = 500
_ITEMS: Final = 2_000


class Tagged(list[Any]):
    """A list with an attribute."""

    tag: str = ""


class Defaults(dict[str, Any]):
    """A dict with a constructor of its own."""

    def __init__(self, first: str, **rest: Any) -> None:
        """Take a required argument."""
        super().__init__(rest, first=first)
        self.origin = [first]


def _deep_list() -> list[Any]:
    value: list[Any] = []
    for _ in range(_LEVELS):
        value = [value]
    return value


def _deep_mixture() -> Any:
    value: Any = 0
    for level in range(_LEVELS // 2):
        value = {"level": level, "inner": (value,)}
    return value


def _same_depth(expected: Any, actual: Any) -> str:
    level = 0  # a loop, since it is too deep for recursion
    while expected:
        if type(actual) is not type(expected) or len(actual) != len(expected):
            return f"level {level} is a {type(actual).__name__}"
        (expected, *names), (actual, *others) = _parts(expected), _parts(actual)
        if names != others:
            return f"level {level} has {others}"
        level += 1
    return "" if expected == actual else f"the innermost is {actual!r}"


def _parts(value: Any) -> list[Any]:
    return [value["inner"], value["level"]] if isinstance(value, dict) else list(value)


def _contains_itself() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def _dict_contains_itself() -> dict[str, Any]:
    value: dict[str, Any] = {"list": []}
    value["list"].append((value, value["list"]))
    return value


def _ring() -> UserList[Any]:
    first, second = UserList[Any](), UserList[Any]()
    first.append(second)
    second.append(first)
    return first


def _shared() -> dict[str, Any]:
    part = [1]
    return {"a": part, "b": (part, {"c": part}), "d": [1]}


def _shared_objects() -> list[Any]:
    one, data = SimpleNamespace(a=[1]), bytearray(b"abc")
    return [one, {"one": one, "data": data}, data]


def _shared_large() -> list[Any]:
    data = bytearray(LARGE)
    return [data, [data]]


def _common_part() -> dict[str, Any]:
    part = [1]
    return {"a": SimpleNamespace(part=part), "b": [Counter(a=1), SimpleNamespace(part=part)]}


def _common_large_part() -> list[Any]:
    large = bytearray(LARGE)
    return [SimpleNamespace(part=large), SimpleNamespace(part=large), large]


def _tagged() -> Tagged:
    value = Tagged([1, [2]])
    value.tag = "a"
    return value


def _ordered() -> OrderedDict[str, int]:
    value = OrderedDict(a=1, b=2, c=3)
    value.move_to_end("a")
    return value


def _grouped() -> defaultdict[str, list[int]]:
    value = defaultdict[str, list[int]](list)
    value["a"].append(1)
    return value


VALUE_TYPES: Final = (
    ValueType("containers, empty", lambda: [[], (), {}, set(), frozenset(), deque()]),
    ValueType("list, deep", _deep_list, _same_depth, may_be_refused=True),
    ValueType("dict and tuple, deep", _deep_mixture, _same_depth, may_be_refused=True),
    ValueType("list, wide", lambda: [float(number) for number in range(_ITEMS)]),
    ValueType("list, wide, of lists", lambda: [[number] for number in range(_ITEMS)]),
    ValueType("dict, wide", lambda: {str(number): number for number in range(_ITEMS)}),
    ValueType("list, subclass with attribute", _tagged),
    ValueType("list, contains itself", _contains_itself, may_be_refused=True),
    ValueType("dict, contains itself", _dict_contains_itself, may_be_refused=True),
    ValueType("lists that contain each other", _ring, may_be_refused=True),
    ValueType("one list in several places", _shared),
    ValueType("one object in several places", _shared_objects),
    ValueType("one large object in several places", _shared_large),
    ValueType("objects with a part in common", _common_part),
    ValueType("objects with a large part in common", _common_large_part),
    ValueType("tuple", lambda: ((), (1, ("a", [None])))),
    ValueType("set", lambda: {1, "a", (1, 2), None, math.inf}),
    ValueType("set, with NaN", lambda: {math.nan}),
    ValueType("set, wide", lambda: set(range(_ITEMS))),
    ValueType("frozenset", lambda: frozenset({frozenset({1}), b"a"})),
    ValueType("dict, order", lambda: {"b": 1, "a": 2, 3: {"z": 1, "y": 2}}),
    ValueType("dict, tuples as keys", lambda: {(1, ("a", None)): [1], (): 2, frozenset({1}): 3}),
    ValueType("dict, keys of all kinds", lambda: {None: 1, True: 2, 2.5: 3, b"a": 4, ...: 5}),
    ValueType("dict, constructor of its own", lambda: Defaults("a", b=[1])),
    ValueType("OrderedDict", _ordered),
    ValueType("defaultdict", _grouped),
    ValueType("Counter", lambda: Counter("abca")),
    ValueType("deque", lambda: deque([1, [2], math.nan], maxlen=4)),
    ValueType("ChainMap", lambda: ChainMap({"a": 1}, {"b": [2]})),
    ValueType("UserDict", lambda: UserDict({"a": [1]})),
)
