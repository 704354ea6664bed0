"""Running units in threads of this process."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from functionfuse.engine import Capabilities
from functionfuse.kernel import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from functionfuse.kernel import Outcome, Record, Unit

__all__ = ["ThreadEngine"]

R = TypeVar("R")


class _Task:
    """A unit, the values of its inputs, and what became of it."""

    __slots__ = ("error", "given_up", "outcome", "unit", "values")

    def __init__(self, unit: Unit, values: list[Any]) -> None:
        self.unit = unit
        self.values: list[Any] = values
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.given_up = False

    def run(self) -> None:
        if self.given_up:
            return
        try:
            self.outcome = execute(self.unit, self.values)
        except BaseException as error:  # noqa: BLE001 - the node's own
            self.error = error
        self.values = []


class ThreadEngine:
    """Runs units in threads, which live for one run.

    It starts as many as there is work for, up to its number.
    """

    name = "local"
    capabilities = Capabilities()

    def __init__(self, workers: int) -> None:  # noqa: D107
        self._most = workers
        self._threads: list[Thread] = []
        self._busy = 0
        self._waiting: SimpleQueue[_Task | None] = SimpleQueue()
        self._done: SimpleQueue[_Task] = SimpleQueue()

    def submit(self, unit: Unit, inputs: Sequence[_Task], _: Mapping[str, Any]) -> _Task:
        """Give a unit to the first thread that is free."""
        values = [] if unit.load else [self.fetch(task) for task in inputs]
        task = _Task(unit, values)
        self._busy += 1
        if self._busy > len(self._threads) and len(self._threads) < self._most:
            self._start()
        self._waiting.put(task)
        return task

    def wait(self, _: Collection[_Task]) -> Iterator[_Task]:
        """Block until a unit is done; give all that are."""
        yield self._next()
        while not self._done.empty():
            yield self._next()

    def _next(self) -> _Task:
        task = self._done.get()
        self._busy -= 1
        return task

    def record(self, handle: _Task) -> Record:  # noqa: D102 - as in Engine
        if handle.error is not None:
            raise handle.error
        assert handle.outcome is not None
        return handle.outcome.record

    def fetch(self, handle: _Task) -> Any:  # noqa: D102 - as in Engine
        assert handle.outcome is not None
        return handle.outcome.value

    def release(self, handle: _Task) -> None:
        """Let the value go."""
        handle.outcome = None

    def cancel(self, pending: Collection[_Task]) -> None:
        """Do not start these."""
        for task in pending:
            task.given_up = True

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop, then let the threads end."""
        try:
            return body()
        finally:
            self._close()

    def _start(self) -> None:
        # nothing waits for it after an interruption: a thread cannot be stopped
        name = f"functionfuse-{len(self._threads)}"
        thread = Thread(target=_serve, args=(self._waiting, self._done), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _close(self) -> None:
        for _thread in self._threads:
            self._waiting.put(None)
        if not self._busy:
            for thread in self._threads:
                thread.join()


def _serve(waiting: SimpleQueue[_Task | None], done: SimpleQueue[_Task]) -> None:
    while (task := waiting.get()) is not None:
        task.run()
        done.put(task)
        del task  # with its value, while waiting for the next
