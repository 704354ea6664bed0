"""Event loops of async nodes: all async nodes of a run in one process share one loop.

A connection or lock that one of them opens belongs to its loop, and the next one can use it.
In the main thread the loop runs where the node runs, so that signals and thread-bound objects work;
elsewhere, and in a notebook, whose own loop is running, it runs in a thread of its own.
"""

from __future__ import annotations

import atexit
import gc
import os
from contextvars import ContextVar
from threading import Lock, Thread, current_thread, main_thread
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

__all__ = ["EventLoopScope", "refers_to_loop", "run_coroutine"]

_MANY: Final = 10_000  # objects that are searched for an event loop
_TIMEOUT: Final = 5.0  # seconds that tasks have to end when they are cancelled


class EventLoopScope:
    """Context manager: the event loop of a run, which is created by its first async node and closed at its end."""

    _process = 0  # in which the loop was created
    _runner: asyncio.Runner | None = None
    _thread: _LoopThread | None = None

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        self.close()

    def close(self) -> None:
        """Cancel what still runs on the loop, and close it."""
        if self._runner is None and self._thread is None:
            return
        if self._process != os.getpid():  # of the parent of this forked process
            return
        runner, thread, self._runner, self._thread = self._runner, self._thread, None, None
        if runner is not None:
            runner.close()
        if thread is not None:
            thread.close()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop; return its value or raise its exception."""
        import asyncio  # a third of the time that a worker needs to start
        from contextvars import copy_context

        with _starting:
            if self._process != os.getpid():
                self._process, self._runner, self._thread = os.getpid(), None, None
        if current_thread() is not main_thread() or _is_loop_running():
            return self._loop_thread().run(coroutine)
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        try:
            return self._runner.run(coroutine, context=copy_context())
        except (KeyboardInterrupt, SystemExit):  # the node can clean up
            self.close()
            raise

    def _loop_thread(self) -> _LoopThread:
        with _starting:
            if self._thread is None:
                self._thread = _LoopThread()
            return self._thread


def _is_loop_running() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _LoopThread:
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        from concurrent.futures import Future

        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = Thread(target=self._serve, name="functionfuse-event-loop", daemon=True)
        self._thread.start()
        self._loop, self._stop = self._started.result()

    def _serve(self) -> None:
        import asyncio

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._wait_for_stop())

    async def _wait_for_stop(self) -> None:
        import asyncio

        stop = asyncio.Event()
        self._started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine, with the context variables of this thread."""
        import asyncio

        future = asyncio.run_coroutine_threadsafe(_outcome(coroutine), self._loop)
        try:
            error, value = future.result()
        except BaseException:  # Ctrl-C
            future.cancel()
            raise
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the thread; a task that does not end when it is cancelled is given up."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_TIMEOUT)


async def _outcome(coroutine: Coroutine[Any, Any, Any]) -> tuple[BaseException | None, Any]:
    """The exception or value of a coroutine: a SystemExit would end the loop."""
    try:
        return None, await coroutine
    except BaseException as error:  # noqa: BLE001 - raised where the node was called
        return error, None


_starting: Final = Lock()
#: The loop of the run that this thread works for; workers have one for as long as they live.
_current: Final[ContextVar[EventLoopScope]] = ContextVar("functionfuse_event_loop")
_of_process: Final = EventLoopScope()
atexit.register(_of_process.close)


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the event loop of the current run."""
    _used[:] = [True]
    return _current.get(_of_process).run(coroutine)


_used: Final[list[bool]] = []  # a coroutine has run in this process


def refers_to_loop(instance: Any) -> bool:
    """Tell whether an event loop can be reached from an object, as from a connection; False after many objects."""
    if not _used:
        return False
    import asyncio

    seen, waiting = {id(instance)}, [instance]
    while waiting and len(seen) < _MANY:
        for part in gc.get_referents(waiting.pop()):
            kind = type(part)
            if issubclass(kind, asyncio.AbstractEventLoop):
                return True
            if id(part) not in seen and not issubclass(kind, _NOT_SEARCHED) and gc.is_tracked(part):
                seen.add(id(part))
                waiting.append(part)
    return False


#: As for `copy.deepcopy`, these have no parts.
_NOT_SEARCHED: Final = (type, ModuleType, FunctionType)
