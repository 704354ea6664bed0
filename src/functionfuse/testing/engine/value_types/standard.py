"""Values of the standard library's types: numbers, texts, bytes, times, functions, classes and objects."""

from __future__ import annotations

import array
import cmath
import io
import ipaddress
import json
import math
import operator
import random
import re
import types
import uuid
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]


class Colour(Enum):
    """An enumeration whose members are known by their identity."""

    RED = 1
    BLUE = (0, 0, 1)


class Level(IntEnum):
    """An enumeration of numbers."""

    LOW = 1


class Access(Flag):
    """Flags, whose combinations are made when they are used."""

    READ = 1
    WRITE = 2
    LIST = 4


@dataclass
class Settings:
    """A dataclass with a part that is not an argument."""

    rate: float
    layers: list[int]
    total: int = field(init=False, default=0)


@dataclass(frozen=True)
class Frozen:
    """A frozen dataclass."""

    rate: float
    layers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    """A frozen dataclass without a dict."""

    rate: float
    label: str


@dataclass(slots=True, kw_only=True)
class Slots:
    """A dataclass without a dict, whose fields are given by keyword."""

    label: str
    parts: list[int]


class Point(NamedTuple):
    """A named tuple with a default."""

    x: float
    y: float = 0.0


class Problem(Exception):
    """An exception with a keyword-only argument, which pickle cannot create again."""

    def __init__(self, *, code: int) -> None:
        """Take a code."""
        super().__init__(f"code {code}")
        self.code = code


class Cached:
    """An object with a value that was computed on access."""

    def __init__(self, number: int) -> None:
        """Take a number."""
        self.number = number

    @cached_property
    def double(self) -> int:
        """Computed once."""
        return 2 * self.number

    def triple(self) -> int:
        """A method, which can be a value."""
        return 3 * self.number


class Slotted:
    """An object without a dict, one of whose attributes is not set."""

    __slots__ = ("left", "right")

    def __init__(self) -> None:
        """Set one attribute."""
        self.left = [1]


class Elementwise:
    """An object whose comparison is not a truth value, and which cannot be hashed."""

    def __init__(self) -> None:
        """Set an attribute."""
        self.values = [1, 2]

    def __eq__(self, other: object) -> Any:
        return [value == other for value in self.values]

    __hash__ = None  # type: ignore[assignment]


class Text(str):
    """A text with an attribute."""

    __slots__ = ("language",)

    language: str


class Meta(type):
    """A metaclass."""


class WithMeta(metaclass=Meta):
    """A class that is a value."""


def _problem_with_notes() -> Exception:
    error = KeyError("name", 1)
    error.add_note("a note")
    return error


def _text_with_language() -> Text:
    text = Text("Grüße")
    text.language = "de"
    return text


def _cached() -> Cached:
    value = Cached(4)
    assert value.double
    return value


def _local_object() -> Any:
    class Local:
        numbers = (1, 2)

        def __init__(self) -> None:
            self.parts = {"a": [1]}

    return Local()


def _local_enum() -> Any:
    class LocalColour(Enum):
        GREEN = "g"

    return LocalColour.GREEN


def _closure() -> Any:
    counts = [1]

    def counted(step: int = 2, *, factor: int = 3) -> int:
        counts.append(step * factor)
        return len(counts)

    return counted


def _generator_state() -> random.Random:
    generator = random.Random(7)  # noqa: S311 - no cryptography
    generator.random()
    return generator


def _buffer() -> io.BytesIO:
    buffer = io.BytesIO(b"0123456789")
    buffer.seek(4)
    return buffer


def _numbers_view() -> Any:
    return memoryview(array.array("d", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])).cast("B").cast("d", (2, 3))


def _same_member(expected: Any, actual: Any) -> str:
    return "" if expected is actual else f"it is {actual!r}"


_ZONE: Final = timezone(timedelta(hours=-3, minutes=-30), "N")
_BYTES: Final = bytes(range(256))

