"""Parts of pandas' objects: values by column, so that blocks of columns do not count."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._provenance.raw_parts import Parts

__all__ = ["PANDAS_PARTS"]


def _frame(frame: Any) -> Parts:
    columns = [frame.iloc[:, number].array for number in range(frame.shape[1])]
    labels = [(name,) for name in frame.columns]
    return (
        ("frame", len(columns)),
        (".columns", ".index", *labels, ""),
        (frame.columns, frame.index, *columns, _attributes(frame)),
    )


def _series(series: Any) -> Parts:
    parts = series.name, series.index, series.array, _attributes(series)
    return ("series",), (".name", ".index", "", ""), parts


def _attributes(value: Any) -> dict[str, Any]:
    """What a frame or series has besides its values; also what a subclass lists for pandas."""
    names = getattr(value, "_metadata", ())
    return {
        "attrs": value.attrs,
        "flags": value.flags.allows_duplicate_labels,
        **{name: getattr(value, name, None) for name in names if name != "_name"},
    }


def _index(index: Any) -> Parts:
    frequency = getattr(index, "freqstr", None)
    return ("index", frequency), (".name", ""), (index.name, index.array)


def _range_index(index: Any) -> Parts:
    return ("range", index.start, index.stop, index.step), (".name",), (index.name,)


def _multi_index(index: Any) -> Parts:
    levels, codes = [*index.levels], [*index.codes]
    return ("multi",), (".names", ".levels", ".codes"), ([*index.names], levels, codes)


# ---- arrays of one column ----


def _values(array: Any) -> Parts:
    """An array of a type without a rule of its own: by its elements."""
    return ("values", str(array.dtype)), ("",), ([*array],)


def _numpy_values(array: Any) -> Parts:
    return ("numpy",), ("",), (array.to_numpy(),)


def _categorical(array: Any) -> Parts:
    return ("categories", array.ordered), ("", ".categories"), (array.codes, array.categories)


def _times(array: Any) -> Parts:
    return ("times", str(array.dtype)), ("",), (array.asi8,)


def _masked_values(array: Any) -> Parts:
    dtype = array.dtype.numpy_dtype
    filled = array.to_numpy(dtype=dtype, na_value=dtype.type(0))
    return ("masked", str(array.dtype)), ("", ""), (array.isna(), filled)


def _texts(array: Any) -> Parts:
    """An array of texts, wherever it keeps them: Python's objects or Arrow's buffers."""
    missing = array.isna()
    values = array.to_numpy(dtype=object, na_value=None).tolist()
    return ("texts", str(array.dtype)), ("", ""), (missing if missing.any() else None, values)


def _arrow_values(array: Any) -> Parts:
    return ("arrow", str(array.dtype)), ("",), (array.__arrow_array__(),)


def _intervals(array: Any) -> Parts:
    return ("intervals", array.closed), (".left", ".right"), (array.left, array.right)


def _sparse(array: Any) -> Parts:
    numpy: Any = sys.modules["numpy"]
    return ("sparse", str(array.dtype)), ("",), (numpy.asarray(array),)


#: By class name; a class whose base has a rule is taken apart by it.
PANDAS_PARTS: Final[dict[str, Callable[[Any], Parts]]] = {
    "DataFrame": _frame,
    "Series": _series,
    "RangeIndex": _range_index,
    "MultiIndex": _multi_index,
    "Index": _index,
    "BaseStringArray": _texts,
    "NumpyExtensionArray": _numpy_values,
    "Categorical": _categorical,
    **dict.fromkeys(("DatetimeArray", "TimedeltaArray", "PeriodArray"), _times),
    "BaseMaskedArray": _masked_values,
    "ArrowExtensionArray": _arrow_values,
    "IntervalArray": _intervals,
    "SparseArray": _sparse,
    "ExtensionArray": _values,
}
