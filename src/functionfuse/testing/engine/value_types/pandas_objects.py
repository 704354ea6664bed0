"""Frames, series, indexes and scalars of pandas."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]

_TIMES: Final = pd.date_range("2026-03-29", periods=3, freq="h", tz="Europe/Berlin")
_MANY: Final = LARGE // 16


class Measurements(pd.DataFrame):  # type: ignore[misc] # untyped
    """A subclass with an attribute, written as the documentation of pandas says."""

    _metadata: Final = ["unit"]

    @property
    def _constructor(self) -> Any:
        return Measurements


def _mixed() -> Any:
    return pd.DataFrame({"a": [1.0, np.nan], "b": ["x", "y"], "c": [True, False]}, index=[5, 3])


def _filtered() -> Any:
    frame = _mixed()
    return frame[frame.a > 9]


def _with_attrs() -> Any:
    frame = _mixed()
    frame.attrs = {"source": ["a"]}
    return frame


def _duplicate_names() -> Any:
    return pd.DataFrame([[1, "a"], [2, "b"]], columns=["x", "x"])


def _two_levels() -> Any:
    rows = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["k", None])
    columns = pd.MultiIndex.from_tuples([("x", 1), ("y", 2)])
    return pd.DataFrame(np.arange(8.0).reshape(4, 2), index=rows, columns=columns)


def _measurements() -> Any:
    frame = Measurements({"a": [1.0]})
    frame.unit = "m"
    return frame


def _categories() -> Any:
    return pd.Categorical(["b", None, "a"], categories=["b", "a", "unused"], ordered=True)


def _objects() -> Any:
    shared = [1]
    return pd.DataFrame({"o": pd.Series([shared, {"a": shared}, None], dtype=object)})


def _series(*values: Any, dtype: str) -> Any:
    return pd.Series(values, dtype=dtype, name="s")


def _arrow_backed(frame: Any) -> Any:
    return frame.convert_dtypes(dtype_backend="pyarrow")


def _same_twice() -> Any:
    frame = _mixed()
    return {"a": frame, "b": [frame]}


def _compare_scalars(expected: Any, actual: Any) -> str:
    found = [(type(each), repr(each)) for each in actual]
    return "" if found == [(type(each), repr(each)) for each in expected] else f"it is {found}"


def _large() -> Any:
    numbers = np.arange(_MANY)
    return pd.DataFrame({"a": numbers, "b": numbers / 3, "c": numbers.astype(str)})


VALUE_TYPES: Final = (
    ValueType("DataFrame", _mixed),
    ValueType("DataFrame, nothing", pd.DataFrame),
    ValueType("DataFrame, no rows", _filtered),
    ValueType("DataFrame, no columns", lambda: pd.DataFrame(index=["a", "b"])),
    ValueType("DataFrame, duplicate names", _duplicate_names),
    ValueType("DataFrame, two levels", _two_levels),
    ValueType("DataFrame, two levels, no rows", lambda: _two_levels().iloc[:0]),
    ValueType("DataFrame, attributes", _with_attrs),
    ValueType("DataFrame, objects", _objects),
    ValueType("DataFrame, subclass", _measurements),
    ValueType("DataFrame, pyarrow", lambda: _arrow_backed(_mixed())),
    ValueType("DataFrame, pyarrow, no rows", lambda: _arrow_backed(_mixed()).iloc[:0]),
    ValueType("DataFrame, one in several places", _same_twice),
    ValueType("DataFrame, large", _large),
    ValueType("DataFrame, large, sliced", lambda: _large().iloc[1::2]),
    ValueType("DataFrame, zones", lambda: pd.DataFrame({"t": _TIMES, "d": _TIMES - _TIMES[0]})),
    ValueType("Series", lambda: pd.Series([1, 2], name=("a", 1), dtype="i2")),
    ValueType("Series, empty", lambda: pd.Series([], dtype="f4")),
    ValueType("Series, Int64", lambda: _series(1, None, 3, dtype="Int64")),
    ValueType("Series, boolean", lambda: _series(*[True, None], dtype="boolean")),
    ValueType("Series, string", lambda: _series("a", None, "é", dtype="string")),
    ValueType("Series, Float32, empty", lambda: _series(dtype="Float32")),
    ValueType("Series, category", lambda: pd.Series(_categories())),
    ValueType("Series, interval", lambda: pd.Series(pd.interval_range(0, 2))),
    ValueType("Series, period", lambda: pd.Series(pd.period_range("2026", periods=2, freq="Y"))),
    ValueType("Series, sparse", lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1]))),
    ValueType("Index, range", lambda: pd.RangeIndex(0, 9, 3, name="n")),
    ValueType("Index, times", lambda: _TIMES),
    ValueType("Index, categories", lambda: pd.CategoricalIndex(_categories())),
    ValueType("Index, two levels", lambda: _two_levels().index),
    ValueType("Index, empty", lambda: pd.Index([], dtype="str", name="i")),
    ValueType("Categorical", _categories),
    ValueType("extension array", lambda: pd.array([1, None], dtype="UInt8")),
    ValueType(
        "scalars of pandas",
        lambda: [_TIMES[1], pd.Timedelta("1ns"), pd.NaT, pd.NA, pd.Interval(0, 1, "both")],
        _compare_scalars,
    ),
)
