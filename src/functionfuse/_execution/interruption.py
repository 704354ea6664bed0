"""Signal scope of a run: SIGTERM and SIGHUP end it like Ctrl-C, and its traceback has the user's frames only."""

from __future__ import annotations

import os
import signal
import threading
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, NoReturn

from functionfuse._kernel import kernel
from functionfuse._kernel.annotations import add_note

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["SignalScope"]

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
#: Packages whose handlers are replaced as well: `ray.init` sets one, which exits with another code.
_LIBRARIES: Final = frozenset({"ray"})
_MAX_FRAMES: Final = 8  # of a node, in a note of one line
_EXIT_CODE: Final = 128  # plus the number of the signal, as shells report it


class SignalScope:
    """Context of a run, in which a termination signal raises `SystemExit` in the main thread.

    Otherwise the process would end without closing clusters, and without waiting for nodes that finish.
    A handler of the user, and a signal that the process ignores (`nohup`), stay.
    It is not a generator: contextlib sets attributes of the exceptions that pass, which some classes refuse.
    """

    __slots__ = ("_before", "_received")

    def __init__(self) -> None:
        """Install nothing yet."""
        self._before: dict[int, Any] = {}
        self._received: int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers, and runs them
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is signal.SIG_DFL or _is_of_library(handler):
                self._before[number] = signal.signal(number, self._exit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            replaced = signal.signal(number, handler)
            if replaced != self._exit:  # a node has set another one, which stays
                signal.signal(number, replaced)
        if self._received is not None:  # libraries and nodes may replace the exception
            raise SystemExit(_EXIT_CODE + self._received) from None
        if isinstance(error, KeyboardInterrupt):
            _hide_library_frames(error)

    def _exit(self, number: int, _: Any) -> NoReturn:
        self._received = number
        raise SystemExit(_EXIT_CODE + number)


def _is_of_library(handler: Any) -> bool:
    module = getattr(handler, "__module__", None) or ""
    return module.partition(".")[0] in _LIBRARIES


def _hide_library_frames(error: KeyboardInterrupt) -> None:
    """Replace the traceback, dozens of frames of schedulers and event loops, by a note that shows the node's frames."""
    frames = _node_frames(error.__traceback__)
    error.__traceback__ = None
    error.__suppress_context__ = True
    if frames:
        more = "... > " if len(frames) > _MAX_FRAMES else ""
        add_note(error, f"interrupted at {more}{' > '.join(frames[-_MAX_FRAMES:])}")


def _node_frames(traceback: TracebackType | None) -> list[str]:
    """The frames of the node that ran in this thread, the outermost first."""
    frames, found = list[str](), False
    for frame, line in walk_tb(traceback):
        code = frame.f_code
        if code is kernel.compute.__code__:  # of a run in a node: the inner node is of interest
            frames.clear()
            found = True
        elif found:
            frames.append(f"{code.co_name} ({os.path.basename(code.co_filename)}:{line})")
    return frames
