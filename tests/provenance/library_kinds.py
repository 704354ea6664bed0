"""Values of libraries for data, each with another one that differs in one respect."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

__all__ = ["LIBRARY_KINDS", "SAME"]


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    """An array of different numbers."""
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


def structured(last: int) -> np.ndarray[Any, Any]:
    """Records with bytes between the fields, which are not initialized."""
    made = np.empty(2, np.dtype([("a", "i1"), ("b", "f8")], align=True))
    made["a"], made["b"] = [1, 2], [3, last]
    return made


def records(number: int) -> Any:
    """An array of a subclass."""
    return structured(number).view(np.recarray)


def objects(*items: Any) -> np.ndarray[Any, Any]:
    """An array of objects."""
    made = np.empty(len(items), object)
    made[:] = items
    return made


def long_double(number: float) -> np.ndarray[Any, Any]:
    """Numbers of 16 bytes, some of which are not in use."""
    return np.full(3, number, np.longdouble)


def masked(*mask: int) -> Any:
    """A masked array."""
    return np.ma.masked_array([1, 2], [*map(bool, mask)])


def drawn(seed: int) -> np.random.Generator:
    """A generator that has drawn a number."""
    made = np.random.default_rng(seed)
    made.random()
    return made


def frame(**columns: Any) -> pd.DataFrame:
    """A frame whose columns are in blocks of their own."""
    made = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    for name, values in columns.items():
        made[name] = values
    return made


def index(*names: str) -> pd.MultiIndex:
    """Labels of two levels."""
    return pd.MultiIndex.from_product([["x", "y"], [1, 2]], names=[*names])


def forest(seed: int, *, fitted: bool = True) -> Any:
    """A random forest, whose trees are records with bytes between the fields."""
    from sklearn.ensemble import RandomForestClassifier

    made = RandomForestClassifier(3, random_state=seed)
    return made.fit(numbers(20, 2), np.arange(20) % 2) if fitted else made


def pipeline(c: float) -> Any:
    """Steps of an estimator."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = make_pipeline(StandardScaler(), LogisticRegression(C=c))
    return made.fit(numbers(20, 2), np.arange(20) % 2)


