"""Terminal signals, which are sent to all processes of a job: block and ignore them in worker processes."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ignore_terminal_signals", "leave_terminal_signals", "terminal_signals_blocked"]

#: Of Ctrl-C, and of a closed terminal.
_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)
)
_CAN_BLOCK: Final = hasattr(signal, "pthread_sigmask")  # not on Windows


@contextmanager
def terminal_signals_blocked() -> Iterator[None]:
    """Block these signals in this thread.

    Threads and processes that it starts inherit the mask; a worker resets it by `ignore_terminal_signals`.
    """
    if not _CAN_BLOCK:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_terminal_signals() -> None:
    """Ignore these signals in the main thread of a worker process: the coordinator ends it.

    By a function, since `SIG_IGN` would be inherited by programs that nodes start.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    if _CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def leave_terminal_signals() -> bool:
    """Ignore these signals, if this is the main thread of a process that `multiprocessing` started; tell whether it is."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or multiprocessing.parent_process() is None:
        return False
    ignore_terminal_signals()
    return True


def _do_nothing(*_: Any) -> None:
    pass
