"""Identity of the classes and functions of a script: their names there, and their copies in other processes.

Another process cannot import `__main__`, so it gets copies, which are pickled by value.
A copy knows which object it is a copy of: the script's own process gets that object back, and pickles of results name it.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import types
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from functionfuse._common.process_identity import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

__all__ = [
    "MAIN_NAMES",
    "ScriptName",
    "ScriptObjectError",
    "copies",
    "identify",
    "may_be_of_script",
    "running_script",
    "script_file",
    "script_name",
    "serve_another_process",
]

#: The main module, and its name in a process that `multiprocessing` spawned.
MAIN_NAMES: Final = frozenset({"__main__", "__mp_main__"})
_MAX_DECORATORS: Final = 10


class ScriptObjectError(UnpicklingError):
    """A class or function of a script is not in this process, or differs from that of a stored result."""


class ScriptName(NamedTuple):
    """The name of a class or function of a script."""

    file: str | None  # of the script; None for a notebook and other code without a file
    path: str  # as `attrgetter` takes it


@dataclass(slots=True)
class _Copy:
    """What is known of a copy in this process."""

    value: ref[Any]
    name: ScriptName
    key: Any  # of the object that it is a copy of
    is_complete: bool = False


_copies: Final[dict[int, _Copy]] = {}  # by id
_own: Final[WeakValueDictionary[Any, Any]] = WeakValueDictionary()  # objects that were sent
_keys: Final[WeakKeyDictionary[Any, Any]] = WeakKeyDictionary()  # theirs: an id may be used again
_numbers: Final = itertools.count()
_lock: Final = threading.RLock()


# ---- the script that runs in this process ----

_is_worker = False


def serve_another_process() -> None:
    """Declare that this process runs nodes for another one: its own `__main__` is not the script of the nodes."""
    global _is_worker  # noqa: PLW0603 - of the process
    _is_worker = True


def running_script() -> ModuleType | None:
    """The `__main__` of this process; None in a worker."""
    return None if _is_worker else sys.modules.get("__main__")


def script_file(module: ModuleType | None) -> str | None:
    """The absolute path of a script; None for a notebook and other code without a file."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or file.startswith("<"):  # as <stdin>
        return None
    return os.path.abspath(file)


def may_be_of_script(value: Any) -> bool:
    """Tell whether a class or function is of a script, by its module."""
    module = getattr(value, "__module__", None)
    if module == "types":  # until Python 3.12, of a class of `make_dataclass`
        return not hasattr(types, value.__name__)
    return isinstance(module, str) and module in MAIN_NAMES


def script_name(value: Any) -> ScriptName | None:
    """The name of a class or function of a script, or of a copy; None if no global variable leads to it."""
    if not may_be_of_script(value):
        return None
    copy = _copy_of(value)
    if copy is not None:
        return copy.name
    main = running_script()
    path = None if main is None else _path_in(main, value)
    return None if path is None else ScriptName(script_file(main), path)


def _path_in(main: ModuleType, value: Any) -> str | None:
    with suppress(Exception):  # a user's `__getattr__` may raise anything
        path = value.__qualname__
        found = attrgetter(path)(main)
        for _ in range(_MAX_DECORATORS):
            if found is value:
                return str(path)
            found, path = found.__wrapped__, f"{path}.__wrapped__"
    # a lambda, or a function or class that was renamed
    names = [name for name, other in [*vars(main).items()] if other is value]
    return names[0] if names else None


# ---- copies in other processes ----


def _copy_of(value: Any) -> _Copy | None:
    copy = _copies.get(id(value))
    return copy if copy is not None and copy.value() is value else None


def copies(path: str) -> Iterator[tuple[ScriptName, Any]]:
    """The copies in this process of all that has a name in a script, the latest first."""
    for copy in [*reversed(_copies.values())]:
        value = copy.value()
        if copy.name.path == path and value is not None:
            yield copy.name, value


def identify(value: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """A reduction by value that becomes the script's own object in the script's process.

    Args:
        value: A class, function or other global object.
        reduced: Its reduction by value, of cloudpickle.
    """
    name = script_name(value)
    if name is None:
        return reduced
    construct, arguments, *rest = reduced
    copy = _copy_of(value)
    if isinstance(value, type):
        key = arguments[_TRACKER]
    elif copy is not None:
        key = copy.key
    else:
        with _lock:
            key = _keys.setdefault(value, (this_process(), next(_numbers)))
            _own[key] = value
    made = key, name, construct, arguments
    if not rest:
        return _build, made
    state, items, pairs, set_state = rest
    return _build, made, (copy is None, set_state, state), items, pairs, _update


#: The position of cloudpickle's identity of a class among the arguments of its constructors.
_TRACKER: Final = -2


def _build(key: Any, name: ScriptName, construct: Callable[..., Any], arguments: Any) -> Any:
    """The script's own object in its process; in others, one copy of a class, and a copy of a function."""
    with _lock:
        found = _own.get(key) if isinstance(key, tuple) else _tracked_class(key)
        if found is not None:
            return found
        made = construct(*arguments)
        number = id(made)

        def forget(reference: ref[Any]) -> None:
            if number in _copies and _copies[number].value is reference:
                del _copies[number]

        _copies[number] = _Copy(ref(made, forget), ScriptName(*name), key)
        return made


def _tracked_class(key: str) -> Any:
    from cloudpickle.cloudpickle import _DYNAMIC_CLASS_TRACKER_BY_ID

    return _DYNAMIC_CLASS_TRACKER_BY_ID.get(key)


def _update(value: Any, state: tuple[bool, Callable[[Any, Any], object], Any]) -> None:
    """Set the state of a copy; the script's own objects have theirs.

    A copy that is complete takes no state of another copy: what a worker has changed in a class stays there.
    """
    from_script, set_state, own = state
    copy = _copy_of(value)
    if copy is not None and (from_script or not copy.is_complete):
        set_state(value, own)
        copy.is_complete = True
