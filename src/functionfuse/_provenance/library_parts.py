"""Parts of tables and arrays of libraries: by contents, whatever their blocks, chunks and caches are.

No library is imported: a value of its types exists only where it is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functionfuse._provenance.array_parts import (
    array_parts,
    dtype_parts,
    masked_parts,
    scalar_parts,
)
from functionfuse._provenance.pandas_parts import PANDAS_PARTS
from functionfuse._provenance.raw_parts import Raw, Undigestible, hash_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._provenance.raw_parts import Parts

__all__ = ["library_parts"]


def library_parts(kind: type) -> Callable[[Any], Parts] | None:
    """Return the function that takes values of this very type of a library apart."""
    library = str(kind.__module__).partition(".")[0]
    by_name = _LIBRARIES.get(library)
    return None if by_name is None else by_name.get(kind.__name__)


# ---- polars ----


def _polars_frame(frame: Any) -> Parts:
    names = frame.columns
    return ("frame", *names), [(name,) for name in names], [frame[name] for name in names]


def _polars_series(series: Any) -> Parts:
    header = "series", series.name, str(series.dtype), len(series)
    dtype = series.dtype
    if not (dtype.is_numeric() or dtype.is_temporal()) or str(dtype).startswith("Decimal"):
        return header, ("",), (series.to_list(),)
    numbers = series.to_physical() if dtype.is_temporal() else series
    missing = series.is_null().to_numpy() if series.null_count() else None
    return header, ("", ""), (missing, numbers.fill_null(0).to_numpy())


# ---- pyarrow ----


def _arrow_table(table: Any) -> Parts:
    names = table.schema.names
    metadata = sorted((table.schema.metadata or {}).items())
    fields = [str(field) for field in table.schema]
    parts = [table.column(number) for number in range(len(names))]
    return ("table", *fields), [*((name,) for name in names), ""], [*parts, metadata]


def _arrow_array(values: Any) -> Parts:
    """An array, or one in chunks: by its numbers and missing values, else by Python's values."""
    kind = values.type
    header = "values", str(kind), len(values)
    if str(kind) not in _ARROW_NUMBERS:
        return header, ("",), (values.to_pylist(),)
    missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    return header, ("", ""), (missing, _arrow_numbers(values))


def _arrow_numbers(values: Any) -> Any:
    filled = values.fill_null(0) if values.null_count else values
    return filled.to_numpy() if hasattr(filled, "chunks") else filled.to_numpy(zero_copy_only=False)


_ARROW_NUMBERS: Final = frozenset(
    {
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("halffloat", "float", "double"),
    }
)


# ---- xarray ----


def _data_array(array: Any) -> Parts:
    coordinates = {name: array.coords[name].variable for name in array.coords}
    return ("data array",), (".name", "", ".coords"), (array.name, array.variable, coordinates)


def _dataset(dataset: Any) -> Parts:
    variables = {name: dataset.variables[name] for name in dataset.variables}
    parts = variables, sorted(map(str, dataset.coords)), dict(dataset.attrs)
    return ("dataset",), ("", ".coords", ".attrs"), parts


def _variable(variable: Any) -> Parts:
    data = variable.data  # of a lazy variable in a file: what is read
    return ("variable",), (".dims", ".data", ".attrs"), (variable.dims, data, dict(variable.attrs))


# ---- dask and torch ----


def _dask_token(value: Any) -> Parts:
    """A lazy collection, by the token that dask makes of what it is computed from."""
    return ("dask",), ("",), (value.__dask_tokenize__(),)


def _dask_delayed(_: Any) -> Parts:
    message = "a delayed call of dask, whose key is random"
    raise Undigestible(message)


def _tensor(tensor: Any) -> Parts:
    header = (
        "tensor",
        str(tensor.dtype),
        str(tensor.device),
        tuple(tensor.shape),
        tensor.requires_grad,
    )
    if str(tensor.layout) != "torch.strided":
        message = f"a tensor of layout {tensor.layout}"
        raise Undigestible(message)
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    data = plain.view(plain.untyped_storage().byte().dtype).numpy()
    return header, ("",), (Raw(hash_bytes(data)),)


_LIBRARIES: Final[dict[str, dict[str, Callable[[Any], Parts]]]] = {
    "numpy": {
        "MaskedArray": masked_parts,
        "ndarray": array_parts,
        "generic": scalar_parts,
        "dtype": dtype_parts,
    },
    "pandas": PANDAS_PARTS,
    "polars": {"DataFrame": _polars_frame, "Series": _polars_series},
    "pyarrow": {
        "Table": _arrow_table,
        "RecordBatch": _arrow_table,
        "Array": _arrow_array,
        "ChunkedArray": _arrow_array,
        "Scalar": lambda value: (("scalar", str(value.type)), ("",), (value.as_py(),)),
        "Buffer": lambda value: (("buffer",), ("",), (Raw(hash_bytes(value)),)),
    },
    "xarray": {"DataArray": _data_array, "Dataset": _dataset, "Variable": _variable},
    "dask": {
        "Delayed": _dask_delayed,
        **dict.fromkeys(("Array", "Bag", "Item", "FrameBase"), _dask_token),
    },
    "torch": {"Tensor": _tensor},
}