VALUE_TYPES: Final = (
    # singletons and numbers
    ValueType("None", lambda: None),
    ValueType("Ellipsis", lambda: ...),
    ValueType("NotImplemented", lambda: NotImplemented),
    ValueType("bool", lambda: False),
    ValueType("int, huge", lambda: -(3**20_000)),
    ValueType("float, -0.0", lambda: -0.0),
    ValueType("float, NaN", lambda: math.nan),
    ValueType("float, extremes", lambda: [math.inf, -math.inf, 5e-324, 1.7976931348623157e308]),
    ValueType("complex", lambda: complex(-0.0, math.nan)),
    ValueType("complex, infinite", lambda: [cmath.infj, complex(0.0, -0.0)]),
    ValueType("Decimal", lambda: [Decimal("1.00"), Decimal("-0"), Decimal("NaN"), Decimal("sNaN")]),
    ValueType("Fraction", lambda: Fraction(-(10**30), 7)),
    # texts and bytes
    ValueType("str, empty", lambda: ""),
    ValueType("str, lone surrogate", lambda: "a\ud800\udfff\x00\U0001f41d"),
    ValueType("str, surrogate as key", lambda: {"\udc80": "\udc80"}),
    ValueType("str, large", lambda: "é\U0001f41d" * LARGE),
    ValueType("str, subclass with attribute", _text_with_language),
    ValueType("bytes, empty", lambda: b""),
    ValueType("bytes", lambda: _BYTES),
    ValueType("bytes, large", lambda: _BYTES * (LARGE // 256)),
    ValueType("bytearray, empty", bytearray),
    ValueType("bytearray", lambda: bytearray(_BYTES)),
    ValueType("bytearray, large", lambda: bytearray(_BYTES * (LARGE // 256))),
    ValueType("memoryview", lambda: memoryview(_BYTES)),
    ValueType("memoryview, writeable", lambda: memoryview(bytearray(_BYTES))),
    ValueType("memoryview, of shorts", lambda: memoryview(b"abcdef").cast("H")),
    ValueType("memoryview, slice", lambda: memoryview(bytearray(_BYTES))[10:20]),
    ValueType("memoryview, two-dimensional", _numbers_view),
    ValueType("memoryview, large", lambda: memoryview(bytearray(_BYTES * (LARGE // 256)))),
    ValueType("memoryview, large and read-only", lambda: memoryview(_BYTES * (LARGE // 256))),
    ValueType("array.array", lambda: array.array("d", [0.0, -0.0, math.nan])),
    ValueType("array.array, empty", lambda: array.array("i")),
    ValueType("array.array, large", lambda: array.array("q", range(LARGE // 8))),
    ValueType("BytesIO", _buffer),
    # times, names and places
    ValueType("date and time", lambda: [date(2026, 1, 2), time(1, 2, fold=1)]),
    ValueType("datetime, fixed zone", lambda: datetime(2026, 1, 2, 3, 4, 5, 6, _ZONE)),
    ValueType(
        "datetime, zone and fold",
        lambda: datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    ),
    ValueType("timedelta", lambda: timedelta(days=-1, microseconds=1)),
    ValueType("Path", lambda: Path("a") / ".." / "\udcff"),
    ValueType("PurePath", lambda: [PurePosixPath("/a"), PureWindowsPath("C:/a")]),
    ValueType("UUID", lambda: uuid.UUID(int=5)),
    ValueType("IP network", lambda: ipaddress.ip_network("10.0.0.0/8")),
    ValueType("pattern", lambda: re.compile(r"(?i)a+", re.MULTILINE)),
    ValueType("range", lambda: range(10**30, 0, -7)),
    ValueType("slice", lambda: slice(None, [1], Ellipsis)),
    # functions, classes and modules
    ValueType("function", lambda: json.dumps),
    ValueType("function, built-in", lambda: [len, math.sqrt, str.upper, dict.fromkeys]),
    ValueType("function, with closure", _closure),
    ValueType("lambda", lambda: lambda x, y=(1, 2): (y, x)),
    ValueType("partial", lambda: partial(sorted, [3, 1], key=operator.neg, reverse=True)),
    ValueType("bound method", lambda: Cached(3).triple),
    ValueType("bound method, built-in", lambda: [1, 2].count),
    ValueType("itemgetter", lambda: operator.itemgetter(1, "a")),
    ValueType("class", lambda: [Settings, WithMeta, Meta, int, type, Problem]),
    ValueType("generic alias", lambda: [list[int], dict[str, "Any"], int | None]),
    ValueType("module", lambda: [math, json]),
    # objects
    ValueType("object", _cached),
    ValueType("object, slots", Slotted),
    ValueType("object, elementwise equality", Elementwise),
    ValueType("object, local class", _local_object),
    ValueType("SimpleNamespace", lambda: types.SimpleNamespace(a=[1], b=None)),
    ValueType("random generator", _generator_state),
    ValueType("dataclass", lambda: Settings(-0.0, [1, 2])),
    ValueType("dataclass, frozen", lambda: Frozen(math.nan, (1,))),
    ValueType("dataclass, slots", lambda: Slots(label="a", parts=[1])),
    ValueType("dataclass, frozen with slots", lambda: FrozenSlots(0.5, "a")),
    ValueType("named tuple", lambda: Point(1.0)),
    ValueType("enum", lambda: Colour.BLUE, _same_member),
    ValueType("enum of numbers", lambda: Level.LOW, _same_member),
    ValueType("enum, flags", lambda: Access.READ | Access.LIST, _same_member),
    ValueType("enum, local class", _local_enum),
    ValueType("enums as keys", lambda: {Colour.RED: Access.WRITE, Level.LOW: Colour.BLUE}),
    # exceptions
    ValueType("exception", lambda: ValueError("a", 1)),
    ValueType("exception, keyword-only argument", lambda: Problem(code=7)),
    ValueType("exception, with notes", _problem_with_notes),
    ValueType("exception, of the system", lambda: FileNotFoundError(2, "missing", "a.txt")),
    ValueType("exception, of a codec", lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")),
    ValueType("exception, group", lambda: ExceptionGroup("several", [Problem(code=1), OSError(5)])),
    ValueType("exception, next to a large text", lambda: ["x" * 10 * LARGE, Problem(code=1)]),
    ValueType("exception, that ends programs", lambda: [SystemExit(3), KeyboardInterrupt()]),
)
