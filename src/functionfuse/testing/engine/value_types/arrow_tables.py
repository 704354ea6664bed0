"""Tables, arrays, schemas and scalars of pyarrow."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from functionfuse.testing.engine.value_types.table import LARGE, ValueType

__all__ = ["VALUE_TYPES"]

_ROWS: Final = 200


def _table() -> Any:
    table = pa.table({"a": pa.array([1, None], pa.int8()), "b": [["x"], []]})
    return table.replace_schema_metadata({"source": "a"})


def _large() -> Any:
    return pa.table({"n": range(_ROWS), "t": ["x" * (LARGE // _ROWS)] * _ROWS})


def _dictionary() -> Any:
    return pa.array(["b", None, "a", "b"]).dictionary_encode()


VALUE_TYPES: Final = (
    ValueType("pyarrow.Table", _table),
    ValueType("pyarrow.Table, nothing", lambda: pa.table({})),
    ValueType("pyarrow.Table, no rows", lambda: _table().slice(2)),
    ValueType("pyarrow.Table, large", _large),
    ValueType("pyarrow.Table, sliced", lambda: _large().slice(5, 3)),
    ValueType("pyarrow.RecordBatch", lambda: pa.record_batch({"t": pa.array([1], pa.date32())})),
    ValueType("pyarrow.Array", lambda: pa.array([1, None], pa.decimal128(9, 2))),
    ValueType("pyarrow.Array, dictionary", _dictionary),
    ValueType("pyarrow.Array, empty", lambda: pa.array([], pa.list_(pa.float16()))),
    ValueType("pyarrow.ChunkedArray", lambda: pa.chunked_array([[1], [], [2]])),
    ValueType("pyarrow.Schema", lambda: _table().schema),
    ValueType("pyarrow.Scalar", lambda: pa.scalar(None, pa.timestamp("s", "UTC"))),
)
