"""Parts of objects by type, as pickle would send them, without calls of users' code."""

from __future__ import annotations

import dis
import gc
from collections import deque
from enum import Enum
from functools import lru_cache, partial
from itertools import chain, islice
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.containers import splitter
from functionfuse._graph.nodes import ATOMS
from functionfuse._graph.objects import attributes_of
from functionfuse._graph.placeholder import Placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Label = str | tuple[type, Sequence[Any], int]  # the latter are arguments of `part_label`
    Parts = Iterable[tuple[Label, Any]]

__all__ = ["parts_function"]

_MAX_ITEMS: Final = 10_000  # of one container, array or column


@lru_cache(maxsize=4096)
def parts_function(kind: type) -> Callable[[Any], Parts] | None:
    """Return the function that yields the parts of objects of a type, with labels; None if they have none."""
    if kind in ATOMS or _OPAQUE_TYPES.intersection(kind.__mro__) or _is_opaque(kind):
        return None
    for base in kind.__mro__:
        known = _PARTS.get(base) or _LIBRARY_PARTS.get((_library(base), base.__name__))
        if known is not None:
            return known
        if splitter(base) is not None:
            return partial(_container_parts, base)
    has_attributes = kind.__dictoffset__ or any("__slots__" in vars(base) for base in kind.__mro__)
    return _attributes if has_attributes else _referents


