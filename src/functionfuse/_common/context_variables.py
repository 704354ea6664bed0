"""Pickling of context variables: those of modules by reference, those of `__main__` and of notebooks by identity."""

from __future__ import annotations

import os
import sys
from contextvars import Context, ContextVar
from importlib import import_module
from typing import Any, Final

__all__ = ["module_of", "reduce_context_variable"]

_places: Final[dict[ContextVar[Any], tuple[str, str]]] = {}
_keys: Final[dict[ContextVar[Any], str]] = {}
_by_key: Final[dict[str, ContextVar[Any]]] = {}


def module_of(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """The module that has a context variable as an attribute, and the attribute's name."""
    if variable not in _places:
        for module, members in [(name, vars(each)) for name, each in _modules()]:
            for name, value in [*members.items()]:
                if value is variable:
                    _places[variable] = module, name
                    return _places[variable]
    return _places.get(variable)


def _modules() -> list[tuple[str, Any]]:
    return [(name, each) for name, each in [*sys.modules.items()] if hasattr(each, "__dict__")]


def reduce_context_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """Reduce a context variable for pickle; its value stays with its context."""
    place = module_of(variable)
    if place is not None and place[0] != "__main__":
        return _attribute, place
    if variable not in _keys:
        _keys[variable] = os.urandom(16).hex()
        _by_key[_keys[variable]] = variable
    return _variable, (_keys[variable], variable.name, *_default(variable))


def _default(variable: ContextVar[Any]) -> tuple[Any, ...]:
    try:
        return (Context().run(variable.get),)
    except LookupError:
        return ()


def _attribute(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _variable(key: str, name: str, *default: Any) -> ContextVar[Any]:
    if key not in _by_key:
        made = ContextVar(name, default=default[0]) if default else ContextVar[Any](name)
        _by_key[key] = made
        _keys[made] = key
    return _by_key[key]
