"""Run a node in the caller's context: in a thread of the caller's process, or in a worker process."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from contextvars import Context, copy_context
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.process_identity import this_process
from functionfuse._context.caller_context import ReceivedContext
from functionfuse._context.forwarding import MESSAGES, forward_warning, take_messages
from functionfuse._context.main_module import add_namespace, remove_namespace
from functionfuse._context.settings import set_temporarily, use_own_decimal_context
from functionfuse._context.warning_filters import apply_filters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse._context.caller_context import CallerContext

__all__ = ["run_in_context"]


def run_in_context(
    context: CallerContext, names: tuple[Any, Any], body: Callable[..., Any], *args: Any
) -> tuple[Any, Sequence[bytes]]:
    """Call a function in the context of a caller; return its value and the messages for the caller.

    Args:
        context: The context.
        names: A node's function and arguments, in which `__main__` finds functions and classes.
        body: The function.
        args: Its arguments.

    Raises:
        BaseException: The exception of the function; its attribute `MESSAGES` holds the messages.
    """
    if not isinstance(context, ReceivedContext) or context.process == this_process():
        return _run_in_thread(context.variables, body, args), ()
    _process.enter(context)
    entry = add_namespace(*names)
    try:
        value = copy_context().run(_run_with_values, context, body, args)
    except BaseException as error:
        if messages := take_messages():
            error.__dict__[MESSAGES] = messages
        raise
    finally:
        remove_namespace(entry)
        _process.leave()
    return value, take_messages()


def _run_in_thread(variables: Context | None, body: Callable[..., Any], args: Any) -> Any:
    """Call a function with the caller's context variables, and the engine's for this thread."""
    if variables is None:
        return body(*args)
    own = copy_context()
    if not len(own):
        return variables.copy().run(_run_isolated, body, args)
    for variable, value in variables.items():
        if variable not in own:
            own.run(variable.set, value)
    return own.run(_run_isolated, body, args)


def _run_isolated(body: Callable[..., Any], args: Any) -> Any:
    """Call a function whose changes of the decimal context end with it."""
    use_own_decimal_context()
    return body(*args)


def _run_with_values(context: ReceivedContext, body: Callable[..., Any], args: Any) -> Any:
    """Call a function with the values of the caller's context variables and thread settings."""
    for variable, value in context.values:
        variable.set(value)
    restore = set_temporarily(context.thread_settings)
    try:
        return _run_isolated(body, args)
    finally:
        restore()


def _nothing() -> None:
    """Restore nothing."""


class _Process:
    """The settings of this process while nodes run in it, in any of its threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._context: ReceivedContext | None = None
        self._restore: Callable[[], object] = _nothing

    def enter(self, context: ReceivedContext) -> None:
        """Apply a context, unless a running node has applied it."""
        with self._lock:
            self._count += 1
            if self._context is context:
                return
            self._restore()
            self._context = context
            context.main.install()
            restore_logging = context.logging.apply() if context.logging else _nothing
            restore_settings = set_temporarily(context.settings)
            restore_warnings = _forward_warnings(context.filters)
            restore_daemon = _allow_child_processes()

            def restore() -> None:
                restore_daemon()
                restore_warnings()
                restore_settings()
                restore_logging()

            self._restore = restore

    def leave(self) -> None:
        """Restore the process's own settings after the last node."""
        with self._lock:
            self._count -= 1
            if not self._count:
                self._restore()
                self._context, self._restore = None, _nothing


_process: Final = _Process()


def _forward_warnings(filters: Sequence[Any]) -> Callable[[], None]:
    """Use the caller's filters, and forward the warnings that pass them; return the function that restores them."""
    before, show = list(warnings.filters), warnings.showwarning

    def forward(  # noqa: PLR0913 - as `warnings.showwarning`
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            show(message, category, filename, lineno, file, line)
            return
        forward_warning(
            message, category, filename, lineno, filtered=list(warnings.filters) == filters
        )

    apply_filters(filters)
    warnings.showwarning = forward

    def restore() -> None:
        apply_filters(before)
        warnings.showwarning = show

    return restore


def _allow_child_processes() -> Callable[[], None]:
    """Let nodes use `multiprocessing` in a daemon process, as Dask's workers are."""
    module = sys.modules.get("multiprocessing.process")
    config = {} if module is None else getattr(module.current_process(), "_config", {})
    if not config.get("daemon"):
        return _nothing
    config["daemon"] = False

    def restore() -> None:
        with suppress(KeyError):
            config["daemon"] = True

    return restore
