"""Arrow serializer: tables of pandas, polars and pyarrow as parquet, if that is lossless.

Parquet changes some tables: types of some columns and index labels, and the frequency of an index.
Such a table is pickled into the result file instead.
The schema of a table decides, in two steps that do not depend on its length:
its types are on a short list, and the table without rows is unchanged after writing and reading.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, Protocol

from functionfuse.errors import MissingExtraError, UntrustedResult
from functionfuse.serializers.base import FOLDER_PROTOCOL
from functionfuse.serializers.checksummed_files import read_file, write_file

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["ArrowSerializer"]

_VERSION: Final = "1"
_COMPRESSION: Final = "lz4"  # the fastest to read, and supported by all libraries
_WIDTHS: Final = (8, 16, 32, 64)
#: Extension dtypes of pandas with one number, text or time a row, or a missing value.
_SIMPLE_DTYPES: Final = {
    *("DatetimeTZDtype", "StringDtype", "BooleanDtype", "Float32Dtype", "Float64Dtype"),
    *(f"{kind}{width}Dtype" for kind in ("Int", "UInt") for width in _WIDTHS),
}


class ArrowSerializer:
    """Stores pandas and polars data frames and pyarrow tables as parquet; imports only the library in use."""

    serializer_class = ("pandas.DataFrame", "polars.DataFrame", "pyarrow.Table")
    name = "ArrowSerializer"

    @classmethod
    def pickle(
        cls, obj: Any, protocols: MutableMapping[str, Any]
    ) -> tuple[str, tuple[str, ...]] | None:
        """Write a table; None if parquet would change it."""
        library = type(obj).__module__.partition(".")[0]
        tables = _TABLES.get(library)
        try:
            if tables is None or not tables.keeps(obj):
                return None
            data = tables.written(obj)
        except (ValueError, TypeError, OverflowError, NotImplementedError):  # depends on the values
            return None
        return cls.name, (
            _VERSION,
            library,
            *write_file(protocols[FOLDER_PROTOCOL], "parquet", data),
        )

    @classmethod
    def unpickle(cls, pid: Sequence[str], protocols: MutableMapping[str, Any]) -> Any:
        """Read a table."""
        _, library, name, digest = pid
        return _TABLES[library].read(read_file(protocols[FOLDER_PROTOCOL], name, digest))

    @classmethod
    def remove(cls, pid: Sequence[str], protocols: MutableMapping[str, Any]) -> None:
        """Remove the file of a table."""
        protocols[FOLDER_PROTOCOL].remove(pid[2])


class _Tables(Protocol):
    """The tables of one library."""

    def keeps(self, table: Any) -> bool:
        """Whether parquet stores a table without change."""

    def written(self, table: Any) -> bytes | memoryview:
        """A table as parquet."""

    def read(self, data: bytes) -> Any:
        """A table from parquet."""


class _ArrowTables:
    """Tables of pyarrow."""

    def keeps(self, table: pa.Table) -> bool:
        """Whether types, names and metadata are unchanged."""
        pa, schema = _pyarrow(), table.schema
        if type(table) is not pa.Table or not 0 < len(schema) == len({*schema.names}):
            return False
        if not all(_is_simple_arrow(field.type) for field in schema):
            return False
        empty = self.read(self.written(schema.empty_table()))
        return bool(empty.schema.equals(schema, check_metadata=True))

    def written(self, table: pa.Table) -> memoryview:
        """A table as parquet."""
        import pyarrow.parquet as pq

        pa = _pyarrow()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression=_COMPRESSION)
        return memoryview(sink.getvalue())

    def read(self, data: bytes | memoryview) -> pa.Table:
        """A table from parquet."""
        import pyarrow.parquet as pq

        pa = _pyarrow()
        file = pq.ParquetFile(pa.BufferReader(data))
        for field in file.schema_arrow:
            if not _is_simple_arrow(field.type):
                message = (
                    f"a table has a column of type {field.type}, which no serializer writes: "
                    "remove the result"
                )
                raise UntrustedResult(message)
        return file.read()


class _PandasTables:
    """Data frames of pandas, converted by pyarrow."""

    def keeps(self, table: pd.DataFrame) -> bool:
        """Whether types, labels, index and time zones are unchanged."""
        import pandas as pd

        if (
            type(table) is not pd.DataFrame
            or table.attrs
            or not table.flags.allows_duplicate_labels
        ):
            return False
        if not (_has_plain_columns(table.columns) and _has_plain_index(table)):
            return False
        if not all(map(_is_simple_dtype, (*table.dtypes.unique(), table.index.dtype))):
            return False
        empty = table.iloc[:0]
        return _form(self.read(self.written(empty))) == _form(empty)

    def written(self, table: pd.DataFrame) -> memoryview:
        """A table as parquet."""
        return _ArrowTables().written(_pyarrow().Table.from_pandas(table))

    def read(self, data: bytes | memoryview) -> pd.DataFrame:
        """A table from parquet."""
        frame: pd.DataFrame = _ArrowTables().read(data).to_pandas()
        return frame


class _PolarsTables:
    """Data frames of polars, which writes parquet itself."""

    def keeps(self, table: pl.DataFrame) -> bool:
        """Whether types and names are unchanged."""
        import polars as pl

        if type(table) is not pl.DataFrame or not table.width:
            return False
        if not all(_is_simple_polars(dtype) for dtype in table.dtypes):
            return False
        empty = table.clear()
        return self.read(self.written(empty)).schema == empty.schema

    def written(self, table: pl.DataFrame) -> bytes:
        """A table as parquet."""
        sink = io.BytesIO()
        table.write_parquet(sink, compression=_COMPRESSION)
        return sink.getvalue()

    def read(self, data: bytes) -> pl.DataFrame:
        """A table from parquet."""
        import polars as pl

        return pl.read_parquet(io.BytesIO(data))


_TABLES: Final[dict[str, _Tables]] = {
    "pandas": _PandasTables(),
    "polars": _PolarsTables(),
    "pyarrow": _ArrowTables(),
}


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        message = "ArrowSerializer needs pyarrow for this table: pip install 'functionfuse[arrays]'"
        raise MissingExtraError(message) from error
    return pyarrow


def _is_simple_arrow(kind: Any) -> bool:
    """Whether a column has one number, text or time a row."""
    types = _pyarrow().types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_temporal(kind)
        or types.is_decimal(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _has_plain_columns(columns: pd.Index) -> bool:
    """Whether all columns have unique names of type str."""
    import pandas as pd

    texts = all(type(label) is str for label in (*columns, columns.name or ""))
    return texts and type(columns) is pd.Index and columns.is_unique and len(columns) > 0


def _has_plain_index(frame: pd.DataFrame) -> bool:
    """Whether the index has one level and no frequency."""
    index = frame.index
    named = type(index.name) is str and index.name not in frame.columns
    plain = index.nlevels == 1 and getattr(index, "freq", None) is None
    return plain and (index.name is None or named)


def _is_simple_dtype(dtype: Any) -> bool:
    """Whether a column of pandas has one number, text or time a row."""
    import numpy as np
    import pandas as pd

    if isinstance(dtype, np.dtype):
        return dtype.kind in "biufMm" and dtype.isnative
    if isinstance(dtype, pd.ArrowDtype):
        return _is_simple_arrow(dtype.pyarrow_dtype)
    return type(dtype).__name__ in _SIMPLE_DTYPES


def _is_simple_polars(dtype: Any) -> bool:
    """Whether a column of polars has one number, text or time a row."""
    import polars as pl

    return bool(dtype.is_numeric() or dtype.is_temporal()) or dtype in {
        pl.Boolean,
        pl.String,
        pl.Binary,
    }


def _form(frame: pd.DataFrame) -> list[Any]:
    """The schema of a data frame, for comparison."""
    index, columns = frame.index, frame.columns
    return [
        [type(labels) for labels in (columns, index)],
        [labels.name for labels in (columns, index)],
        [*map(_exactly, (columns.dtype, index.dtype, *frame.dtypes))],
        [*columns],
    ]


def _exactly(dtype: Any) -> tuple[Any, ...]:
    """A dtype with the class of its time zone, which equality of dtypes ignores."""
    return type(dtype), dtype, type(getattr(dtype, "tz", None))
