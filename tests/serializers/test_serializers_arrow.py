"""Tables: what is read is exactly what was saved, as parquet where that can be."""

from __future__ import annotations

import datetime as dt
import hashlib
import zoneinfo
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from serializer_helpers import Kept, kept, local

from functionfuse.errors import CorruptResult, UntrustedResult
from functionfuse.serializers import FOLDER_PROTOCOL
from functionfuse.serializers.arrow import ArrowSerializer

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
polars_testing = pytest.importorskip("polars.testing")
pa = pytest.importorskip("pyarrow")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["kept", "local"]

N = 5
DAYS = pd.date_range("2020", periods=N, freq="D")
COLUMNS: dict[str, Any] = {
    **{kind: np.arange(N).astype(kind) for kind in ("?", "i1", "u8", "f2", "f4", "f8", "c16")},
    **{f"M8[{unit}]": np.arange(N).astype(f"M8[{unit}]") for unit in ("s", "ms", "us", "ns")},
    **{f"m8[{unit}]": np.arange(N).astype(f"m8[{unit}]") for unit in ("s", "ms", "us", "ns")},
    "nan": [0.5, np.nan, -0.0, np.inf, 1],
    "str": pd.array(["a", np.nan, "c", "", "é"], dtype="str"),
    "python str": pd.array(
        ["a", None, "c", "", ""], dtype=pd.StringDtype("python", na_value=np.nan)
    ),
    "string": pd.array(["a", None, "c", "", ""], dtype="string"),
    "Int64": pd.array([1, None, 2**62, 4, 5], dtype="Int64"),
    "UInt8": pd.array([1, None, 3, 4, 5], dtype="UInt8"),
    "boolean": pd.array([True, None, False, True, True], dtype="boolean"),
    "Float64": pd.array([1, None, 3, 4, 0.0], dtype="Float64"),
    "arrow int": pd.array([1, None, 3, 4, 5], dtype="int64[pyarrow]"),
    "arrow list": pd.array([[1], None, [], [2], [3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "category": pd.Categorical(
        ["b", "a", None, "b", "a"], categories=["z", "b", "a"], ordered=True
    ),
    "int category": pd.Categorical([3, 1, 1, 3, 3], categories=[9, 3, 1]),
    "utc": DAYS.tz_localize("UTC"),
    "Berlin": DAYS.tz_localize(zoneinfo.ZoneInfo("Europe/Berlin")),
    "fixed": DAYS.tz_localize(dt.timezone(dt.timedelta(hours=1))),
    "datetime utc": DAYS.tz_localize(dt.UTC),
    "period": pd.period_range("2020", periods=N, freq="M"),
    "interval": pd.interval_range(0, N),
    "sparse": pd.arrays.SparseArray([0, 0, 1, 0, 2]),
    "mixed": pd.Series([1, "a", None, np.nan, (1, 2)], dtype=object),
    "texts": pd.Series(["a", "b", None, np.nan, pd.NA], dtype=object),
    "dates": pd.Series([dt.date(2020, 1, 1)] * N, dtype=object),
}
IN_PARQUET = {
    *("?", "i1", "u8", "f2", "f4", "f8", "nan", "str", "string", "Int64", "UInt8", "boolean"),
    *("Float64", "arrow int", "M8[ms]", "M8[us]", "M8[ns]", "m8[s]", "m8[ms]", "m8[us]", "m8[ns]"),
    *("Berlin", "fixed"),
}

INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(2, 2 + 2 * N, 2, name="r"),
    "numbers": pd.Index([5, 3, 3, 1, 2], name="x"),
    "texts": pd.Index(list("abcde")),
    "times": pd.DatetimeIndex(np.array(DAYS), name="t"),
    "frequency": DAYS,
    "floats": pd.Index([1.5, 2, 3, 4, np.nan]),
    "number as name": pd.Index(range(1, 6), name=3),
    "name of a column": pd.Index([5, 3, 3, 1, 2], name="a"),
    "several levels": pd.MultiIndex.from_product([["b", "a"], [1, 2, 3]], names=["l", None])[:N],
    "mixed": pd.Index([1, "a", None, 2.5, (1,)], dtype=object),
    "categories": pd.CategoricalIndex(list("abcab"), categories=list("cab")),
    "time zone": DAYS.tz_localize("UTC"),
    "periods": pd.period_range("2020", periods=N, freq="M"),
}
LABELS: dict[str, Any] = {
    "texts": pd.Index(["a", "b"]),
    "named": pd.Index(["a", "b"], name="columns"),
    "objects": pd.Index(["a", "b"], dtype=object),
    "numbers": pd.Index([1, 2]),
    "range": pd.RangeIndex(2),
    "twice": pd.Index(["a", "a"]),
    "tuples": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
    "mixed": pd.Index(["a", 1], dtype=object),
    "categories": pd.CategoricalIndex(["a", "b"]),
    "times": DAYS[:2],
}


def identical(expected: Any, actual: Any) -> None:
    """Two data frames are the same in everything that pandas can tell."""
    assert type(expected) is type(actual)
    pd.testing.assert_frame_equal(expected, actual, check_exact=True, check_freq=True)
    for one, other in ((expected.index, actual.index), (expected.columns, actual.columns)):
        assert one.identical(other)
        assert type(one) is type(other)
        assert getattr(one, "freq", None) == getattr(other, "freq", None)
        assert [type(name) for name in one.names] == [type(name) for name in other.names]
    pairs = zip(
        [*expected.dtypes, expected.index.dtype], [*actual.dtypes, actual.index.dtype], strict=True
    )
    for one, other in pairs:
        assert one == other
        assert type(getattr(one, "tz", None)) is type(getattr(other, "tz", None))
        assert getattr(one, "categories", pd.Index([])).identical(
            getattr(other, "categories", pd.Index([]))
        )
    for position in range(expected.shape[1]):
        assert types_of(expected.iloc[:, position]) == types_of(actual.iloc[:, position])
    assert expected.attrs == actual.attrs
    assert expected.flags.allows_duplicate_labels == actual.flags.allows_duplicate_labels


def types_of(column: Any) -> list[type]:
    """None, NaN and NA are different things, which pandas likes to call equal."""
    return [type(item) for item in column]


# ---- pandas ----


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_is_kept(local: Kept, name: str) -> None:
    """Types, values and what is missing; as parquet where that can be."""
    frame = pd.DataFrame({"x": COLUMNS[name], "y": range(N)})
    identical(frame, local.round_trip(frame, ArrowSerializer))
    assert (name in IN_PARQUET) == (1 == len(local.files(".parquet")))


@pytest.mark.parametrize("name", INDEXES)
def test_every_index_is_kept(local: Kept, name: str) -> None:
    """Labels, names, levels and frequency."""
    frame = pd.DataFrame({"a": range(N), "b": COLUMNS["str"]}, index=INDEXES[name])
    identical(frame, local.round_trip(frame, ArrowSerializer))


@pytest.mark.parametrize("name", LABELS)
def test_every_kind_of_column_labels_is_kept(local: Kept, name: str) -> None:
    """Also numbers, tuples and labels that are there twice."""
    frame = pd.DataFrame(np.arange(10.0).reshape(N, 2))
    frame.columns = LABELS[name]
    identical(frame, local.round_trip(frame, ArrowSerializer))
    assert (name in {"texts", "named"}) == (1 == len(local.files(".parquet")))


def test_metadata_of_a_frame_are_kept(local: Kept) -> None:
    """Attributes, flags, and no rows or columns."""
    frame = pd.DataFrame({"a": [1, 2]})
    frame.attrs["unit"] = ("m", 1)
    for each in (
        frame,
        pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
        pd.DataFrame(),
        pd.DataFrame(index=range(3)),
        pd.DataFrame({"a": COLUMNS["utc"]}).iloc[:0],
    ):
        identical(each, local.round_trip(each, ArrowSerializer))


def test_a_derived_class_is_kept(local: Kept) -> None:
    """With what it has more than a data frame."""
    frame = Derived({"a": [1, 2]})
    frame.more = "more"
    found = local.round_trip(frame, ArrowSerializer)
    assert Derived is type(found)
    assert "more" == found.more


class Derived(pd.DataFrame):  # type: ignore[misc,name-defined]
    """A data frame with an attribute."""

    _metadata = ["more"]  # noqa: RUF012 - as pandas has it
    more: str

    @property
    def _constructor(self) -> Any:
        return Derived


def test_loaded_values_are_writable(kept: Kept) -> None:
    """Like the saved value."""
    frame = pd.DataFrame({name: COLUMNS[name] for name in IN_PARQUET})
    found = kept.round_trip(frame, ArrowSerializer)
    assert 1 == len(kept.files(".parquet"))
    for column in frame.columns:
        found.loc[0, column] = found.loc[2, column]
        frame.loc[0, column] = frame.loc[2, column]
    identical(frame, found)
    found["f8"] += 1
    found["f8"].to_numpy(copy=True)[0] = 1


KINDS = ["?", "i1", "u1", "i8", "u8", "f2", "f4", "f8", "M8[ns]", "M8[s]", "m8[us]", "c8"]
column_values = st.one_of(
    st.sampled_from(KINDS).flatmap(lambda kind: hnp.arrays(kind, 4).map(pd.array)),
    st.sampled_from(KINDS[:8]).flatmap(lambda kind: hnp.arrays(kind, 4)),
    st.lists(st.none() | st.text(max_size=3), min_size=4, max_size=4).map(
        lambda texts: pd.array(texts, dtype="str")
    ),
    st.lists(
        st.none() | st.text(max_size=2) | st.integers() | st.floats() | st.binary(max_size=2),
        min_size=4,
        max_size=4,
    ).map(lambda values: pd.Series(values, dtype=object)),
    st.lists(st.none() | st.integers(-128, 127), min_size=4, max_size=4).map(
        lambda values: pd.array(values, dtype="Int8")
    ),
)
labels = st.text(max_size=3) | st.integers(-3, 3)
frames = st.builds(
    lambda columns, index: pd.DataFrame(columns).set_axis(index, axis=0),
    st.dictionaries(labels, column_values, min_size=1, max_size=4),
    st.one_of(
        st.just(pd.RangeIndex(4)),
        st.lists(labels, min_size=4, max_size=4).map(pd.Index),
        hnp.arrays("M8[ns]", 4).map(pd.DatetimeIndex),
        st.builds(lambda name: pd.Index([4, 3, 2, 1], name=name), labels),
    ),
)


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(frame=frames)
def test_any_frame_is_kept(local: Kept, frame: Any) -> None:
    """A frame with any contents is unchanged: the decision for parquet is never wrong."""
    identical(frame, local.round_trip(frame, ArrowSerializer))


# ---- polars and pyarrow ----

POLARS: dict[str, Any] = {
    "i8": pl.Series([1, None, 3], dtype=pl.Int8),
    "u64": pl.Series([1, None, 2**64 - 1], dtype=pl.UInt64),
    "i128": pl.Series([1, None, 2**100], dtype=pl.Int128),
    "f32": pl.Series([1.5, None, float("nan")], dtype=pl.Float32),
    "bool": pl.Series([True, None, False]),
    "text": pl.Series(["a", None, ""]),
    "bytes": pl.Series([b"a", None, b""]),
    "date": pl.Series([dt.date(2020, 1, 1), None, dt.date(1, 1, 1)]),
    "time": pl.Series([dt.time(1, 2, 3, 4), None, dt.time(0)]),
    "datetime": pl.Series([dt.datetime(2020, 1, 1), None, None]),  # noqa: DTZ001
    "zone": pl.Series([0, None, 1]).cast(pl.Datetime("ms", "Europe/Berlin")),
    "duration": pl.Series([0, None, 1]).cast(pl.Duration("ns")),
    "decimal": pl.Series([1, None, 2]).cast(pl.Decimal(10, 2)),
    "category": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "enumeration": pl.Series(["a", None, "b"], dtype=pl.Enum(["z", "b", "a"])),
    "list": pl.Series([[1], None, []]),
    "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
    "record": pl.Series([{"a": 1}, None, {"a": 3}]),
    "nothing": pl.Series([None, None, None]),
}


@pytest.mark.parametrize("name", POLARS)
def test_every_polars_column_is_kept(local: Kept, name: str) -> None:
    """Types, values and what is missing."""
    frame = pl.DataFrame({"x": POLARS[name], "": [1, 2, 3]})
    found = local.round_trip(frame, ArrowSerializer)
    assert frame.schema == found.schema
    assert frame.equals(found, null_equal=True)
    polars_testing.assert_frame_equal(frame, found, check_exact=True)


ARROW: dict[str, Callable[[], Any]] = {
    "numbers": lambda: pa.table({"a": [1, None, 3], "b": pa.array([1.5, float("nan"), None])}),
    "said of it": lambda: pa.table(
        [pa.array([1, 2])],
        schema=pa.schema(
            [pa.field("a", pa.int64(), nullable=False, metadata={"k": "v"})], metadata={"x": "y"}
        ),
    ),
    "seconds": lambda: pa.table({"a": pa.array([1, 2], pa.timestamp("s"))}),
    "dates": lambda: pa.table({"a": pa.array([1, 2], pa.date64())}),
    "categories": lambda: pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()}),
    "lists": lambda: pa.table({"a": [[1], None, []]}),
    "same name": lambda: pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]),
    "large texts": lambda: pa.table({"a": pa.array(["a", None], pa.large_string())}),
    "pieces": lambda: pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2]})]),
    "nothing": lambda: pa.table({}),
    "no rows": lambda: pa.table({"a": pa.array([], pa.decimal128(5, 2))}),
}


