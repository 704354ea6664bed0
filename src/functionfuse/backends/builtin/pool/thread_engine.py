"""Thread engine: runs units in threads of this process."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

from functionfuse._kernel.kernel import execute
from functionfuse.engine import Cancelled, Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from functionfuse._kernel.units import Record, Unit

__all__ = ["ThreadEngine"]

R = TypeVar("R")
_POLL_INTERVAL: Final = (
    0.5  # seconds between two checks for signals, which may interrupt another thread
)
_TIMEOUT: Final = 5.0  # seconds that running nodes have to finish after an interruption


class _Task:
    """A unit, its inputs and its outcome."""

    __slots__ = (
        "cancelled",
        "dependents",
        "ended",
        "error",
        "missing",
        "record",
        "released",
        "unit",
        "value",
        "values",
    )

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.values: list[Any] = []
        self.missing = 0  # inputs that have not ended
        self.dependents: list[
            tuple[_Task, int]
        ] = []  # with the position of this value among their inputs
        self.record: Record | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.ended = self.cancelled = self.released = False

    def take(self, inputs: Sequence[_Task]) -> None:
        """Take the values of completed inputs, and register as a dependent of the others."""
        self.values = [parent.value for parent in inputs]
        for position, parent in enumerate(inputs):
            if not parent.ended:
                parent.dependents.append((self, position))
                self.missing += 1
            elif parent.error is not None:
                self.error = parent.error

    def run(self) -> Any:
        """Execute the unit, unless it was cancelled or failed upstream; returns its value."""
        value = None
        if self.cancelled:
            self.error = Cancelled()
        if self.error is None:
            try:
                value, self.record = execute(self.unit, self.values)
            except BaseException as error:  # noqa: BLE001 - the node's own
                self.error = error
        self.values = []
        return value

    def end(self, value: Any) -> list[_Task]:
        """Pass the value, or the failure, to the dependents; returns those that have all inputs now."""
        self.ended = True
        if not self.released:
            self.value = value
        dependents, self.dependents = self.dependents, []
        ready = []
        for dependent, position in dependents:
            dependent.values[position] = value
            dependent.error = dependent.error or self.error
            dependent.missing -= 1
            if not dependent.missing:
                ready.append(dependent)
        return ready


class ThreadEngine:
    """Runs units in threads, which live for one run.

    It starts a thread when a unit finds none idle, up to a maximum.
    A unit runs in the thread that computed its last input.
    """

    name = "local"
    capabilities = Capabilities(
        schedules=True, cancels_queued=True, releases_early=True, shares_values=True
    )

    def __init__(self, workers: int) -> None:  # noqa: D107
        self._max_workers = workers
        self._threads: list[Thread] = []
        self._busy = 0
        self._lock = Lock()  # guards the inputs and dependents of tasks
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._done: SimpleQueue[_Task] = SimpleQueue()

    def submit(self, unit: Unit, inputs: Sequence[_Task], _: Mapping[str, Any]) -> _Task:
        """Queue a unit for the first idle thread, once its inputs are computed."""
        task = _Task(unit)
        self._busy += 1
        if self._busy > len(self._threads) and len(self._threads) < self._max_workers:
            self._start()
        with self._lock:
            if inputs and not unit.load:
                task.take(inputs)
            ready = not task.missing
        if ready:
            self._queue.put(task)
        return task

    def wait(self, pending: Collection[_Task]) -> Collection[_Task]:
        """Block until a unit is done; return all that are done."""
        done: list[_Task] = []
        while not done:
            done = [task for task in self._ended() if task in pending]
        return done

    def _ended(self) -> Iterator[_Task]:
        task = self._first()
        self._busy -= 1
        yield task
        while not self._done.empty():
            self._busy -= 1
            yield self._done.get()

    def _first(self) -> _Task:
        """Block until a unit is done, with timeouts: a signal may arrive in another thread, which does not wake this one."""
        while True:
            try:
                return self._done.get(timeout=_POLL_INTERVAL)
            except Empty:
                continue

    def record(self, handle: _Task) -> Record:  # noqa: D102 - as in Engine
        if handle.error is not None:
            raise handle.error
        assert handle.record is not None
        return handle.record

    def fetch(self, handle: _Task) -> Any:  # noqa: D102 - as in Engine
        return handle.value

    def release(self, handle: _Task) -> None:
        """Release the value; queued dependents get it nevertheless."""
        with self._lock:
            handle.released, handle.value = True, None

    def cancel(self, pending: Collection[_Task]) -> None:
        """Cancel queued units."""
        for task in pending:
            task.cancelled = True

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop, then end the threads."""
        try:
            return body()
        finally:
            self._close()

    def _start(self) -> None:
        # a daemon: a thread cannot be stopped, and a node that does not finish must not keep the process alive
        name = f"functionfuse-{len(self._threads)}"
        thread = Thread(target=self._serve, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (task := self._queue.get()) is not None:
            while task is not None:
                task = self._run(task)

    def _run(self, task: _Task) -> _Task | None:
        """Run a unit; returns a dependent that this thread can run next."""
        value = task.run()
        with self._lock:
            ready = task.end(value)
        self._done.put(task)
        for other in ready[1:]:
            self._queue.put(other)
        return ready[0] if ready else None

    def _close(self) -> None:
        """End the threads; after an interruption, wait for running nodes, which finish and are stored."""
        for _thread in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + _TIMEOUT
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
