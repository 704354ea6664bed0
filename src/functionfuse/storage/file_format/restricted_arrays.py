"""Constructors of numpy's arrays, scalars and dtypes for the restricted unpickler.

numpy does not validate its pickles: with a forged dtype, or a list that is shorter than its array,
it follows any number as a pointer.
Therefore the public constructor of numpy creates a dtype from its description, and an array gets exactly
as many bytes or objects as its shape and dtype need.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from functionfuse.storage.file_format.restricted_constructors import (
    Constructor,
    Function,
    Unbuilt,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse.storage.file_format.restricted_constructors import Construction

__all__ = ["CONSTRUCTORS", "fill", "require_no_arrays"]

_ALIGNED: Final = 0x80  # a flag of a dtype, NPY_ALIGNED_STRUCT
_MAX_BYTES: Final = 2**63 - 1
_MAX_DIMENSIONS: Final = 64
_MAX_FIELDS: Final = 1 << 16
_MAX_DEPTH: Final = 32
_KIND: Final = re.compile(r"[biufcmMOSUV][0-9]{0,10}")
_FLAGS: Final = frozenset({bool, int})
_ORDERS: Final = frozenset("<>|=")
_UNITS: Final = frozenset(
    ("generic", "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
)
#: The types of items in pickles of records.
_ITEMS: Final = frozenset(
    {bool, int, float, complex, str, bytes, type(None), dt.date, dt.datetime, dt.timedelta}
)
#: A function of numpy in a private module.
_numpy_scalar: Final[Any] = np.float64(0).__reduce__()[0]


# ---- dtypes ----


def _dtype(construction: Construction, kind: Any, align: Any, copy: Any) -> Unbuilt:
    require(type(align) in _FLAGS and type(copy) in _FLAGS and not align and copy)
    if isinstance(kind, type):
        require(issubclass(kind, np.generic))
    else:
        require(type(kind) is str and _KIND.fullmatch(kind))
    plain: np.dtype[Any] = np.dtype(kind)

    def build(state: Any) -> np.dtype[Any]:
        require(type(state) is tuple and 8 <= len(state) <= 9)  # noqa: PLR2004 - with metadata
        return _build_dtype(construction, plain, *state)

    return Unbuilt("numpy.dtype", build)


def _build_dtype(  # noqa: PLR0913 - the state of a dtype, as numpy pickles it
    construction: Construction,
    plain: np.dtype[Any],
    _version: Any,
    order: Any,
    base: Any,
    names: Any,
    fields: Any,
    size: Any,
    _alignment: Any,
    flags: Any,
    metadata: Any = None,
) -> np.dtype[Any]:
    """Create the dtype that a state describes."""
    require(type(order) is str and order in _ORDERS and type(size) is type(flags) is int)
    if plain.kind in "mM" and metadata is not None:
        metadata, unit = metadata
        plain = _build_time_dtype(plain, *unit)
    if base is not None:
        made = _subarray(construction, *base)
    elif names is not None:
        made = _record(construction, names, fields, size, flags)
        if plain.type is not np.void:
            made = np.dtype((plain.type, made))
    else:
        made = plain.newbyteorder(order)
        made = plain if made.isnative else made
    if metadata:
        require(type(metadata) is dict and {*map(type, metadata)} == {str})
        made = np.dtype(made, metadata=metadata)
    return made


def _build_time_dtype(plain: np.dtype[Any], unit: Any, count: Any, *_: Any) -> np.dtype[Any]:
    require(type(unit) is bytes and type(count) is int and count > 0)
    name = unit.decode()
    require(name in _UNITS)
    return plain if name == "generic" else np.dtype(f"{plain.kind}8[{count}{name}]")


def _subarray(construction: Construction, base: Any, shape: Any) -> np.dtype[Any]:
    _require_shape(shape)
    _require_small_tree(construction, [base])
    made: np.dtype[Any] = np.dtype((base, shape))
    require(made.subdtype)
    return made


def _record(
    construction: Construction, names: Any, fields: Any, size: int, flags: int
) -> np.dtype[Any]:
    require(type(names) is tuple and {*map(type, names)} <= {str})
    require(type(fields) is dict and {*names} <= fields.keys())
    columns = [_column(*fields[name]) for name in names]
    formats = [column[0] for column in columns]
    _require_small_tree(construction, formats)
    spec: Any = {
        "names": list(names),
        "formats": formats,
        "offsets": [column[1] for column in columns],
        "titles": [column[2] for column in columns],
        "itemsize": size,
    }
    made: np.dtype[Any] = np.dtype(spec, align=bool(flags & _ALIGNED))
    return made


def _column(dtype: Any, offset: Any, title: Any = None) -> tuple[np.dtype[Any], int, str | None]:
    require(isinstance(dtype, np.dtype) and type(offset) is int)
    require(title is None or type(title) is str)
    return dtype, offset, title


def _require_small_tree(construction: Construction, dtypes: list[Any]) -> None:
    """Refuse deeply nested dtypes, which numpy visits recursively."""
    level, total = dtypes, 0
    for _ in range(_MAX_DEPTH):
        require(all(isinstance(each, np.dtype) for each in level))
        total += len(level)
        require(total <= _MAX_FIELDS)
        construction.budget.spend(len(level))
        if not level:
            return
        level = list(itertools.islice(_inner(level), _MAX_FIELDS))
    require(not level)


def _inner(dtypes: list[Any]) -> Iterator[np.dtype[Any]]:
    for dtype in dtypes:
        if dtype.subdtype:
            yield dtype.subdtype[0]
        for column in (dtype.fields or {}).values():
            yield column[0]


# ---- scalars and arrays ----


def _scalar(construction: Construction, dtype: Any, content: Any) -> Any:
    require(isinstance(dtype, np.dtype) and not dtype.subdtype)
    if dtype.hasobject:  # numpy has scalars with objects for records only
        require(issubclass(dtype.type, np.void) and type(content) is np.ndarray)
        require(content.dtype == dtype and content.shape == ())
        made = _numpy_scalar(dtype, content)
        construction.nesting.put(made, [content])
        return made
    require(type(content) is bytes and len(content) == dtype.itemsize)
    return _numpy_scalar(dtype, content)


def _reconstruct(construction: Construction, kind: Any, shape: Any, dtype: Any) -> Any:
    """Create an empty array, which `fill` completes."""
    require(isinstance(kind, type) and issubclass(kind, np.ndarray))
    require(shape == (0,) and type(dtype) in {bytes, str} and dtype in {b"b", "b"})
    array: Any = np.ndarray.__new__(kind, (0,), "b")
    construction.made[id(array)] = array
    return array


def _from_buffer(  # noqa: PLR0913 - the arguments of numpy's function
    construction: Construction,
    buffer: Any,
    dtype: Any,
    shape: Any,
    order: Any,
    axes: Any = None,
) -> Any:
    """Create an array over a buffer."""
    require(type(buffer) in {bytes, bytearray, memoryview})
    require(not _is_of_objects(dtype))
    _require_size(construction, shape, dtype, memoryview(buffer).nbytes)
    require(type(order) is str)
    if order != "K":
        require(order in {"C", "F"} and axes is None)
        return np.ndarray(shape, dtype, buffer, order=order)
    require(type(axes) is tuple and {*map(type, axes)} <= {int})
    require(sorted(axes) == [*range(len(shape))])
    return np.ndarray(shape, dtype, buffer).transpose(axes)


def fill(construction: Construction, array: Any, state: Any) -> None:
    """Set shape, dtype and contents of an array; only once, because other arrays may then use its memory.

    Raises:
        UnusualArguments: The state is inconsistent.
    """
    require(isinstance(array, np.ndarray) and array.nbytes == 0)
    del construction.made[id(array)]
    require(type(state) is tuple)
    version, shape, dtype, is_fortran, contents, *rest = state
    require(type(version) is int and type(is_fortran) is bool)
    if _is_of_objects(dtype):
        require(type(contents) is list)
        _require_size(construction, shape, dtype, len(contents) * dtype.itemsize)
        construction.budget.spend(len(contents))
        construction.nesting.limit(np.ndarray)
        construction.nesting.limit(np.void)
        construction.nesting.put(array, _objects(dtype, contents))
    else:
        require(type(contents) is bytes)
        _require_size(construction, shape, dtype, len(contents))
        construction.budget.spend(len(contents))
        contents = bytes(memoryview(contents))  # a copy: numpy would write to shared bytes
    if type(array).__setstate__ is np.ndarray.__setstate__:
        require(not rest)
    checked = (version, shape, dtype, is_fortran, contents, *rest)
    if dtype.names is None:
        array.__setstate__(checked)
    else:
        with np.errstate(all="ignore"):  # a number may be too large for its field
            array.__setstate__(checked)


def _is_of_objects(dtype: Any) -> bool:
    require(isinstance(dtype, np.dtype) and not dtype.subdtype)
    return bool(dtype.hasobject)


def _require_size(construction: Construction, shape: Any, dtype: Any, nbytes: int) -> None:
    _require_shape(shape)
    items, size = math.prod(shape), dtype.itemsize
    require(items * size == nbytes)
    if not nbytes:  # the contents do not bound the shape
        require(math.prod(filter(None, shape)) * max(size, 1) <= _MAX_BYTES)
        construction.budget.spend(items)  # items without memory still take time


def _require_shape(shape: Any) -> None:
    require(type(shape) is tuple and len(shape) <= _MAX_DIMENSIONS)
    for side in shape:
        require(type(side) is int and side >= 0)


def _objects(dtype: np.dtype[Any], items: list[Any]) -> list[Any]:
    """Return the objects in items; refuses items that numpy would convert, which calls their methods."""
    if dtype.names is None:
        return items
    return [value for item in items for value in _objects_of_record(dtype, item)]


def _objects_of_record(dtype: np.dtype[Any], item: Any) -> Iterator[Any]:
    names = dtype.names or ()
    require(type(item) is tuple and len(item) == len(names))
    for name, value in zip(names, item, strict=True):
        yield from _objects_of_field(dtype[name], value)


def _objects_of_field(dtype: np.dtype[Any], value: Any) -> Iterator[Any]:
    if dtype.names is not None:
        yield from _objects_of_record(dtype, value)
    elif dtype.subdtype:
        base, shape = dtype.subdtype
        require(type(value) is np.ndarray and value.dtype == base and value.shape == shape)
        yield value
    elif dtype.hasobject:
        yield value
    else:
        require(type(value) in _ITEMS or _is_scalar_of(dtype, value))


def _is_scalar_of(dtype: np.dtype[Any], value: Any) -> bool:
    """Tell whether a value is a scalar that numpy copies into a field without converting it."""
    kind = (dtype.kind, dtype.itemsize)
    return isinstance(value, np.generic) and kind == (value.dtype.kind, value.dtype.itemsize)


def require_no_arrays(function: Any) -> None:
    """Raise for a class of arrays, scalars or dtypes, which can interpret any memory as objects.

    Raises:
        UnusualArguments: The function is such a class.
    """
    if isinstance(function, type):
        require(not issubclass(function, np.ndarray | np.generic | np.dtype))


# ---- the table ----

_FUNCTIONS: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _from_buffer,
}
_TYPES: Final = (
    "ndarray bool bool_ object_ str_ bytes_ void datetime64 timedelta64 "
    "int8 int16 int32 int64 longlong uint8 uint16 uint32 uint64 ulonglong "
    "float16 float32 float64 longdouble complex64 complex128 clongdouble"
)
CONSTRUCTORS: Final[dict[tuple[str, str], Constructor]] = {
    ("numpy", "dtype"): Constructor(np.dtype, _dtype),
    **{("numpy", n): Constructor(getattr(np, n)) for n in _TYPES.split() if hasattr(np, n)},
    **{
        (f"{package}.{module}", name): Constructor(Function(f"{package}.{module}.{name}", call))
        for (module, name), call in _FUNCTIONS.items()
        for package in ("numpy._core", "numpy.core")  # numpy 2 and 1
    },
}
