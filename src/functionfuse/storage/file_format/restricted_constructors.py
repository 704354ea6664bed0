"""Table of constructors that the restricted unpickler may use, each with a check of its arguments.

A constructor accepts only arguments as in genuine pickles of the type.
Names in a stream are resolved in this table, as pairs of module and name, and in no module.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import pathlib
import re
import uuid
import zoneinfo
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import UntrustedResult
from functionfuse.storage.file_format.pickle_interpreter import Symbol
from functionfuse.storage.file_format.restricted_limits import NestingLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functionfuse.storage.file_format.restricted_limits import Budget

__all__ = [
    "CONSTRUCTORS",
    "Construction",
    "Constructor",
    "Function",
    "Unbuilt",
    "UnusualArguments",
    "not_allowed",
    "require",
    "set_attributes",
]


@dataclass
class Construction:
    """State that the constructors of one load share."""

    budget: Budget
    nesting: NestingLimit = field(default_factory=NestingLimit)
    #: By identity: objects that this load has created and whose state may be set.
    made: dict[int, Any] = field(default_factory=dict)


class Constructor(NamedTuple):
    """The entry for a name: its value and how it may be called."""

    value: Any  # in a result: a class, or a symbol
    call: Callable[..., Any] | None = (
        None  # called with a `Construction` and the arguments of REDUCE
    )
    make: Callable[..., Any] | None = None  # the same for NEWOBJ


class Function(Symbol):
    """A function that may be called, but not be part of a result."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        """Wrap a function; its name is for errors."""
        self.name = name
        self.call = call


class Unbuilt(Symbol):
    """An object without a state yet; BUILD replaces it by the value."""

    __slots__ = ("build", "name", "value")

    def __init__(self, name: str, build: Callable[[Any], Any]) -> None:
        """Store the function that creates the object from its state."""
        self.name = name
        self.build = build
        self.value: Any = self  # until it is built


class UnusualArguments(ValueError):
    """A constructor was called in another way than in genuine pickles of the type."""


def require(condition: object) -> None:
    """Raise unless a condition on arguments holds.

    Raises:
        UnusualArguments: The condition does not hold.
    """
    if not condition:
        raise UnusualArguments


def not_allowed(name: str) -> UntrustedResult:
    """Return the error for a name that is not in any table."""
    return UntrustedResult(
        f"it needs {name!r}, which is not among the allowed types and was not called. If it is "
        f"harmless with any arguments, allow it: allowed_types=[{name!r}]"
    )


def set_attributes(made: collections.OrderedDict[Any, Any], state: Any) -> None:
    """Set attributes of an ordered dict, as state dicts of PyTorch have.

    Raises:
        UnusualArguments: The attributes would hide methods.
    """
    require(type(state) is dict)
    require(all(type(name) is str and not hasattr(type(made), name) for name in state))
    vars(made).update(state)


# ---- plain data ----


def _complex(_: Construction, real: Any, imaginary: Any) -> complex:
    require(type(real) is type(imaginary) is float)
    return complex(real, imaginary)


def _bytearray(construction: Construction, content: Any = b"") -> bytearray:
    require(type(content) is bytes)
    construction.budget.spend(len(content))
    return bytearray(content)


def _set(construction: Construction, items: Any) -> set[Any]:
    return set(_hashable(construction, items))


def _frozenset(construction: Construction, items: Any) -> frozenset[Any]:
    return frozenset(_hashable(construction, items))


def _hashable(construction: Construction, items: Any) -> list[Any]:
    require(type(items) is list)
    construction.budget.spend(len(items))
    construction.budget.spend_on_keys(items)
    checked: list[Any] = items
    return checked


def _range(_: Construction, start: Any, stop: Any, step: Any) -> range:
    require(type(start) is type(stop) is type(step) is int)
    return range(start, stop, step)


def _slice(_: Construction, *limits: Any) -> slice:
    require(len(limits) == 3)  # noqa: PLR2004 - start, stop, step
    require(not any(map(_is_container, limits)))  # Python frees nested slices on the C stack
    return slice(*limits)


def _is_container(value: Any) -> bool:
    if type(value) in {str, bytes}:
        return False
    return isinstance(value, slice | Symbol) or hasattr(type(value), "__len__")


def _object(_: Construction) -> object:
    return object()


# ---- containers ----


def _ordered_dict(_: Construction) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict()


def _default_dict(_: Construction, factory: Any = None) -> dict[Any, Any]:
    require(factory is None or callable(factory))
    return collections.defaultdict(factory)


def _counter(construction: Construction, counts: Any) -> collections.Counter[Any]:
    require(type(counts) is dict)
    construction.budget.spend(len(counts))
    construction.budget.spend_on_keys(counts)
    return collections.Counter(counts)


def _deque(_: Construction, items: Any = (), length: Any = None) -> Any:
    require(type(items) in {tuple, list} and not items)
    require(length is None or type(length) is int)
    return collections.deque(maxlen=length)


# ---- time ----
# The constructors that pickles call with bytes do not validate them; the public ones check each number.


def _date(_: Construction, packed: Any) -> dt.date:
    require(type(packed) is bytes)
    high, low, month, day = packed
    return dt.date(high << 8 | low, month, day)


def _time(_: Construction, packed: Any, zone: Any = None) -> dt.time:
    require(type(packed) is bytes)
    hour, minute, second, *fraction = packed
    microsecond = _microsecond(fraction)
    return dt.time(hour & 0x7F, minute, second, microsecond, zone, fold=hour >> 7)


def _datetime(_: Construction, packed: Any, zone: Any = None) -> dt.datetime:
    require(type(packed) is bytes)
    high, low, month, day, hour, minute, second, *fraction = packed
    date = high << 8 | low, month & 0x7F, day
    microsecond = _microsecond(fraction)
    return dt.datetime(  # noqa: DTZ001 - the zone is optional, as in the pickle
        *date, hour, minute, second, microsecond, zone, fold=month >> 7
    )


def _microsecond(fraction: list[int]) -> int:
    high, middle, low = fraction
    return high << 16 | middle << 8 | low


def _timedelta(_: Construction, days: Any, seconds: Any, microseconds: Any) -> dt.timedelta:
    require(type(days) is type(seconds) is type(microseconds) is int)
    return dt.timedelta(days, seconds, microseconds)


def _timezone(_: Construction, offset: Any, *name: Any) -> dt.timezone:
    require(type(offset) is dt.timedelta and [*map(type, name)] in ([], [str]))
    return dt.timezone(offset, *name)


def _getattr(_: Construction, owner: Any, name: Any) -> Any:
    """Replace `getattr`, with which time zones and some members of enumerations are pickled."""
    if owner is zoneinfo.ZoneInfo and name == "_unpickle":
        return Function("zoneinfo.ZoneInfo._unpickle", _zone)
    is_enum = isinstance(owner, type) and issubclass(owner, Enum)
    if is_enum and type(name) is str and name in owner.__members__:
        return owner.__members__[name]
    refused = "builtins.getattr"
    raise not_allowed(refused)


def _zone(_: Construction, key: Any, from_cache: Any) -> zoneinfo.ZoneInfo:
    require(type(key) is str and _ZONE.fullmatch(key))  # a path below the time zone data
    return zoneinfo.ZoneInfo(key) if from_cache else zoneinfo.ZoneInfo.no_cache(key)


_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")

# ---- numbers, names, paths ----


def _decimal(construction: Construction, digits: Any) -> decimal.Decimal:
    require(type(digits) is str)
    construction.budget.spend(len(digits))
    return decimal.Decimal(digits)


def _fraction(construction: Construction, *numbers: Any) -> fractions.Fraction:
    if len(numbers) == 1 and type(numbers[0]) is str:  # before Python 3.11.4
        require(_FRACTION.fullmatch(numbers[0]))  # other texts may have exponents
        numbers = tuple(map(int, numbers[0].split("/")))
    require(0 < len(numbers) <= 2 and {*map(type, numbers)} == {int})  # noqa: PLR2004 - a pair
    bits = [number.bit_length() for number in numbers]
    construction.budget.spend(bits[0] * bits[-1] >> 14)  # the cost of reducing
    return fractions.Fraction(*numbers)


_FRACTION: Final = re.compile(r"-?[0-9]+(/[0-9]+)?")


def _uuid(_: Construction) -> Unbuilt:
    return Unbuilt("uuid.UUID", _built_uuid)


def _built_uuid(state: Any) -> uuid.UUID:
    require(type(state) is dict and {"int"} <= state.keys() <= {"int", "is_safe"})
    require(type(state["int"]) is int)
    return uuid.UUID(int=state["int"], is_safe=_safe_uuid(None, state.get("is_safe")))


def _safe_uuid(_: Construction | None, value: Any) -> uuid.SafeUUID:
    require(value is None or type(value) is int)
    return uuid.SafeUUID(value)


def _path(kind: type[pathlib.PurePath]) -> Callable[..., pathlib.PurePath]:
    def path(construction: Construction, *parts: Any) -> pathlib.PurePath:
        require(all(type(part) is str for part in parts))
        construction.budget.spend(sum(map(len, parts)))
        return kind(*parts)

    return path


# ---- the table ----


def _names(
    module: str, *constructors: Constructor
) -> Iterable[tuple[tuple[str, str], Constructor]]:
    return (((module, each.value.__name__), each) for each in constructors)


_PATHS: Final = [
    Constructor(kind, _path(kind))
    for kind in (
        *(pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
        *(pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath),
    )
]
CONSTRUCTORS: Final[dict[tuple[str, str], Constructor]] = {
    ("builtins", "Ellipsis"): Constructor(...),
    ("builtins", "NotImplemented"): Constructor(NotImplemented),
    ("builtins", "getattr"): Constructor(Function("builtins.getattr", _getattr)),
    **dict(
        _names(
            "builtins",
            *map(Constructor, (bool, int, float, str, bytes, list, tuple, dict)),
            Constructor(complex, _complex),
            Constructor(bytearray, _bytearray),
            Constructor(set, _set),
            Constructor(frozenset, _frozenset),
            Constructor(range, _range),
            Constructor(slice, _slice),
            Constructor(object, make=_object),
        )
    ),
    **dict(
        _names(
            "collections",
            Constructor(collections.OrderedDict, _ordered_dict),
            Constructor(collections.defaultdict, _default_dict),
            Constructor(collections.Counter, _counter),
            Constructor(collections.deque, _deque),
        )
    ),
    **dict(
        _names(
            "datetime",
            Constructor(dt.date, _date),
            Constructor(dt.time, _time),
            Constructor(dt.datetime, _datetime),
            Constructor(dt.timedelta, _timedelta),
            Constructor(dt.timezone, _timezone),
        )
    ),
    **dict(_names("zoneinfo", Constructor(zoneinfo.ZoneInfo))),
    **dict(_names("decimal", Constructor(decimal.Decimal, _decimal))),
    **dict(_names("fractions", Constructor(fractions.Fraction, _fraction))),
    **dict(
        _names("uuid", Constructor(uuid.UUID, make=_uuid), Constructor(uuid.SafeUUID, _safe_uuid))
    ),
    **dict(_names("pathlib", *_PATHS)),
    **dict(_names("pathlib._local", *_PATHS)),  # Python 3.13
}
