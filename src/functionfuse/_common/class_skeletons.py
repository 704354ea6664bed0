"""Skeletons of classes that are pickled by value, without a call of the user's metaclass or `__init_subclass__`.

Both may require keyword arguments or names of the class body, or register the class: all of that has happened already
in the process that defined the class, and its effects are among the attributes that are set afterwards.
"""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import cloudpickle.cloudpickle

from functionfuse._common.script_objects import may_be_of_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["skeleton_constructor"]

_MAKE: Final = cloudpickle.cloudpickle._make_skeleton_class  # noqa: SLF001 - as in its pickles


def skeleton_constructor(cls: type, construct: Callable[..., Any]) -> Callable[..., Any]:
    """The function that creates the skeleton of a class, with the arguments of cloudpickle's."""
    if construct is not _MAKE:  # an enum
        return construct
    users = [base for base in cls.__mro__[1:] if may_be_of_script(base)]
    runs_code = may_be_of_script(type(cls)) or any(_HOOK in vars(base) for base in users)
    return _make_quietly if runs_code else construct


def _make_quietly(
    kind: type, name: str, bases: tuple[type, ...], names: Mapping[str, Any], tracker: Any, _: Any
) -> type:
    resolved = types.resolve_bases(bases)  # of a generic class
    namespace = {sys.intern(key): value for key, value in names.items()}
    library = next(base for base in kind.__mro__ if not may_be_of_script(base))
    with _without_hooks(resolved):
        if library is kind:
            made: type = kind(name, resolved, namespace)
        else:
            made = library.__new__(kind, name, resolved, namespace)
    found: type = cloudpickle.cloudpickle._lookup_class_or_track(tracker, made)  # noqa: SLF001
    return found


@contextmanager
def _without_hooks(bases: tuple[type, ...]) -> Iterator[None]:
    """Replace `__init_subclass__` of the copies among the base classes."""
    users = [kind for base in bases for kind in base.__mro__ if may_be_of_script(kind)]
    hooks = {kind: vars(kind)[_HOOK] for kind in users if _HOOK in vars(kind)}
    with _lock:
        for kind in hooks:
            setattr(kind, _HOOK, classmethod(_do_nothing))
        try:
            yield
        finally:
            for kind, hook in hooks.items():
                setattr(kind, _HOOK, hook)


def _do_nothing(_: type, /, **__: object) -> None:
    """As `__init_subclass__` of `object`."""


_HOOK: Final = "__init_subclass__"
_lock: Final = Lock()