def features(text: str) -> Any:
    """A vectorizer that was fitted, which keeps the address of an object."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer().fit([text])


def distribution(mean: float) -> Any:
    """A distribution, which holds the generator that numpy shares."""
    from scipy.stats import norm

    return norm(mean, 2)


def sparse(number: float) -> Any:
    """A sparse matrix that was asked whether it is sorted."""
    from scipy.sparse import csr_array

    made = csr_array(np.diag([1.0, number]))
    assert made.has_sorted_indices
    return made


def table(number: int, chunks: int = 1) -> Any:
    """A table of Arrow."""
    import pyarrow as pa

    made = pa.table({"a": [1, None, number], "b": ["x", None, "z"]})
    return pa.concat_tables([made.slice(at, 3 // chunks) for at in range(0, 3, 3 // chunks)])


def dataset(unit: str) -> Any:
    """A dataset of xarray."""
    import xarray as xr

    axis = {"x": [10, 20]}
    return xr.Dataset({"t": (("x", "y"), numbers(2, 3), {"unit": unit})}, axis)


def lazy(number: float) -> Any:
    """A dask array."""
    import dask.array as da

    return da.from_array(numbers(4) + number, chunks=2).sum()


#: By name: functions that make a value, and one that differs.
LIBRARY_KINDS: dict[str, tuple[Any, Any]] = {
    "array": (lambda: numbers(2, 3), lambda: numbers(3, 2)),
    "dtype of array": (lambda: np.zeros(2, "i4"), lambda: np.zeros(2, "f4")),
    "zeros": (lambda: np.array([0.0]), lambda: np.array([-0.0])),
    "no dimensions": (lambda: np.array(1.0), lambda: np.array([1.0])),
    "empty": (lambda: np.empty((0, 2)), lambda: np.empty((0, 3))),
    "records": (lambda: structured(4), lambda: structured(5)),
    "dates": (lambda: np.array(["2024-01-01"], "M8[D]"), lambda: np.array(["2024-01-02"], "M8[D]")),
    "unit of dates": (lambda: np.array([1], "M8[s]"), lambda: np.array([1], "M8[ms]")),
    "texts of fixed length": (lambda: np.array(["a", "bc"]), lambda: np.array(["a", "bd"])),
    "texts": (
        lambda: np.array(["a", "é" * 50], np.dtypes.StringDType()),
        lambda: np.array(["a", "é" * 51], np.dtypes.StringDType()),
    ),
    "objects": (lambda: objects("a", None, {"b", "c"}), lambda: objects("a", None, {"b", "d"})),
    "long double": (lambda: long_double(0.1), lambda: long_double(0.2)),
    "masked": (lambda: masked(1, 0), lambda: masked(0, 1)),
    "subclass": (lambda: records(1), lambda: structured(1)),
    "scalar": (lambda: np.float64(1), lambda: np.float32(1)),
    "complex scalar": (lambda: np.complex64(1j), lambda: np.complex64(-1j)),
    "date scalar": (lambda: np.datetime64("2024"), lambda: np.datetime64("2024-01")),
    "bool scalar": (lambda: np.bool_(1), lambda: True),
    "dtype": (lambda: np.dtype("f8"), lambda: np.dtype(">f8")),
    "structured dtype": (
        lambda: np.dtype([("a", "i1"), ("b", "f8")]),
        lambda: np.dtype([("a", "i1"), ("b", "f8")], align=True),
    ),
    "generator": (lambda: drawn(1), lambda: np.random.default_rng(1)),
    "random state": (lambda: np.random.RandomState(1), lambda: np.random.RandomState(2)),
    "ufunc": (lambda: np.add, lambda: np.subtract),
    "series": (lambda: pd.Series([1, 2], name="a"), lambda: pd.Series([1, 2], name="b")),
    "frame": (lambda: frame(c=[1, 2]), lambda: frame(c=[1, 3])),
    "column names": (lambda: frame(d=[1, 2]), lambda: frame(e=[1, 2])),
    "text column": (lambda: frame(c=["x", None]), lambda: frame(c=["x", "None"])),
    "object column": (
        lambda: frame(c=objects("x", {"b", "c"})),
        lambda: frame(c=objects("x", {"b", "d"})),
    ),
    "categories": (
        lambda: pd.Categorical(["a", "b"], ["a", "b"]),
        lambda: pd.Categorical(["a", "b"], ["b", "a"]),
    ),
    "times": (
        lambda: pd.Series(pd.to_datetime(["2024-01-01", None]).tz_localize("UTC")),
        lambda: pd.Series(pd.to_datetime(["2024-01-01", None]).tz_localize("Asia/Tokyo")),
    ),
    "periods": (
        lambda: pd.Series(pd.period_range("2024", periods=2, freq="M")),
        lambda: pd.Series(pd.period_range("2024", periods=2, freq="D")),
    ),
    "missing numbers": (
        lambda: pd.Series([1, None], dtype="Int64"),
        lambda: pd.Series([1, 0], dtype="Int64"),
    ),
    "index": (lambda: pd.Index([1, 2], name="a"), lambda: pd.Index([1, 2], name="b")),
    "range": (lambda: pd.RangeIndex(3), lambda: pd.RangeIndex(1, 3)),
    "levels": (lambda: index("a", "b"), lambda: index("a", "c")),
    "dates of an index": (
        lambda: pd.date_range("2024", periods=3),
        lambda: pd.date_range("2024", periods=3, freq="h"),
    ),
    "intervals": (
        lambda: pd.IntervalIndex.from_breaks([0, 1, 2]),
        lambda: pd.IntervalIndex.from_breaks([0, 1, 2], closed="left"),
    ),
    "sparse column": (
        lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1])),
        lambda: pd.Series(pd.arrays.SparseArray([0, 1, 0])),
    ),
    "arrow column": (
        lambda: pd.Series([1, None], dtype="int64[pyarrow]"),
        lambda: pd.Series([1, 2], dtype="int64[pyarrow]"),
    ),
    "timestamp": (lambda: pd.Timestamp("2024-01-01"), lambda: pd.Timestamp("2024-01-01", tz="UTC")),
    "polars frame": (
        lambda: pl.DataFrame({"a": [1, None], "b": ["x", "y"]}),
        lambda: pl.DataFrame({"a": [1, 0], "b": ["x", "y"]}),
    ),
    "polars series": (lambda: pl.Series("a", [1.5]), lambda: pl.Series("b", [1.5])),
    "polars times": (
        lambda: pl.Series([1, None]).cast(pl.Datetime("us")),
        lambda: pl.Series([1, None]).cast(pl.Datetime("ms")),
    ),
    "polars categories": (
        lambda: pl.Series(["a", "b"], dtype=pl.Categorical),
        lambda: pl.Series(["a", "c"], dtype=pl.Categorical),
    ),
    "arrow table": (lambda: table(1), lambda: table(2)),
    "dataset": (lambda: dataset("K"), lambda: dataset("C")),
    "data array": (lambda: dataset("K").t, lambda: dataset("K").t.rename("u")),
    "dask array": (lambda: lazy(1), lambda: lazy(2)),
    "sparse matrix": (lambda: sparse(1), lambda: sparse(2)),
    "forest": (lambda: forest(1), lambda: forest(2)),
    "forest that is not fitted": (
        lambda: forest(1, fitted=False),
        lambda: forest(2, fitted=False),
    ),
    "pipeline": (lambda: pipeline(1), lambda: pipeline(2)),
    "features": (lambda: features("abc de"), lambda: features("abc df")),
    "distribution": (lambda: distribution(1), lambda: distribution(2)),
    "method of the shared generator": (lambda: np.random.permutation, lambda: np.random.shuffle),
    "array in memory": (lambda: io.BytesIO(numbers(9).tobytes()), lambda: io.BytesIO(b"")),
}


def _consolidated() -> pd.DataFrame:
    return frame(c=[1, 2]).copy()


def _asked() -> Any:
    made = masked(1, 0)
    assert made.fill_value
    return made


#: By name: pairs of values that are equal although they are kept in different ways.
SAME: dict[str, tuple[Any, Any]] = {
    "order in memory": (lambda: numbers(2, 3), lambda: np.asfortranarray(numbers(2, 3))),
    "a view": (lambda: numbers(5), lambda: numbers(10)[:5]),
    "steps": (lambda: numbers(2, 2) * 2, lambda: (numbers(4, 4) * 2)[:1, ::1].reshape(2, 2)),
    "reversed": (lambda: np.array([1, 0]), lambda: np.array([0, 1])[::-1]),
    "broadcast": (lambda: np.zeros((2, 3)), lambda: np.broadcast_to(np.zeros(3), (2, 3))),
    "large and not contiguous": (
        numbers(600, 1000).T.copy,
        lambda: numbers(600, 1000).T,
    ),
    "strided records": (lambda: structured(4), lambda: np.repeat(structured(4), 2)[::2]),
    "blocks": (lambda: frame(c=[1, 2]), _consolidated),
    "fill value": (lambda: masked(1, 0), _asked),
    "chunks": (lambda: table(1), lambda: table(1, 3)),
    "chunks of polars": (
        lambda: pl.Series("a", [1, 2]),
        lambda: pl.Series("a", [1]).append(pl.Series("a", [2])),
    ),
}