@pytest.mark.parametrize("name", ARROW)
def test_every_arrow_table_is_kept(local: Kept, name: str) -> None:
    """With its schema and what is said in that."""
    table = ARROW[name]()
    found = local.round_trip(table, ArrowSerializer)
    assert found.schema.equals(table.schema, check_metadata=True)
    assert [repr(column.to_pylist()) for column in table.columns] == [
        repr(column.to_pylist()) for column in found.columns
    ]


def test_tables_are_found_in_other_values(kept: Kept) -> None:
    """One of each library, in one result, a file each."""
    value = {
        "pandas": [pd.DataFrame({"a": [1.5]})],
        "polars": (pl.DataFrame({"a": [2.5]}),),
        "arrow": pa.table({"a": [3.5]}),
    }
    found = kept.round_trip(value, ArrowSerializer)
    identical(value["pandas"][0], found["pandas"][0])
    assert value["polars"][0].equals(found["polars"][0])
    assert value["arrow"].equals(found["arrow"])
    assert 3 == len(kept.files(".parquet"))
    kept.storage(ArrowSerializer).remove_task("w", "node")
    assert [] == kept.files()


def test_a_damaged_table_is_not_read(kept: Kept) -> None:
    """A byte that is not as written, and a missing file."""
    storage = kept.storage(ArrowSerializer)
    storage.save("w", "node", pd.DataFrame({"a": [1.5]}))
    (file,) = kept.files(".parquet")
    content = bytearray(kept.filesystem.cat_file(file))
    content[len(content) // 2] ^= 1
    kept.filesystem.pipe_file(file, bytes(content))
    with pytest.raises(CorruptResult, match="does not match its checksum"):
        storage.read_task("w", "node")
    kept.filesystem.rm(file)
    with pytest.raises(CorruptResult, match="is missing"):
        storage.read_task("w", "node")


def _parquet(folder: Path, table: Any) -> Any:
    """A parquet file of another program; returns what represents it in a result."""
    import pyarrow.parquet as pq

    pq.write_table(table, folder / "table.parquet")
    digest = hashlib.sha256((folder / "table.parquet").read_bytes()).hexdigest()
    return "1", "pyarrow", "table.parquet", digest


class Marked(pa.ExtensionType):  # type: ignore[misc, name-defined]
    """A type of the reader's that pickles what a file says of it."""

    def __init__(self) -> None:
        """Be stored as numbers."""
        super().__init__(pa.int64(), "functionfuse.tests.marked")

    def __arrow_ext_serialize__(self) -> bytes:
        """Keep nothing."""
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Marked:
        """Make it again."""
        return cls()


def test_a_table_with_columns_of_other_kinds_is_refused(tmp_path: Path) -> None:
    """Nested columns and extension types, whose classes read what the file says, were never written."""
    marked = pa.ExtensionArray.from_storage(Marked(), pa.array([1, 2]))
    pa.register_extension_type(Marked())
    try:
        for column in (marked, pa.array([[1], [2]]), pa.array(["a", "b"]).dictionary_encode()):
            pid = _parquet(tmp_path, pa.table({"x": column}))
            with pytest.raises(UntrustedResult, match="which no serializer writes"):
                ArrowSerializer.unpickle(pid, {FOLDER_PROTOCOL: InFolder(tmp_path)})
    finally:
        pa.unregister_extension_type("functionfuse.tests.marked")


class InFolder:
    """The interface by which serializers open files."""

    def __init__(self, folder: Path) -> None:
        """Take a folder."""
        self.path = str(folder)
        self._folder = folder

    def open(self, name: str, mode: str) -> Any:
        """Open a file."""
        return (self._folder / name).open(mode)

    def read_bytes(self, name: str) -> bytes:
        """Read a file."""
        return (self._folder / name).read_bytes()
