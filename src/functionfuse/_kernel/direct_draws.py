"""Search of a node's function for functions of `random` in C that it holds by name: calls of them cannot be checked.

These are `random` and `getrandbits`, as imported by `from random import random`.
"""

from __future__ import annotations

import sysconfig
from collections import deque
from functools import lru_cache, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from functionfuse._kernel.shared_generators import GENERATOR, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["refuse_direct_draws"]

_MAX_OBJECTS: Final = 1_000  # that are searched
_LIBRARIES: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(__file__).parent)}  # the guard's functions
)


def refuse_direct_draws(node: str, func: Any) -> None:
    """Raise if a function, or a function of the project that it uses, holds such a function of `random`.

    Raises:
        SeedError: Names the node.
    """
    try:
        held = _holds_primitive(func)
    except TypeError:  # not hashable
        held = _search(func)
    if held:
        raise refuse(node, "random")


def _search(func: Any) -> bool:
    waiting = deque([func])
    seen: dict[int, Any] = {}
    while waiting and len(seen) < _MAX_OBJECTS:
        value = waiting.popleft()
        if type(value) is BuiltinFunctionType and value.__self__ is GENERATOR:
            return True
        if id(value) not in seen:
            seen[id(value)] = value
            waiting.extend(_parts(value))
    return False


_holds_primitive: Final = lru_cache(maxsize=1024)(_search)


def _parts(value: Any) -> Iterable[Any]:
    """What a callable uses, if it is the user's."""
    if isinstance(value, FunctionType):
        return () if _is_in_library(value.__code__.co_filename) else _used_by(value)
    if isinstance(value, MethodType):
        return (value.__func__,)
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, type):
        return vars(value).values()
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    return (getattr(value, "__wrapped__", None),)


def _is_in_library(file: str) -> bool:
    return not file or file.startswith(_LIBRARIES)


def _used_by(function: FunctionType) -> Iterator[Any]:
    names = set(_names(function.__code__))
    modules: list[ModuleType] = []
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            if not _is_in_library(getattr(value, "__file__", None) or ""):
                modules.append(value)
        else:
            yield value
    for module in modules:  # `helpers.draw`; functions of C modules are called by their attribute
        held = vars(module)
        yield from (held[name] for name in names & held.keys() if _is_python_callable(held[name]))
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # empty
            continue
    yield getattr(function, "__wrapped__", None)


def _is_python_callable(value: Any) -> bool:
    return isinstance(value, FunctionType | type)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
