"""Module `__main__` of workers: has the functions and classes of the caller's script under their names.

Workers receive them by value, while `pickle` and `multiprocessing` refer to them as attributes of `__main__`.
Processes that a node spawns import the caller's script as `__mp_main__`, as processes of the script do.
"""

from __future__ import annotations

import gc
import sys
from importlib.machinery import ModuleSpec
from inspect import unwrap
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse._common.plain_pickler import send_by_value
from functionfuse._common.script_objects import copies

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MainModule", "add_namespace", "main_module", "remove_namespace"]

_NAME: Final = "__main__"


class MainModule(NamedTuple):
    """Where the code of a process's `__main__` is."""

    file: str | None
    spec: str | None  # the name with which `python -m` was called

    def install(self) -> None:
        """Make `__main__` of this process represent that module."""
        current = sys.modules.get(_NAME)
        if not isinstance(current, _Substitute):
            current = sys.modules[_NAME] = _Substitute(current)
            # for the user's own pickles only: a decorated class is an undecorated one here
            send_by_value(_NAME)
        current.represent(self)


def main_module() -> MainModule:
    """Where the code of this process's `__main__` is."""
    module = sys.modules.get(_NAME)
    return MainModule(
        getattr(module, "__file__", None), getattr(getattr(module, "__spec__", None), "name", None)
    )


class _Substitute(ModuleType):
    """Finds functions and classes by value, and otherwise in a `__main__` that was run from the same file."""

    def __init__(self, original: ModuleType | None) -> None:
        super().__init__(_NAME)
        self.__dict__["_functionfuse_original"] = original

    def represent(self, main: MainModule) -> None:
        """Have the file and spec of another process's module."""
        self.__spec__ = None if main.spec is None else ModuleSpec(main.spec, None)
        if main.file is None:
            self.__dict__.pop("__file__", None)
        else:
            self.__file__ = main.file

    def __getattr__(self, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")):
            for found in _candidates(name, self):
                return found
        message = (
            f"module '__main__' has no attribute {name!r} in this worker, which does not run your script: "
            "use the function or class in the code of the node, or move it to a module that is imported"
        )
        raise AttributeError(message, name=name, obj=self)


def _candidates(name: str, substitute: _Substitute) -> Iterator[Any]:
    for function, arguments in [*reversed(_active)]:
        values = [space.get(name) for space in _namespaces(function)]
        yield from (each for each in (*values, function, *arguments) if _is_of_main(each, name))
    yield from (copy for _, copy in copies(name))
    yield from (each for each in gc.get_objects() if _is_of_main(each, name))
    original = substitute.__dict__["_functionfuse_original"]
    if getattr(original, "__file__", "") == substitute.__dict__.get("__file__"):
        yield from (value for key, value in vars(original).items() if key == name)


def _is_of_main(value: Any, name: str) -> bool:
    """Tell whether a value is a function or class of `__main__` with a name; no code of the user is called."""
    kind = type(value)
    if kind is FunctionType:
        module, qualified = value.__module__, value.__qualname__
    elif issubclass(kind, type):
        qualified = type.__dict__["__qualname__"].__get__(value)
        module = type.__getattribute__(value, "__dict__").get("__module__")
    else:
        return False
    return bool(module == _NAME and qualified == name)


def _namespaces(function: Any) -> Iterator[dict[str, Any]]:
    """The global variables of the function of a node, or of the methods of its class."""
    function = getattr(unwrap(function), "func", function)  # of a `functools.partial`
    members = vars(function).values() if isinstance(function, type) else (function,)
    for member in members:
        space = getattr(unwrap(member), "__globals__", None)
        if isinstance(space, dict) and space.get("__name__") == _NAME:
            yield space


#: The functions and arguments of the nodes that run in this process.
_active: Final[list[tuple[Any, Any]]] = []


def add_namespace(function: Any, arguments: Any) -> Any:
    """Look for names in the function of a node that begins, and among its arguments, before anywhere else."""
    entry = function, arguments
    _active.append(entry)
    return entry


def remove_namespace(entry: Any) -> None:
    """Remove what `add_namespace` returned."""
    for number, other in enumerate(_active):
        if other is entry:
            del _active[number]
            return
