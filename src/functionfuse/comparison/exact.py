"""Exact equality of a value and its copy: also signs of zeros, orders, flags of arrays, and sharing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any, Final

from functionfuse.comparison.equality import Equality, Mismatch, object_recipe

__all__ = ["ExactEquality", "difference"]

#: Types for which it makes no difference whether two references refer to one object.
_UNSHARED: Final = (type, FunctionType, ModuleType, Enum)
_MUTABLE: Final = (list, dict, set, bytearray)


def difference(expected: Any, actual: Any, *, ignore_writeable: bool = False) -> str:
    """The first difference of a value and its copy, with its position; empty if there is none.

    Args:
        expected: The value.
        actual: The supposed exact copy of it, or the value itself.
        ignore_writeable: Arrays and memory views may be read-only in the copy.
    """
    equality = ExactEquality(ignore_writeable=ignore_writeable)
    found = equality.mismatch(expected, actual)
    if found is not None:
        return f"{found.path or 'it'} is {found.actual} instead of {found.expected}"
    return "; ".join(equality.unknown)


@dataclass
class ExactEquality(Equality):
    """Equality that also distinguishes values that are equal by `==` of Python's and numpy's types.

    A view that is not contiguous may become contiguous and writeable.
    """

    ignore_writeable: bool = False
    #: By side and id: an object, its counterpart in the other value, and the path to it.
    _shared: dict[tuple[str, int], tuple[Any, Any, str]] = field(default_factory=dict)

    def mismatch(self, expected: Any, actual: Any, path: str = "") -> Mismatch | None:
        """The first difference, or None."""
        found = self._sharing(expected, actual, path)
        if found is not None or expected is actual:
            return found
        known = (id(expected), id(actual)) in self._visited
        found = super().mismatch(expected, actual, path)
        return found if found is not None or known else self._details(expected, actual, path)

    def _sharing(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        """The difference in sharing: references to one object must be references to one object in the copy."""
        if not _is_mutable(expected):
            return None
        pairs = ("expected", expected, actual), ("actual", actual, expected)
        for side, one, other in pairs:
            _, partner, first = self._shared.setdefault((side, id(one)), (one, other, path))
            if partner is not other:
                text = f"the same object as {first or 'the value'}", "another object"
                return Mismatch(path, *(text if side == "expected" else reversed(text)))
        return None

    def _details(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        """The first difference of two equal values in a detail that equality ignores."""
        if type(expected) in {float, complex} and repr(expected) != repr(actual):
            return Mismatch(path, repr(expected), repr(actual))
        if isinstance(expected, dict):
            return super().mismatch(list(expected), list(actual), f"{path}.keys()")
        if hasattr(expected, "flags") and hasattr(expected, "strides"):
            return self._array_details(expected, actual, path)
        if isinstance(expected, memoryview):
            names = ["format", "shape", *["readonly"] * (not self.ignore_writeable)]
            return self._compare_attributes(names, expected, actual, path)
        if hasattr(expected, "is_quantized") and str(expected.layout) == "torch.strided":
            return self.mismatch(expected.stride(), actual.stride(), f"{path}.stride()")
        return self._notes(expected, actual, path) if isinstance(expected, BaseException) else None

    def _notes(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        one, other = (getattr(error, "__notes__", None) for error in (expected, actual))
        return self.mismatch(one, other, f"{path}.__notes__")

    def _array_details(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        names = ["fill_value"] if hasattr(expected, "fill_value") else []
        found = self._compare_attributes(names, expected, actual, path)
        one, other = expected.flags, actual.flags
        if found or not (one.c_contiguous or one.f_contiguous):
            return found
        flags = ["c_contiguous", "f_contiguous", *["writeable"] * (not self.ignore_writeable)]
        return self._compare_attributes(flags, one, other, f"{path}.flags")

    def _compare_attributes(self, names: Any, one: Any, other: Any, path: str) -> Mismatch | None:
        return self._first(
            (getattr(one, name), getattr(other, name), f"{path}.{name}") for name in names
        )

    def _objects(self, expected: Any, actual: Any, path: str) -> Mismatch | None:
        found = super()._objects(expected, actual, path)
        if found is not None or isinstance(expected, (*_UNSHARED, BaseException)):
            return found
        # an == may ignore a time zone, trailing zeros, or an order
        recipes = object_recipe(expected), object_recipe(actual)
        return None if None in recipes else self.mismatch(*recipes, f"{path}.__reduce__()")

    def _same_elements(self, numpy: Any, one: Any, other: Any) -> Any:
        same = super()._same_elements(numpy, one, other)
        if one.dtype.kind == "f":
            same &= (numpy.signbit(one) == numpy.signbit(other)) | (one != one)  # noqa: PLR0124 - NaN
        elif one.dtype.kind == "c":
            for part in ("real", "imag"):
                same &= self._same_elements(numpy, getattr(one, part), getattr(other, part))
        return same


def _is_mutable(value: Any) -> bool:
    if isinstance(value, _UNSHARED):
        return False
    return isinstance(value, _MUTABLE) or hasattr(value, "__dict__") or hasattr(value, "__array__")
