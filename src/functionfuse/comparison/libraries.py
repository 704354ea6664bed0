"""Library values: split values of pyarrow, xarray, scipy and torch into parts to compare, without an import of these."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["as_library_frame", "frame_check", "frame_metadata", "library_parts"]

#: The names of pandas' and polars' own functions, by the name of the class.
_FRAMES: Final = {"DataFrame": "frame", "LazyFrame": "frame", "Series": "series", "Index": "index"}
#: The class attribute in which a subclass of a frame lists its attributes, as pandas documents it.
_METADATA: Final = "_metadata"


def frame_check(value: Any) -> Any:
    """The library's function that compares two frames, series or indexes; None for other values."""
    kind = _frame_type(type(value))
    if kind is None:
        return None
    library = kind.__module__.partition(".")[0]
    testing = __import__(f"{library}.testing", fromlist=["testing"])
    return getattr(testing, f"assert_{_FRAMES[kind.__name__]}_equal")


def as_library_frame(value: Any) -> Any:
    """A frame of a subclass as the library's own type, which the function can compare."""
    kind = _frame_type(type(value))
    return value if kind is None else kind(value)


def frame_metadata(value: Any) -> dict[str, Any]:
    """What pandas keeps with a frame, and does not compare: `attrs`, and the attributes of a subclass."""
    names: Any = ("attrs", *getattr(value, _METADATA)) if hasattr(value, "_mgr") else ()
    return {name: getattr(value, name, None) for name in names}


def _frame_type(kind: type) -> Any:
    found = (
        base
        for base in kind.__mro__
        if base.__name__ in _FRAMES and base.__module__.partition(".")[0] in {"pandas", "polars"}
    )
    return next(found, None)


def library_parts(value: Any) -> dict[str, Any] | None:
    """The parts of a value by name; None for other libraries.

    An `==` of these libraries is elementwise, or ignores types, attributes and coordinates.
    """
    for kind in type(value).__mro__:
        parts = _PARTS.get((kind.__module__.partition(".")[0], kind.__name__))
        if parts is not None:
            return parts(value)
    return None


# ---- pyarrow ----


def _arrow_table(table: Any) -> dict[str, Any]:
    return {"schema": _arrow_schema(table.schema), "rows": table.to_pydict()}


def _arrow_schema(schema: Any) -> dict[str, Any]:
    fields = [(field.name, str(field.type), field.nullable, field.metadata) for field in schema]
    return {"fields": fields, "metadata": schema.metadata}


def _arrow_array(array: Any) -> dict[str, Any]:
    return {"type": str(array.type), "values": array.to_pylist()}


def _arrow_scalar(scalar: Any) -> dict[str, Any]:
    return {"type": str(scalar.type), "value": scalar.as_py()}


# ---- xarray ----


def _variable(variable: Any) -> dict[str, Any]:
    return {"dims": variable.dims, "attrs": dict(variable.attrs), "values": variable.values}


def _data_array(array: Any) -> dict[str, Any]:
    coords = {name: coord.variable for name, coord in array.coords.items()}
    return {"name": array.name, "variable": array.variable, "coords": coords}


def _dataset(dataset: Any) -> dict[str, Any]:
    return {
        "attrs": dict(dataset.attrs),
        "coords": set(dataset.coords),
        "variables": dict(dataset.variables),
    }


def _data_tree(tree: Any) -> dict[str, Any]:
    return dict(tree.to_dict())


# ---- scipy, whose `==` of two large equal values fills the memory ----


def _sparse(array: Any) -> dict[str, Any]:
    # without attributes such as `_has_sorted_indices`, which are computed on access
    return {name: part for name, part in vars(array).items() if not name.startswith("_has")}


# ---- torch ----


def _tensor(tensor: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        name: str(getattr(tensor, name)) for name in ("dtype", "layout", "device", "requires_grad")
    }
    parts |= {"shape": tuple(tensor.shape), "is_conj": tensor.is_conj(), "is_neg": tensor.is_neg()}
    if tensor.is_quantized:
        return parts | {"quantizer": repr(tensor.q_scale()), "values": tensor.int_repr().numpy()}
    dense = tensor.detach().to_dense() if str(tensor.layout) != "torch.strided" else tensor.detach()
    return parts | {"values": _dense_values(dense.resolve_conj().resolve_neg().cpu())}


def _dense_values(tensor: Any) -> Any:
    try:
        return tensor.numpy()
    except TypeError:  # numpy has no such type: bfloat16, float8
        return tensor.to(sys.modules["torch"].float64).numpy()


_PARTS: Final[dict[tuple[str, str], Callable[[Any], dict[str, Any]]]] = {
    ("pyarrow", "Table"): _arrow_table,
    ("pyarrow", "RecordBatch"): _arrow_table,
    ("pyarrow", "Schema"): _arrow_schema,
    ("pyarrow", "Array"): _arrow_array,
    ("pyarrow", "ChunkedArray"): _arrow_array,
    ("pyarrow", "Scalar"): _arrow_scalar,
    ("xarray", "Variable"): _variable,
    ("xarray", "DataArray"): _data_array,
    ("xarray", "Dataset"): _dataset,
    ("xarray", "DataTree"): _data_tree,
    ("scipy", "_spbase"): _sparse,
    ("torch", "Tensor"): _tensor,
}