def _library(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _is_opaque(kind: type) -> bool:
    return _library(kind) in _OPAQUE_MODULES and not str(kind.__module__).startswith(_TESTING)


def _attributes(value: Any) -> Parts:
    return [(f"attribute {name!r}", part) for name, part in attributes_of(value).items()]


def _exception_parts(error: BaseException) -> Iterator[tuple[Label, Any]]:
    yield from ((f"argument {number}", part) for number, part in enumerate(error.args))
    yield from _attributes(error)


def _container_parts(base: type, value: Any) -> Iterator[tuple[Label, Any]]:
    parts = _first_parts(base, value)
    if not ATOMS.issuperset(map(type, parts)):
        for number, part in enumerate(parts):
            if type(part) not in ATOMS:
                yield (base, parts, number), part
    if type(value) is not base:
        yield from _attributes(value)


def _first_parts(base: Any, value: Any) -> list[Any]:
    """The first parts of a container, by the methods of the standard class."""
    if base in _SEQUENCES:
        return [*islice(base.__iter__(value), _MAX_ITEMS)]
    if issubclass(base, dict):
        return [*islice(chain.from_iterable(base.items(value)), 2 * _MAX_ITEMS)]
    split = splitter(base)
    assert split is not None
    return split(value)[1]


def _referents(value: Any) -> Parts:
    """The parts of an object of an extension module, which names none of them."""
    return [(f"a part of the {type(value).__name__}", part) for part in gc.get_referents(value)]


# ---- functions ----


def _function_parts(function: FunctionType) -> Iterator[tuple[Label, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        for content in gc.get_referents(cell):  # an empty cell has none
            yield f"variable {name!r}", content
    yield from (
        (f"default {number}", part) for number, part in enumerate(function.__defaults__ or ())
    )
    yield from (
        (f"default {name!r}", part) for name, part in (function.__kwdefaults__ or {}).items()
    )
    yield from ((f"attribute {name!r}", part) for name, part in vars(function).items())
    for name in code.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, Placeholder) and _reads_global(function, name):
            yield f"global variable {name!r}", value


def _reads_global(function: FunctionType, name: str) -> bool:
    """Distinguish a global variable from an attribute of the same name."""
    return any(
        instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"} and instruction.argval == name
        for instruction in dis.get_instructions(function)
    )


def _partial_parts(value: partial[Any]) -> Iterator[tuple[Label, Any]]:
    yield "function", value.func
    yield from ((f"positional argument {number}", part) for number, part in enumerate(value.args))
    yield from ((f"keyword argument {name!r}", part) for name, part in value.keywords.items())
    yield from _attributes(value) if type(value) is not partial else ()


# ---- arrays and tables: of libraries that are not imported here ----


def _array_parts(array: Any) -> Iterator[tuple[Label, Any]]:
    if not array.dtype.hasobject:
        return
    if array.dtype.names:
        for name in array.dtype.names:
            yield f"field {name!r}", array[name]
        return
    shape = array.shape
    for number, part in enumerate(islice(array.flat, _MAX_ITEMS)):
        if type(part) not in ATOMS:
            place = number if len(shape) == 1 else _place(number, shape)
            yield f"item {place}", part


def _place(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    place: list[int] = []
    for length in reversed(shape):
        number, index = divmod(number, length)
        place.append(index)
    return tuple(reversed(place))


def _frame_parts(frame: Any) -> Iterator[tuple[Label, Any]]:
    """The values of columns of objects, and labels; of pandas."""
    for number, dtype in enumerate(frame.dtypes):
        if dtype == _OBJECT:
            name = frame.columns[number]
            yield from _rows(f"column {name!r}, ", frame.iloc[:, number].to_numpy())
        elif hasattr(dtype, "categories"):
            yield f"column {frame.columns[number]!r}, categories", dtype.categories
    yield "columns", frame.columns
    yield from _labelled_parts(frame)


def _series_parts(series: Any) -> Iterator[tuple[Label, Any]]:
    if series.dtype == _OBJECT:
        yield from _rows("", series.to_numpy())
    yield from _categories(series)
    yield from _labelled_parts(series)


def _labelled_parts(value: Any) -> Iterator[tuple[Label, Any]]:
    """The index and the attributes of a frame or series, also those that a subclass lists for pandas."""
    yield "index", value.index
    yield "attrs", value.attrs
    for name in getattr(value, "_metadata", ()):
        yield f"attribute {name!r}", getattr(value, name, None)


def _categories(values: Any) -> Iterator[tuple[Label, Any]]:
    if hasattr(values.dtype, "categories"):
        yield "categories", values.dtype.categories


def _rows(column: str, values: Iterable[Any]) -> Iterator[tuple[Label, Any]]:
    for row, value in enumerate(islice(values, _MAX_ITEMS)):
        if type(value) not in ATOMS:
            yield f"{column}row {row}", value


def _index_parts(index: Any) -> Iterator[tuple[Label, Any]]:
    if index.dtype == _OBJECT:
        yield from (
            (f"label {number}", part)
            for number, part in enumerate(islice(index.to_numpy(), _MAX_ITEMS))
        )
    yield from _categories(index)


def _polars_frame_parts(frame: Any) -> Iterator[tuple[Label, Any]]:
    for name, dtype in frame.schema.items():
        if str(dtype) == "Object":
            yield from _rows(f"column {name!r}, ", frame[name])


def _polars_series_parts(series: Any) -> Iterator[tuple[Label, Any]]:
    if str(series.dtype) == "Object":
        yield from _rows("", series)


_OBJECT: Final = "object"  # a dtype
_LIBRARY_PARTS: Final[dict[tuple[str, str], Callable[[Any], Parts]]] = {
    ("numpy", "ndarray"): _array_parts,
    ("pandas", "DataFrame"): _frame_parts,
    ("pandas", "Series"): _series_parts,
    ("pandas", "Index"): _index_parts,
    ("polars", "DataFrame"): _polars_frame_parts,
    ("polars", "Series"): _polars_series_parts,
}
_PARTS: Final[dict[type, Callable[[Any], Parts]]] = {
    BaseException: _exception_parts,
    FunctionType: _function_parts,
    MethodType: lambda method: [("instance", method.__self__), ("function", method.__func__)],
    partial: _partial_parts,
}
#: Types whose objects are pickled by name, or not at all.
_OPAQUE_TYPES: Final = frozenset({type, ModuleType, CodeType, FrameType, TracebackType, Enum})
_SEQUENCES: Final = frozenset({list, tuple, set, frozenset, deque})
_TESTING: Final = "functionfuse.testing."  # values of the conformance suite are like users' own
#: Modules whose objects hold no values of users, or refer to large parts of the process.
_OPAQUE_MODULES: Final = frozenset(
    {
        *("functionfuse", "_thread", "threading", "logging", "asyncio", "concurrent", "weakref"),
        *(
            "multiprocessing",
            "subprocess",
            "socket",
            "ssl",
            "sqlite3",
            "contextvars",
            "_contextvars",
        ),
        *(
            "datetime",
            "decimal",
            "fractions",
            "pathlib",
            "uuid",
            "zoneinfo",
            "re",
            "enum",
            "random",
        ),
        *("io", "_io", "code", "inspect", "typing", "importlib", "_frozen_importlib", "ctypes"),
    }
)
