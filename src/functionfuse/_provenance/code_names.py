"""Stable names of functions, classes and modules: a script is named after its file."""

from __future__ import annotations

import functools
import sys
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any, Final

from functionfuse._graph.decorators import undecorated

__all__ = ["code_name", "function_name", "module_name", "module_of", "name_parts"]

SCRIPTS: Final = frozenset({"__main__", "__mp_main__"})


def function_name(function: Any) -> str:
    """The qualified name of a callable with its module, the same in a script and in an import of it."""
    return _joined(*name_parts(function))


def name_parts(function: Any) -> tuple[str, str]:
    """The module of a callable, and its qualified name in the module."""
    function = undecorated(function)
    while isinstance(function, functools.partial | MethodType):
        inner = function.func if isinstance(function, functools.partial) else function.__func__
        function = undecorated(inner)
    named = function if isinstance(getattr(function, "__qualname__", None), str) else type(function)
    owner = getattr(named, "__objclass__", named)  # of `str.upper`
    module = getattr(owner, "__module__", None)
    return module_name(module if isinstance(module, str) else None), named.__qualname__


def code_name(function: FunctionType) -> str:
    """The qualified name of a function's own code: a wrapper is not named after what it wraps."""
    space = function.__globals__
    name = space.get("__name__")
    if name not in SCRIPTS:
        return _joined(module_name(name), function.__code__.co_qualname)
    file = space.get("__file__")  # not that of `sys.modules`: `runpy.run_path`
    script = (
        PurePath(file).stem if isinstance(file, str) and not _spec_name() else module_name(name)
    )
    return _joined(script, function.__code__.co_qualname)


def module_name(name: str | None) -> str:
    """The name of a module; of `__main__`, the name that an import of the same file has."""
    if name not in SCRIPTS:
        return name or ""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return _spec_name() or (PurePath(file).stem if isinstance(file, str) else "__main__")


def module_of(kind: type) -> str:
    """The name of the module of a class; empty for a class that hides it."""
    name = kind.__module__
    return name if isinstance(name, str) else ""


def _spec_name() -> str | None:
    """The name with which `python -m` was called."""
    name = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)
    return name if isinstance(name, str) else None


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name
