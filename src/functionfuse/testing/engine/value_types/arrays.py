"""Arrays and scalars of numpy: every dtype, order and shape, views, masks and subclasses."""

from __future__ import annotations

import tempfile
from typing import Any, Final, Self

import numpy as np

from functionfuse.comparison.exact import difference
from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]

#: Numbers, also in the other byte order.
_NUMBERS: Final = [
    "?",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "f2",
    "f4",
    "f8",
    "g",
    "F",
    "D",
    "G",
    ">i2",
    ">i8",
    ">f4",
    ">f8",
    ">c16",
]
_STRINGS: Final = ["S3", "U3", ">U3", "M8[D]", "M8[ns]", ">M8[s]", "m8[us]"]
_RECORD: Final = np.dtype([("name", "U4"), ("at", "M8[s]"), ("box", "f4", (2, 2))])
_ALIGNED: Final = np.dtype([("a", "i1"), ("b", [("c", ">f8"), ("d", "?")])], align=True)
_MANY: Final = LARGE // 8


class Quantity(np.ndarray[Any, Any]):
    """A subclass with an attribute, written as numpy's documentation says."""

    unit: str | None

    def __new__(cls, values: Any, unit: str | None = None) -> Self:
        """View the values as this type."""
        quantity = np.asarray(values).view(cls)
        quantity.unit = unit
        return quantity

    def __array_finalize__(self, made_from: Any) -> None:
        self.unit = getattr(made_from, "unit", None)

    def __reduce__(self) -> tuple[Any, ...]:
        build, arguments, state = tuple(super().__reduce__())
        return build, arguments, (state, self.unit)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.unit = state[1]


class Plain(np.ndarray[Any, Any]):
    """A subclass that adds nothing."""


def _numbers(code: str) -> ValueType:
    return ValueType(f"array, {code}", lambda: np.array([1, 0, 3]).astype(code))


def _texts(code: str) -> ValueType:
    parts = [b"a", b"", b"abc"] if code[0] == "S" else ["a", "", "é🐝c"]
    values: Any = parts if code[-1] == "3" else [1, "NaT", 3]
    return ValueType(f"array, {code}", lambda: np.array(values, code))


def _read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def _objects() -> Any:
    shared = [1]
    return np.array([shared, None, "a", shared, np.arange(2)], dtype=object)


def _contains_itself() -> Any:
    array = np.empty(2, dtype=object)
    array[:] = [array, 1]
    return array


def _missing_strings() -> Any:
    return np.array(["a", np.nan, "x" * 40], dtype=np.dtypes.StringDType(na_object=np.nan))


def _masked_records() -> Any:
    data = np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")])
    return np.ma.array(data, mask=[(True, False), (False, True)])


def _same_twice() -> Any:
    small, large = np.arange(3.0), np.arange(_MANY)
    return [small, {"small": small, "large": large}, large]


