"""Structural equality of values: finds the first difference and its size."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any, Final

__all__ = ["Equality", "Mismatch", "short_repr"]

_LENGTH: Final = 70  # characters of a value in a message
#: Types without parts: `==` decides.
_PLAIN: Final = (
    *(int, float, complex, str, bytes, bytearray),
    *(type(None), range, type, CodeType),
)


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

    def mismatch(self, expected: Any, actual: Any, path: str = "") -> Mismatch | None:  # noqa: PLR0911
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
        if issubclass(kind, list | tuple):
            return self._sequences(expected, actual, path)
        if issubclass(kind, dict):
            return self._dicts(expected, actual, path)
        if issubclass(kind, set | frozenset):
            return _sets(expected, actual, path)
        frames = _frames(expected)
        if frames is not None:
            return _unequal_frames(frames, expected, actual, path)
        if _is_array(expected):
            return self._arrays(expected, actual, path)
        return self._objects(expected, actual, path)

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
        if one.dtype.names:
            names = one.dtype.names
            return self._first((one[name], other[name], f"{path}[{name!r}]") for name in names)
        if one.dtype.hasobject:
            return self.mismatch(one.tolist(), other.tolist(), path)
        masks = getattr(expected, "mask", None), getattr(actual, "mask", None)
        if masks[0] is not None:
            hidden, also_hidden = map(numpy.asarray, masks)
            differs = self.mismatch(hidden, also_hidden, f"{path}.mask")
            if differs:
                return differs
            one, other = expected.filled(), actual.filled()
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
            differs = self._attributes(one, other, path)
            if differs or equal is not None or not _has_hidden_state(expected):
                return differs
        if equal is not None:
            return _leaf(path, expected, actual)
        recipes = _recipe(expected), _recipe(actual)
        if None not in recipes:
            return self.mismatch(*recipes, f"{path}.__reduce__()")
        self.unknown.append(f"{path or 'it'} is a {_name(type(expected))}")
        return None

    def _attributes(self, one: dict[str, Any], other: dict[str, Any], path: str) -> Mismatch | None:
        if one.keys() != other.keys():
            return _sets(set(one), set(other), f"the attributes of {path or 'it'}")
        return self._first((one[name], other[name], f"{path}.{name}") for name in one)


def _own_equality(expected: Any, actual: Any) -> bool | None:
    """The result of `==`; None if the type does not define it, or if it returns no truth value."""
    if getattr(type(expected), "__eq__") is object.__eq__:  # noqa: B009 - mypy
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(expected == actual)
    except Exception:  # noqa: BLE001 - classes of the user raise any exception
        return None


def _has_hidden_state(value: Any) -> bool:
    """Tell whether a value has more than attributes, as `random.Random` does: its class says how it is reduced."""
    reduce = getattr(type(value), "__reduce__")  # noqa: B009 - mypy
    return reduce is not object.__reduce__ and not isinstance(value, BaseException)


def _recipe(value: Any) -> list[Any] | None:
    """The reduced value, as for pickle; None if it cannot be reduced."""
    try:
        recipe = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - classes of the user raise any exception
        return None
    return [list(part) if isinstance(part, Iterator) else part for part in recipe]


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of a value, by name."""
    if isinstance(value, BaseException):
        return {"args": value.args}
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return {"__code__": value.__code__, "__defaults__": value.__defaults__, "closure": cells}
    if dataclasses.is_dataclass(value):
        names = [each.name for each in dataclasses.fields(value)]
    else:
        slots = [kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__]
        names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    names += list(getattr(value, "__dict__", {}))
    hidden = {"__dict__", "__weakref__"}
    given = [name for name in names if name not in hidden and hasattr(value, name)]
    return {name: getattr(value, name) for name in given}


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
    return Mismatch(where, repr(one[first].item()), f"{other[first].item()!r} ({text})")


def _frames(value: Any) -> Any:
    """The library's function that compares two frames, series or indexes; None for other values."""
    library, name = type(value).__module__.partition(".")[0], type(value).__name__
    if library not in {"pandas", "polars"}:
        return None
    kinds = {"DataFrame": "frame", "LazyFrame": "frame", "Series": "series"}
    kind = kinds.get(name, "index" if name.endswith("Index") else "")
    testing = __import__(f"{library}.testing", fromlist=["testing"])
    return getattr(testing, f"assert_{kind}_equal", None)


def _unequal_frames(check: Any, expected: Any, actual: Any, path: str) -> Mismatch | None:
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
    return Mismatch(path, f"with {short_repr(missing)}", f"with {short_repr(surplus)} instead")


def _with_type(value: Any) -> str:
    return f"{short_repr(value)} ({_name(type(value))})"


def _with_length(value: Any) -> str:
    return f"{short_repr(value)} ({len(value)} items)"


def _name(kind: type) -> str:
    """The name of a type, by which types are compared: a local class may be unpickled as another object."""
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def short_repr(value: Any) -> str:
    """The `repr` of a value, shortened to one line."""
    if _is_array(value) and getattr(value, "shape", None):
        dtype = f" and dtype {value.dtype}" if hasattr(value, "dtype") else ""
        return f"{type(value).__name__} of shape {tuple(value.shape)}{dtype}"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _LENGTH
    text = " ".join(short.repr(value).split())
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."
