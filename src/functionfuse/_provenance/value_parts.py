"""Parts of values of standard types that pickle refuses, or takes apart differently in each version of Python."""

from __future__ import annotations

import functools
import mmap
import re
from array import array
from collections.abc import ItemsView, KeysView, ValuesView
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from types import BuiltinFunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from functionfuse._common.global_references import reduce_generator
from functionfuse._graph.decorators import undecorated
from functionfuse._graph.placeholder import Placeholder
from functionfuse._provenance.code_names import module_name
from functionfuse._provenance.library_parts import library_parts
from functionfuse._provenance.raw_parts import Raw, Undigestible, hash_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._provenance.raw_parts import Parts

__all__ = ["parts_of"]


@lru_cache(maxsize=4096)
def parts_of(kind: type) -> Callable[[Any], Parts] | None:
    """Return the function that takes values of a type apart; None for types that pickle takes apart."""
    if (kind.__module__, kind.__qualname__) in _GENERATORS:
        return _generator
    for base in kind.__mro__:
        known = _PARTS.get(base) or library_parts(base)
        if known is not None:
            return known
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and not kind.__dictoffset__:
        return _named_tuple
    return _by_wrapped if (kind.__module__, kind.__name__) in _DECORATED else None


def _atoms(*atoms: Any) -> Parts:
    return atoms, (), ()


def _named(header: tuple[Any, ...], parts: dict[str, Any]) -> Parts:
    return (*header, *parts), [f".{name}" for name in parts], [*parts.values()]


def _named_tuple(value: Any) -> Parts:
    fields = type(value)._fields
    return ("named tuple", *fields), [f".{name}" for name in fields], [*value]


def _method(value: MethodType) -> Parts:
    return ("method",), (".__self__", ""), (value.__self__, value.__func__)


def _builtin_method(value: Any) -> Parts:
    """A function of an extension module, or a method of an object: of a shared random generator by its name."""
    owner = value.__self__
    if owner is None or type(owner) is ModuleType:
        return _atoms("builtin", getattr(value, "__module__", None) or "", value.__qualname__)
    shared = reduce_generator(owner)
    if shared is not None:
        return ("shared generator", value.__name__), ("", ""), (shared[0], *shared[1])
    return ("builtin method", value.__name__), (".__self__",), (owner,)


def _generator(value: Any) -> Parts:
    """A random generator by its state; the shared one of a library by its name."""
    shared = reduce_generator(value)
    if shared is not None:
        return ("shared generator",), ("", ""), (shared[0], *shared[1])
    function, arguments, *state = value.__reduce__()
    return ("generator",), ("", "", ""), (function, arguments, state)


def _bytes(value: bytearray) -> Parts:
    return (len(value),), ("",), (Raw(hash_bytes(value)),)


def _memory(value: Any) -> Parts:
    """A memoryview or array of numbers: its format, shape and contents."""
    view: Any = memoryview(value)
    data = view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
    return (view.format, view.shape), ("",), (Raw(hash_bytes(data)),)


def _lru_cache_wrapper(value: Any) -> Parts:
    parameters = value.cache_parameters()
    return ("cached", parameters["maxsize"], parameters["typed"]), ("",), (value.__wrapped__,)


def _node(value: Any) -> Parts:
    message = f"the node {value!r}"
    raise Undigestible(message)


def _partial(value: Any) -> Parts:
    labels = [
        "",
        *[f".args[{number}]" for number in range(len(value.args))],
        *[f".keywords[{name!r}]" for name in value.keywords],
        ".__dict__",
    ]
    parts = [value.func, *value.args, *value.keywords.values(), vars(value)]
    return ("partial", len(value.args), *value.keywords), labels, parts


def _items(value: Any) -> Parts:
    return ("items",), ("",), ([*value],)


def _zone(value: ZoneInfo) -> Parts:
    if value.key is None:
        message = "a time zone without a key"
        raise Undigestible(message)
    return _atoms("zone", value.key)


def _enum(value: Any) -> Parts:
    return ("enum", value._name_), (".value",), (value._value_,)


def _exception(value: BaseException) -> Parts:
    """An exception without its traceback; libraries register functions that pickle exceptions with it."""
    names = sorted(name for name in vars(value) if isinstance(name, str))
    labels = [".args", *(f".{name}" for name in names)]
    return ("exception", *names), labels, [value.args, *(vars(value)[name] for name in names)]


def _by_wrapped(value: Any) -> Parts:
    return ("decorated",), ("",), (undecorated(value),)


_EMPTY: Final[dict[Any, Any]] = {}
_VIEWS: Final = (
    *map(type, (_EMPTY.keys(), _EMPTY.values(), _EMPTY.items())),
    *(KeysView, ValuesView, ItemsView),
)
#: Standard types by class; subclasses have the same parts, with their own names.
_PARTS: Final[dict[type, Callable[[Any], Parts]]] = {
    Enum: _enum,
    BaseException: _exception,
    PurePath: lambda value: _atoms("path", str(value)),
    Decimal: lambda value: _atoms("decimal", str(value)),
    Fraction: lambda value: _atoms("fraction", value.numerator, value.denominator),
    ZoneInfo: _zone,
    UUID: lambda value: _atoms("uuid", value.int),
    re.Pattern: lambda value: _atoms("pattern", value.pattern, value.flags),
    slice: lambda value: _named(
        ("slice",), {"start": value.start, "stop": value.stop, "step": value.step}
    ),
    ModuleType: lambda value: _atoms("module", module_name(value.__name__)),
    MethodType: _method,
    BuiltinFunctionType: _builtin_method,
    MappingProxyType: lambda value: (("proxy",), ("",), (dict(value),)),
    **dict.fromkeys(_VIEWS, _items),
    bytearray: _bytes,
    memoryview: _memory,
    array: _memory,
    mmap.mmap: _memory,
    functools.partial: _partial,
    functools.cached_property: lambda value: (("cached property",), ("",), (value.func,)),
    type(vars(dict)["fromkeys"]): lambda value: (
        ("class method", value.__name__),
        ("",),
        (value.__objclass__,),
    ),
    property: lambda value: (
        ("property",),
        (".fget", ".fset", ".fdel"),
        (value.fget, value.fset, value.fdel),
    ),
    staticmethod: lambda value: (("static method",), ("",), (value.__func__,)),
    classmethod: lambda value: (("class method",), ("",), (value.__func__,)),
    type(lru_cache(lambda: None)): _lru_cache_wrapper,
    Placeholder: _node,
}
#: Types of which libraries share an object, whose state differs in each process.
_GENERATORS: Final = frozenset({("random", "Random"), ("numpy.random.mtrand", "RandomState")})
_DECORATED: Final = frozenset(
    {
        ("functionfuse._graph.decorators", "WorkflowFunction"),
        ("functionfuse._graph.decorators", "WorkflowClass"),
    }
)