def _mapped() -> Any:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(_MANY * 8))
        file.flush()
        mapped = np.memmap(file, dtype="f8", mode="r+", shape=(_MANY // 2, 2))
    mapped[1] = [1.0, -0.0]
    return mapped


def _same_mapped(expected: Any, actual: Any) -> str:
    return difference(np.array(expected), np.array(actual))


def _generator() -> Any:
    generator = np.random.default_rng(3)
    generator.random()
    return generator


_STRINGS_OF_NUMPY: Final = (
    ValueType("array, StringDType", lambda: np.array(["a", "", "é🐝"], np.dtypes.StringDType())),
    ValueType("array, StringDType with missing", _missing_strings),
    ValueType(
        "array, StringDType, large", lambda: np.array(["ab" * 500] * 300, _missing_strings().dtype)
    ),
    ValueType("dtype, StringDType", np.dtypes.StringDType),
)

VALUE_TYPES: Final = (
    *(_STRINGS_OF_NUMPY if hasattr(np.dtypes, "StringDType") else ()),  # since numpy 2
    *map(_numbers, _NUMBERS),
    *map(_texts, _STRINGS),
    ValueType("array, NaN and -0.0", lambda: np.array([0.0, -0.0, np.nan, -np.inf])),
    ValueType("array, complex -0.0", lambda: np.array([complex(-0.0, 0.0), complex(0.0, -0.0)])),
    ValueType("array, V4", lambda: np.array([b"abcd", b"\0\0\0\1"], "V4")),
    ValueType("array, objects", _objects),
    ValueType("array, contains itself", _contains_itself),
    ValueType("array, structured", lambda: np.zeros(2, _RECORD)),
    ValueType("array, structured and aligned", lambda: np.ones((2, 1), _ALIGNED)),
    ValueType("array, structured, 0-d", lambda: np.zeros((), _ALIGNED)),
    # shapes and orders
    ValueType("array, (0,)", lambda: np.empty(0)),
    ValueType("array, (0, 3)", lambda: np.empty((0, 3), "f4")),
    ValueType("array, (3, 0)", lambda: np.empty((3, 0), "i2", order="F")),
    ValueType("array, (0, 0, 2), objects", lambda: np.empty((0, 0, 2), object)),
    ValueType("array, (0, 2), structured", lambda: np.empty((0, 2), _RECORD)),
    ValueType("array, 0-d", lambda: np.array(1.5)),
    ValueType("array, 0-d, object", lambda: np.array([None, [1]], object)[1:].reshape(())),
    ValueType("array, Fortran order", lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3))),
    ValueType("array, read-only", lambda: _read_only(np.arange(4.0))),
    ValueType("array, view with steps", lambda: np.arange(12).reshape(3, 4)[::2, ::-1]),
    ValueType("array, transposed", lambda: np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0)),
    ValueType("array, broadcast", lambda: np.broadcast_to(np.arange(3), (4, 3))),
    ValueType("array, field of records", lambda: np.zeros(3, _ALIGNED)["b"]["c"]),
    ValueType("array, one in several places", _same_twice),
    # other ways to send them
    ValueType("array, large", lambda: np.arange(_MANY)),
    ValueType("array, large, read-only", lambda: _read_only(np.arange(_MANY))),
    ValueType("array, large, Fortran order", lambda: np.asfortranarray(np.ones((_MANY // 4, 4)))),
    ValueType("array, megabytes, Fortran order", lambda: np.asfortranarray(np.ones((600, 500)))),
    ValueType("array, large, view", lambda: np.arange(4 * _MANY).reshape(-1, 4)[1:, ::2]),
    ValueType("array, large, other byte order", lambda: np.arange(_MANY, dtype=">i8")),
    ValueType("array, large, structured", lambda: np.zeros(_MANY, _RECORD)),
    ValueType("array, large, times", lambda: np.arange(_MANY).astype("M8[s]")),
    ValueType("array, large, in containers", lambda: {"a": [(np.ones((3, _MANY)),)]}),
    ValueType("array, large, empty", lambda: np.empty((_MANY, 0), "f4")),
    # masks and subclasses
    ValueType(
        "masked array",
        lambda: np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False], fill_value=-1),
    ),
    ValueType("masked array, no mask", lambda: np.ma.array([[1], [2]])),
    ValueType("masked array, empty", lambda: np.ma.array(np.empty((0, 2)))),
    ValueType("masked array, structured", _masked_records),
    ValueType("masked array, large", lambda: np.ma.masked_less(np.arange(float(_MANY)), 9)),
    ValueType("masked constant", lambda: np.ma.masked),
    ValueType("record array", lambda: np.rec.array([(1, "a")], dtype=[("n", "i4"), ("t", "U2")])),
    ValueType("record array, large", lambda: np.zeros(_MANY, _RECORD).view(np.recarray)),
    ValueType("matrix", lambda: np.arange(4).view(np.matrix).reshape(2, 2)),
    ValueType("subclass", lambda: np.arange(3.0).view(Plain)),
    ValueType("subclass, large", lambda: np.arange(float(_MANY)).view(Plain)),
    ValueType("subclass with attribute", lambda: Quantity([1.0, 2.0], "m")),
    ValueType("subclass with attribute, large", lambda: Quantity(np.arange(_MANY), "m")),
    ValueType("mapped array", _mapped, _same_mapped),
    # scalars and what belongs to arrays
    ValueType("scalars, numbers", lambda: [np.int8(1), np.float32(-0.0), np.longdouble(1) / 3]),
    ValueType("scalars, texts", lambda: [np.str_("a\ud800"), np.bytes_(b"a\0b"), np.True_]),
    ValueType(
        "scalars, times",
        lambda: [np.datetime64("2026-01-02", "ns"), np.timedelta64("NaT", "s")],
    ),
    ValueType("scalar, structured", lambda: np.ones(1, _ALIGNED)[0]),
    ValueType("scalar, complex", lambda: np.complex64(complex(-0.0, np.nan))),
    ValueType("dtypes", lambda: [_RECORD, np.dtype(">f8"), np.float64]),
    ValueType("ufunc", lambda: [np.add, np.linalg.norm]),
    ValueType("random generator of numpy", _generator),
    ValueType("random state of numpy", lambda: np.random.RandomState(5)),
    ValueType("polynomial", lambda: np.polynomial.Polynomial([1.0, -0.0], domain=[0, 2])),
)
