"""Frames and series of polars."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]

_SCHEMA: Final[dict[str, Any]] = {"a": pl.Int8, "b": pl.String, "c": pl.List(pl.Float32)}


def _mixed() -> Any:
    return pl.DataFrame({"a": [1, None], "b": ["x", "é"], "c": [[-0.0], []]}, schema=_SCHEMA)


def _nested() -> Any:
    return pl.DataFrame({"s": [{"x": 1, "y": [b"a"]}, None], "l": [[[1]], [[], None]]})


def _zones() -> Any:
    times = pl.Series([10**18, None]).cast(pl.Datetime("ns", "Europe/Berlin"))
    return pl.DataFrame({"t": times})


def _texts(dtype: Any) -> Any:
    return pl.Series("k", ["a", None, "b"], dtype=dtype)


def _same_expression(expected: Any, actual: Any) -> str:
    return "" if expected.meta.eq(actual) else f"it is {actual}"


VALUE_TYPES: Final = (
    ValueType("polars.DataFrame", _mixed),
    ValueType("polars.DataFrame, nothing", pl.DataFrame),
    ValueType("polars.DataFrame, no rows", lambda: pl.DataFrame(schema=_SCHEMA)),
    ValueType("polars.DataFrame, nested", _nested),
    ValueType("polars.DataFrame, zones", _zones),
    ValueType("polars.DataFrame, large", lambda: pl.select(n=pl.int_range(LARGE // 8))),
    ValueType("polars.DataFrame, several chunks", lambda: pl.concat([_mixed(), _mixed()])),
    ValueType("polars.LazyFrame", lambda: _mixed().lazy().filter(pl.col("a") > 0)),
    ValueType("polars.Series, empty", lambda: pl.Series("n", [], dtype=pl.Duration("ms"))),
    ValueType("polars.Series, categories", lambda: _texts(pl.Categorical())),
    ValueType("polars.Series, enum", lambda: _texts(pl.Enum(["b", "a"]))),
    ValueType("polars.Series, Decimal", lambda: pl.Series([1, None], dtype=pl.Decimal(9, 2))),
    ValueType("polars expression", lambda: pl.col("a").sum().over("b"), _same_expression),
    ValueType("polars dtypes", lambda: [pl.Int8, pl.List(pl.Int8), pl.Datetime("us", "UTC")]),
)
