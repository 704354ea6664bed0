"""Structural equality of values: finds the first difference and its size."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import warnings
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import CellType, CodeType, FunctionType
from typing import Any, Final

from functionfuse.comparison.libraries import (
    as_library_frame,
    frame_check,
    frame_metadata,
    library_parts,
)

__all__ = ["Equality", "Mismatch", "object_recipe", "short_repr"]

_LENGTH: Final = 70  # characters of a value in a message
#: Types without parts: `==` decides.
_PLAIN: Final = (
    *(int, float, complex, str, bytes, bytearray),
    *(type(None), range, type, CodeType),
)
_CONTAINERS: Final = (list, tuple, deque, dict, set, frozenset)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first position within two values at which they differ."""

    path: str  # like `[0].weights`; empty for the values themselves
    expected: str
    actual: str


@dataclass
class Equality:
    """Compares two values; records parts that cannot be compared."""

    rtol: float = 0.0
    atol: float = 0.0
    unknown: list[str] = field(
        default_factory=list
    )  # paths and types of parts that cannot be compared
    # values may contain themselves; by identity, with references so that ids are not reused
    _visited: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict)

    def mismatch(self, expected: Any, actual: Any, path: str = "") -> Mismatch | None:
        """The first difference, or None.

        Floats and arrays may differ by `atol + rtol * abs(expected)`; NaN equals NaN.
        Types, shapes and dtypes must be equal, the order of a dict may differ.
        """
        if expected is actual or (id(expected), id(actual)) in self._visited:
            return None
        kind = type(expected)
        if _name(kind) != _name(type(actual)):
            return Mismatch(path, _with_type(expected), _with_type(actual))
        if issubclass(kind, _PLAIN) and not _is_array(expected):
            return None if self._is_close(expected, actual) else _leaf(path, expected, actual)
        self._visited[id(expected), id(actual)] = expected, actual
        return self._parts(expected, actual, path)

    def _parts(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        """The first difference of two values of one type that have parts."""
        parts = library_parts(expected)
        if parts is not None:
            return self._attributes(parts, library_parts(actual) or {}, path)
        if isinstance(expected, _CONTAINERS):
            found = self._containers(expected, actual, path)
            return found or self._attributes(_attributes(expected), _attributes(actual), path)
        check = frame_check(expected)
        if check is not None:
            found = _unequal_frames(check, expected, actual, path)
            return found or self._attributes(frame_metadata(expected), frame_metadata(actual), path)
        if _is_array(expected):
            found = self._arrays(expected, actual, path)
            return found or self._attributes(_array_state(expected), _array_state(actual), path)
        return self._objects(expected, actual, path)

    def _containers(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        if isinstance(expected, dict):
            return self._dicts(expected, actual, path)
        if isinstance(expected, set | frozenset):
            return _sets(expected, actual, path)
        return self._sequences(expected, actual, path)

    def _is_close(self, expected: Any, actual: Any) -> bool:
        if isinstance(expected, type):
            return _name(expected) == _name(actual)
        if expected == actual or (expected != expected and actual != actual):  # noqa: PLR0124 - NaN
            return True
        if not isinstance(expected, float | complex):
            return False
        distance = abs(expected - actual)
        within: bool = distance <= self.atol + self.rtol * abs(expected) < float("inf")
        return within

    def _sequences(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        if len(expected) != len(actual):
            return Mismatch(path, _with_length(expected), _with_length(actual))
        pairs = zip(expected, actual, strict=True)
        return self._first((one, other, f"{path}[{n}]") for n, (one, other) in enumerate(pairs))

    def _dicts(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        if expected.keys() != actual.keys():
            return _sets(set(expected), set(actual), f"{path}.keys()")
        return self._first((expected[key], actual[key], f"{path}[{key!r}]") for key in expected)

    def _first(self, parts: Iterator[tuple[Any, Any, str]]) -> Mismatch | None:
        found = (self.mismatch(*part) for part in parts)
        return next((mismatch for mismatch in found if mismatch), None)

    # ---- arrays ----

    def _arrays(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        numpy = sys.modules["numpy"]
        one, other = numpy.asarray(expected), numpy.asarray(actual)
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return Mismatch(path, short_repr(one), short_repr(other))
        if isinstance(expected, numpy.ma.MaskedArray):
            hidden, also_hidden = map(numpy.ma.getmaskarray, (expected, actual))
            differs = self.mismatch(hidden, also_hidden, f"{path}.mask")
            if differs:
                return differs
            one, other = expected.filled(), actual.filled()
        if one.dtype.names:
            names = one.dtype.names
            return self._first((one[name], other[name], f"{path}[{name!r}]") for name in names)
        if one.dtype.hasobject:
            return self.mismatch(one.tolist(), other.tolist(), path)
        same = self._same_elements(numpy, one, other)
        return None if same.all() else _worst(numpy, one, other, ~same, path)

    def _same_elements(self, numpy: Any, one: Any, other: Any) -> Any:
        with numpy.errstate(all="ignore"):
            same = (one == other) | ((one != one) & (other != other))  # noqa: PLR0124 - NaN, NaT
            if one.dtype.kind in "fc":
                allowed = self.atol + self.rtol * abs(one)
                same |= (abs(one - other) <= allowed) & numpy.isfinite(allowed)
        return numpy.atleast_1d(same)

    # ---- objects ----

    def _objects(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        equal = _own_equality(expected, actual)
        if equal:
            return None
        one, other = _attributes(expected), _attributes(actual)
        if one or other:  # compared one by one, for the position and the tolerance
            found = self._attributes(one, other, path)
            if found or not _has_own_recipe(type(expected)):
                return found
        recipes = object_recipe(expected), object_recipe(actual)
        found = None
        if None not in recipes:
            found = self.mismatch(*recipes, f"{path}.__reduce__()")
            if found is None:  # NaN of any type is not equal to itself
                return None
        if equal is not None:
            return _leaf(path, expected, actual)
        if found is not None:
            return found
        self.unknown.append(f"{path or 'it'} is a {_name(type(expected))}")
        return None

    def _attributes(self, one: dict[str, Any], other: dict[str, Any], path: str) -> Mismatch | None:
        if one.keys() != other.keys():
            return _sets(set(one), set(other), f"the attributes of {path or 'it'}")
        return self._first((one[name], other[name], f"{path}.{name}") for name in one)


def _has_own_recipe(kind: type) -> bool:
    """Whether objects of a type may have more state than their attributes, as those of `random.Random`."""
    if issubclass(kind, BaseException):  # their recipe has the notes, too
        return False
    return getattr(kind, "__reduce__") is not object.__reduce__  # noqa: B009 - mypy


def _own_equality(expected: Any, actual: Any) -> bool | None:
    """The result of `==`; None if the type does not define it, or if it returns no truth value."""
    if getattr(type(expected), "__eq__") is object.__eq__:  # noqa: B009 - mypy
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            equal = expected == actual
    except Exception:  # noqa: BLE001 - classes of the user raise any exception
        return None
    # not bool(): of an xarray.Dataset it says that there are variables
    return bool(equal) if type(equal).__name__ in {"bool", "bool_"} else None


def object_recipe(value: Any) -> list[Any] | None:
    """The reduced value, as for pickle; None if it cannot be reduced."""
    try:
        recipe = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - classes of the user raise any exception
        return None
    return [list(part) if isinstance(part, Iterator) else part for part in recipe]


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of a value, by name."""
    if isinstance(value, BaseException):
        # notes say where a run failed: they name the workflow and the node
        own = {k: part for k, part in vars(value).items() if k not in {"args", "__notes__"}}
        return {"args": value.args, **own}
    if isinstance(value, FunctionType):
        named = ("__code__", "__defaults__", "__kwdefaults__")
        cells = [_contents(cell) for cell in value.__closure__ or ()]
        return {**{name: getattr(value, name) for name in named}, "closure": cells}
    if isinstance(value, deque):
        return {"maxlen": value.maxlen, **getattr(value, "__dict__", {})}
    if isinstance(value, defaultdict):
        return {"default_factory": value.default_factory, **getattr(value, "__dict__", {})}
    if dataclasses.is_dataclass(value):
        names = [each.name for each in dataclasses.fields(value)]
    else:
        slots = [kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__]
        names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    names += list(getattr(value, "__dict__", {}))
    hidden = {"__dict__", "__weakref__", *_cached_properties(type(value))}
    given = [name for name in names if name not in hidden and hasattr(value, name)]
    return {name: getattr(value, name) for name in given}


def _cached_properties(kind: type) -> Iterator[str]:
    """The names of attributes that are computed from the others when they are first read."""
    for base in kind.__mro__:
        yield from (name for name, each in vars(base).items() if isinstance(each, cached_property))


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty: the enclosing function never assigned the name
        return None


# ---- arrays and frames, whose libraries are never imported here ----


def _is_array(value: Any) -> bool:
    """Whether numpy can convert a value: arrays and scalars, tensors and the like."""
    return "numpy" in sys.modules and hasattr(type(value), "__array__")


def _worst(numpy: Any, one: Any, other: Any, differs: Any, path: str) -> Mismatch:
    """Describe the difference of two arrays."""
    one, other = numpy.atleast_1d(one), numpy.atleast_1d(other)
    count, size = int(differs.sum()), differs.size
    first = tuple(int(each) for each in numpy.unravel_index(int(differs.argmax()), differs.shape))
    text = f"{count} of {size} elements differ"
    if one.dtype.kind in "iufc":
        with numpy.errstate(all="ignore"):
            kind = numpy.complex128 if one.dtype.kind == "c" else numpy.float64
            distances = abs(one.astype(kind) - other.astype(kind))[differs]
        text += f", by at most {numpy.nanmax(distances):.3g}" if distances.size else ""
    where = f"{path}[{', '.join(map(str, first))}]"
    return Mismatch(where, _element(one[first]), f"{_element(other[first])} ({text})")


def _element(value: Any) -> str:
    return repr(value.item() if hasattr(value, "item") else value)  # StringDType: a str or NaN


def _array_state(value: Any) -> dict[str, Any]:
    """The user's attributes of an array of a subclass; those of numpy's own begin with `_`."""
    own = getattr(value, "__dict__", {})
    return {name: part for name, part in own.items() if not name.startswith("_")}


def _unequal_frames(check: Any, expected: Any, actual: Any, path: str) -> Mismatch | None:
    if type(expected) is not type(actual):  # of one name: each process made its own
        expected, actual = as_library_frame(expected), as_library_frame(actual)
    options = {"exact": True} if "index" in check.__name__ else {"check_exact": True}
    try:
        check(expected, actual, **options)
    except AssertionError as error:
        return Mismatch(path, short_repr(expected), " ".join(str(error).split()))
    return None


# ---- texts ----


def _leaf(path: str, expected: Any, actual: Any) -> Mismatch:
    return Mismatch(path, short_repr(expected), short_repr(actual))


def _sets(expected: Any, actual: Any, path: str) -> Mismatch | None:
    if expected == actual:
        return None
    missing, surplus = expected - actual, actual - expected
    if all(part != part for part in (*missing, *surplus)) and len(missing) == len(surplus):  # noqa: PLR0124 - NaN
        return None
    return Mismatch(path, f"with {short_repr(missing)}", f"with {short_repr(surplus)} instead")


def _with_type(value: Any) -> str:
    return f"{short_repr(value)} ({_name(type(value))})"


def _with_length(value: Any) -> str:
    return f"{short_repr(value)} ({len(value)} items)"


def _name(kind: type) -> str:
    """The name of a type, by which types are compared: a local class may be unpickled as another object."""
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    # cloudpickle creates a local class again without the scope in its name
    return f"{module}{kind.__qualname__.rpartition('<locals>.')[2]}"


def short_repr(value: Any) -> str:
    """The `repr` of a value, shortened to one line."""
    if _is_array(value) and getattr(value, "shape", None):
        dtype = f" and dtype {value.dtype}" if hasattr(value, "dtype") else ""
        return f"{type(value).__name__} of shape {tuple(value.shape)}{dtype}"
    short = _Repr()
    short.maxstring = short.maxother = short.maxlong = _LENGTH
    text = " ".join(short.repr(value).split())
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."


class _Repr(reprlib.Repr):
    """Also of numbers with more digits than Python converts to text."""

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:
            return f"<int of {x.bit_length()} bits>"
