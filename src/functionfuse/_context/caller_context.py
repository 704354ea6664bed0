"""Caller context: settings of the caller of `run()`, captured once a run and applied around each node.

In a thread of the same process these are context variables; for another process all settings are pickled once.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from functionfuse._common.context_variables import module_of
from functionfuse._common.process_identity import this_process
from functionfuse._common.script_objects import serve_another_process
from functionfuse._common.script_snapshot import ScriptSnapshot
from functionfuse._common.user_warnings import warn_user
from functionfuse._context.main_module import MainModule, main_module
from functionfuse._context.settings import changed_settings, is_of_thread
from functionfuse._context.warning_filters import entries, warning_filters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functionfuse._context.logging_tree import LoggingTree

    Parts = tuple[tuple[str, bytes], ...]

__all__ = ["CallerContext", "ReceivedContext"]


class CallerContext:
    """Logging, warning filters, context variables and settings of the caller of `run()`.

    Its pickle extends `sys.path` where it is unpickled: pickle it before functions and arguments.
    """

    def __init__(self) -> None:
        """Capture the caller's context variables; the other settings are read when it is first pickled."""
        self.process = this_process()
        self.variables: Context | None = copy_context()  # None in another process
        #: For units that load results.
        self.script: ScriptSnapshot | None = ScriptSnapshot()  # None in another process
        self._key = os.urandom(16).hex()
        self._pickled: tuple[tuple[str, ...], Parts] | None = None
        _captured[self._key] = self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            assert self.variables is not None
            # an engine may pickle in another thread, which has other settings
            self._pickled = (
                tuple(sys.path),
                self.variables.copy().run(_pickled_parts, self.variables),
            )
        return _open, (self.process, self._key, *self._pickled)


_captured: Final[WeakValueDictionary[str, CallerContext]] = WeakValueDictionary()


class ReceivedContext(CallerContext):
    """A caller context in another process."""

    main: MainModule
    logging: LoggingTree | None
    filters: Sequence[Any]
    settings: Mapping[str, Any]
    thread_settings: Mapping[str, Any]
    values: Sequence[tuple[ContextVar[Any], Any]]

    def __init__(self, process: str, key: str, path: tuple[str, ...], parts: Parts) -> None:
        """Unpickle the settings; those that cannot be unpickled here, as a class of a warning, are dropped."""
        self.process, self.variables, self.script = process, None, None
        self._key, self._pickled = key, (path, parts)
        _extend_search_path(path)
        values = {name: value for name, data in parts if (value := _loads(data)) is not None}
        self.main, self.logging = values.pop("main"), values.pop("logging", None)
        self.values = [values.pop(name) for name in [*values] if name.startswith("variable ")]
        filters = [values.pop(name) for name in [*values] if name.startswith("filter ")]
        self.filters = entries(filters)
        self.settings = {name: value for name, value in values.items() if not is_of_thread(name)}
        self.thread_settings = {name: value for name, value in values.items() if is_of_thread(name)}


def _extend_search_path(path: Sequence[str]) -> None:
    """Add missing folders, each before its successor in the caller's path."""
    position = len(sys.path)
    for folder in reversed(path):
        if folder in sys.path:
            position = sys.path.index(folder)
        else:
            sys.path.insert(position, folder)


def _pickled_parts(variables: Context) -> Parts:
    from functionfuse._common.pickler import dumps

    users = [
        (f"variable {number} {var.name!r}", (var, variables[var]))
        for number, var in enumerate(variables)
        if _is_users(var)
    ]
    filters = [(f"filter {number}", each) for number, each in enumerate(warning_filters())]
    values = [
        ("main", main_module()),
        ("logging", _logging()),
        *filters,
        *users,
        *changed_settings(),
    ]
    parts = []
    for name, value in values:
        try:
            parts.append((name, dumps(value)))
        except Exception as error:  # noqa: BLE001 - a function among numpy's print options
            if name.startswith("variable "):
                _warn_of_variable(value, error)
    return tuple(parts)


def _warn_of_variable(item: Any, error: Exception) -> None:
    variable, value = item
    message = (
        f"the context variable {variable.name!r} has no value in nodes in other processes, "
        f"since its {type(value).__qualname__} cannot be pickled ({error}): "
        "set it in an InitializerPlugin, or give nodes what they need of it as an argument"
    )
    warn_user(message, RuntimeWarning)


def _logging() -> LoggingTree | None:
    if "logging" not in sys.modules:  # nothing is configured
        return None
    from functionfuse._context.logging_tree import logging_tree

    return logging_tree()


def _is_users(variable: ContextVar[Any]) -> bool:
    """Tell whether a context variable is the user's: not one of a library with its own values in each process."""
    place = module_of(variable)
    return place is not None and not _LIBRARIES.match(place[0])


_LIBRARIES: Final = re.compile(
    r"(functionfuse\.(_|backends)|(prefect|distributed|dask|ray|numpy|sniffio|anyio|httpx)(\.|$))"
)


def _loads(data: bytes) -> Any:
    with suppress(Exception):
        return pickle.loads(data)
    return None


def _open(process: str, key: str, path: tuple[str, ...], parts: Parts) -> CallerContext:
    if process == this_process() and key in _captured:
        return _captured[key]
    if process != this_process():
        serve_another_process()
    return _receive(process, key, path, parts)


@lru_cache(maxsize=16)
def _receive(process: str, key: str, path: tuple[str, ...], parts: Parts) -> ReceivedContext:
    return ReceivedContext(process, key, path, parts)
