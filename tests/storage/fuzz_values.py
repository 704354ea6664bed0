"""Values, types and names that the fuzzer of the restricted unpickler makes streams of."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, Final, NamedTuple, Self

import numpy as np

__all__ = ["ALLOWED", "CLASSES", "NAMES", "USERS", "VALUES", "Box", "Colour", "Slotted", "alarms"]

# ---- what must not happen ----

alarms: list[str] = []  # filled by whatever must not run


def canary(*arguments: object) -> None:
    """Sing; no stream may call it."""
    alarms.append(f"canary called with {len(arguments)} arguments")


class Canary:
    """No stream may make one."""

    def __new__(cls, *_: object) -> Self:
        """Sing."""
        alarms.append("a canary was made")
        return super().__new__(cls)


# ---- types that the reader allows ----


@dataclasses.dataclass
class Box:
    """A value."""

    value: Any


class Pair(NamedTuple):
    """Two values."""

    first: Any
    second: Any


class Colour(enum.Enum):
    """Two members that exist outside every pickle."""

    RED = 1
    BLUE = 2


class Slotted:
    """An object without a dict."""

    __slots__ = ("left", "right")
    left: Any
    right: Any


class Names(dict[str, Any]):
    """A dict of another class."""


class Rows(list[Any]):
    """A list of another class."""


class Table(np.ndarray[Any, Any]):
    """An array of another class."""


USERS: Final = (Box, Pair, Colour, Slotted, Names, Rows, Table)

#: All types whose objects a result may contain.
ALLOWED: Final = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict),
        *(set, frozenset, range, slice, object, type(...), type(NotImplemented), memoryview),
        *(OrderedDict, defaultdict, Counter, deque),
        *(dt.date, dt.time, dt.datetime, dt.timedelta, dt.timezone, zoneinfo.ZoneInfo),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID, uuid.SafeUUID),
        *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath),
        *(np.ndarray, *np.sctypeDict.values(), *USERS),
    }
)
CLASSES: Final = frozenset(
    {*ALLOWED, pathlib.PurePath, pathlib.Path, pathlib.WindowsPath, np.dtype}
)


def slotted() -> Slotted:
    """An object with slots."""
    made = Slotted()
    made.left, made.right = 1, [2]
    return made


def attributed() -> OrderedDict[str, int]:
    """An ordered dict with attributes, like a state dict of PyTorch."""
    made = OrderedDict(a=1)
    made._metadata = {"version": 1}  # type: ignore[attr-defined] # noqa: SLF001 - as PyTorch does
    return made


def circular() -> list[Any]:
    """A list and a dict that contain themselves."""
    made: list[Any] = [1]
    made.extend([made, {"itself": made}])
    return made


RECORD: Final = np.dtype([("a", ">f4"), ("b", "O"), ("c", [("d", "M8[25ns]"), ("e", "U3", (2,))])])
VALUES: Final[list[Any]] = [
    *(None, True, 7, -(1 << 70), 1.5, 1j, "é\ud800", b"\0\xff", bytearray(b"abc")),
    *(
        [1, (2, [3])],
        {"a": {"b": (None,)}},
        {1, 2},
        frozenset("ab"),
        range(2, 9, 3),
        slice(1, None),
    ),
    *(circular(), attributed(), object(), ..., [int, np.float64]),
    *(OrderedDict(a=1), defaultdict(list, a=[1]), Counter("aab"), deque([1, 2], 5)),
    *(dt.date(2026, 1, 2), dt.time(1, 2, 3, 4, fold=1), dt.timedelta(1, 2, 3)),
    *(dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, fold=1)),  # noqa: DTZ001
    dt.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    *(
        decimal.Decimal("1.50"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=7, is_safe=uuid.SafeUUID.safe),
    ),
    *(pathlib.PurePosixPath("a/b"), pathlib.Path("/a/b"), uuid.SafeUUID.unsafe),
    *(np.float32(1.5), np.str_("x"), np.datetime64("2026-01-01"), np.bool_(1), np.void(b"ab")),
    *(np.arange(5), np.zeros((2, 3), ">i4", order="F"), np.zeros((2, 3, 4)).transpose(1, 2, 0)),
    *(np.array(3.0), np.zeros((0, 3)), np.array(["a", "bc"]), np.array(["NaT"], "M8[D]")),
    *(np.array([1, "a", None, [2]], object), np.array([np.arange(2), None], object)),
    np.array([(1, "x", (np.datetime64(0, "s"), ["a", "b"]))], RECORD),
    np.array([(1, "x", (np.datetime64(0, "s"), ["a", "b"]))], RECORD)[0],
    *(np.dtype("f8"), np.dtype(("f4", (2, 3))), RECORD, np.zeros(2000)),
    *(Box([1]), Pair(1, "a"), [Colour.RED, Colour.BLUE], slotted(), Names(a=1), Rows([1, 2])),
    np.arange(4).view(Table),
]
NAMES: Final = [
    *("os system", "posix system", "builtins eval", "builtins exec", "builtins getattr"),
    *("builtins __import__", "builtins setattr", "builtins type", "builtins object"),
    *("builtins list", "builtins dict", "builtins set", "builtins bytearray", "builtins slice"),
    *("numpy ndarray", "numpy dtype", "numpy void", "numpy load", "numpy recarray"),
    *("numpy._core.multiarray _reconstruct", "numpy._core.multiarray scalar"),
    *("numpy._core.numeric _frombuffer", "numpy._core numeric._frombuffer"),
    *("numpy.core.multiarray scalar", "numpy.core.numeric _frombuffer", "numpy f2py.os.system"),
    *("collections defaultdict", "collections deque", "collections OrderedDict"),
    *("collections Counter", "datetime datetime", "datetime sys.exit", "datetime timezone"),
    *("uuid UUID", "uuid SafeUUID", "uuid os.system", "zoneinfo ZoneInfo", "fractions Fraction"),
    *("decimal Decimal", "pathlib PurePosixPath", "pathlib Path", "pathlib os.system"),
    *("copyreg _reconstructor", "functools partial", "operator attrgetter", "pickle loads"),
    *(f"{__name__} canary", f"{__name__} Canary", f"{__name__} Box.__init__"),
    *(f"{user.__module__} {user.__qualname__}" for user in USERS),
]
