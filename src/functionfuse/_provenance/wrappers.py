"""Callables and descriptors that hold functions: what is in them."""

from __future__ import annotations

import functools
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from functionfuse._provenance.code_names import function_name

__all__ = ["attributes_of", "held_by_foreign_function", "held_by_wrapper"]

_HELD: Final[dict[type, tuple[str, ...]]] = {
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    functools.cached_property: ("func",),
    functools.singledispatchmethod: ("func", "dispatcher"),
    functools.partialmethod: ("func", "args", "keywords"),
    functools.partial: ("func", "args", "keywords"),
    MethodType: ("__func__", "__self__"),
}
_PLAIN: Final = (int, float, complex, str, bytes, bool)


def held_by_wrapper(value: Any, *, is_project: bool) -> list[tuple[str, Any]] | None:
    """Return what a wrapper holds, by attribute; None for values that are not wrappers.

    Args:
        value: Any object that is neither a function nor a class.
        is_project: Its type is the user's own, so that all of its attributes count.
    """
    for kind, names in _HELD.items():
        if issubclass(type(value), kind):
            return [(name, held) for name in names if (held := getattr(value, name)) is not None]
    if issubclass(type(value), BuiltinFunctionType):
        owner = value.__self__
        return None if _is_namespace(owner) else [("__self__", owner)]
    wrapped = attributes_of(value).get("__wrapped__")
    return None if is_project or wrapped is None else [("__wrapped__", wrapped)]


def held_by_foreign_function(function: FunctionType) -> list[tuple[str, Any]]:
    """Return what may be of the project in a function that another library made, as its decorators do."""
    attributes = attributes_of(function)
    held = [("__wrapped__", attributes["__wrapped__"])] if "__wrapped__" in attributes else []
    if function.__globals__.get("__name__") == "functools":  # its other cells are caches
        registry = attributes.get("registry", {})
        return [*held, *((f"registry {function_name(kind)}", registry[kind]) for kind in registry)]
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        value = contents_of(cell)
        if callable(value) or issubclass(type(value), _PLAIN):
            held.append((name, value))
    return held


def contents_of(cell: Any) -> Any:
    """The value in a cell of a closure; None if it has none yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of an object; its own `__getattribute__`, which may load something, is not called."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_namespace(owner: Any) -> bool:
    return owner is None or issubclass(type(owner), ModuleType | type)
