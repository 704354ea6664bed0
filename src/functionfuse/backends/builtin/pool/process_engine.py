"""Running units in processes of this machine."""

from __future__ import annotations

import pickle
import selectors
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar

from functionfuse._common.recursion import deep_recursion
from functionfuse._common.stdio import open_closed_streams
from functionfuse._common.terminal_signals import terminal_signals_blocked
from functionfuse._transport.exceptions import describe_exception, load_exception
from functionfuse._transport.shared_memory import BufferPool, unpickle
from functionfuse.backends.builtin.pool.reaper import Reaper
from functionfuse.backends.builtin.pool.run_folders import RunFolders
from functionfuse.backends.builtin.pool.task_messages import MessageBuilder, owned
from functionfuse.backends.builtin.pool.worker_process import WorkerProcess
from functionfuse.engine import Capabilities
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from functionfuse._kernel.units import Record, Unit
    from functionfuse._transport.protocol import Reply, TaskMessage
    from functionfuse._transport.shared_memory import Payload

__all__ = ["ProcessEngine"]

R = TypeVar("R")
_RETRY_INTERVAL: Final = 0.1  # seconds until a worker that has not ended is interrupted once more
_TIMEOUT: Final = 5.0  # seconds that a worker has to end by itself, before it is killed
_UNSET: Final = object()


class _Task:
    """A unit, what it takes, and what became of it."""

    __slots__ = ("error", "inputs", "payload", "record", "unit", "value", "work")

    def __init__(self, unit: Unit, inputs: list[Payload]) -> None:
        self.unit = unit
        self.inputs = inputs
        self.work: TaskMessage | None = (
            None  # as it was sent: segments that it names stay until it is done
        )
        self.payload: Payload | None = None
        self.record: Record | None = None
        self.error: BaseException | None = None
        self.value: Any = _UNSET


class ProcessEngine:
    """Runs units in worker processes, which live for one run.

    It starts as many as there is work for, up to its number.
    Values stay pickled here: only what `fetch` asks for is made an object again.
    """

    name = "local"
    capabilities = Capabilities()

    def __init__(self, workers: int) -> None:  # noqa: D107
        self._max_workers = workers
        open_closed_streams()  # before their numbers are those of sockets
        self._folders = RunFolders()
        self._reaper: Reaper | None = None  # until there is a worker
        self._messages = MessageBuilder(BufferPool(self._folders.paths, "run"))
        self._selector = selectors.DefaultSelector()
        self._names = (f"worker{number}" for number in count())
        self._idle: list[WorkerProcess] = []
        self._busy: dict[WorkerProcess, _Task] = {}
        self._queue: deque[_Task] = deque()
        self._done: list[_Task] = []
        self._nodes: dict[int, str] = {}  # the names of those that were submitted, by number

    def submit(self, unit: Unit, inputs: Sequence[_Task], _: Mapping[str, Any]) -> _Task:
        """Give a unit to a worker that is free."""
        for part in unit.subunits or (unit,):
            self._nodes[part.node.number] = part.node.name
        payloads = (
            [] if unit.load else [task.payload for task in inputs if task.payload is not None]
        )
        task = _Task(unit, payloads)
        self._queue.append(task)
        self._dispatch()
        return task

    def wait(self, _: Collection[_Task]) -> Collection[_Task]:
        """Block until a unit is done; give all that are."""
        while not self._done:
            for key, _events in self._selector.select():
                self._receive_reply(key.data)
            self._dispatch()
        done, self._done = self._done, []
        return done

    def record(self, handle: _Task) -> Record:  # noqa: D102 - as in Engine
        if handle.error is not None:
            raise handle.error
        assert handle.record is not None
        return handle.record

    def fetch(self, handle: _Task) -> Any:
        """The value, which is made an object once.

        Raises:
            EngineError: It cannot be unpickled here.
        """
        if handle.value is _UNSET:
            assert handle.payload is not None
            try:
                handle.value = unpickle(handle.payload)
            except Exception as error:
                name, reason = handle.unit.node.name, describe_exception(error)
                message = f"the result of node {name!r} cannot be unpickled here: {reason}"
                raise EngineError(message) from error
            handle.payload = None
        return handle.value

    def release(self, handle: _Task) -> None:
        """Let the value go, as soon as no unit that takes it is in flight."""
        handle.payload = None
        handle.value = _UNSET

    def cancel(self, pending: Collection[_Task]) -> None:
        """Do not start these."""
        cancelled = set(pending)
        self._queue = deque(task for task in self._queue if task not in cancelled)

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop; see to it that nothing is left of it."""
        try:
            return body()
        finally:
            self._close()

    # ---- handing out ----

    def _dispatch(self) -> None:
        while self._queue and (self._idle or len(self._busy) < self._max_workers):
            worker = self._idle.pop() if self._idle else self._new_worker()
            self._send_task(worker, self._queue.popleft())

    def _new_worker(self) -> WorkerProcess:
        with terminal_signals_blocked():  # until the worker ignores them
            if self._reaper is None:
                self._reaper = Reaper(self._folders.paths)
            worker = WorkerProcess(next(self._names), self._folders.paths, self._reaper)
            self._selector.register(worker, selectors.EVENT_READ, worker)
        return worker

    def _send_task(self, worker: WorkerProcess, task: _Task) -> None:
        self._busy[worker] = task
        try:
            task.work = self._messages.work(task.unit, task.inputs, worker.shared_objects)
        except EngineError as error:
            self._free_worker(worker).error = error
            return
        try:
            with deep_recursion:
                message = pickle.dumps(task.work, protocol=5)
            worker.channel.send(message)
        except ConnectionError:  # it did not get the whole unit, so the unit has not run
            if worker.has_replied:
                self._queue.appendleft(self._busy.pop(worker))
                self._remove_worker(worker)
            else:
                self._handle_worker_death(worker)

    # ---- what comes back ----

    def _receive_reply(self, worker: WorkerProcess) -> None:
        if worker not in self._busy:  # it says nothing unasked: it is gone
            self._idle.remove(worker)
            self._remove_worker(worker)
            return
        try:
            reply: Reply = pickle.loads(worker.channel.receive())
        except (EOFError, ConnectionError):
            self._handle_worker_death(worker)
            return
        worker.has_replied = True
        task = self._free_worker(worker)
        if reply.kind == "value":
            task.record, task.payload = reply.record, owned(reply.payload)
        else:
            worker.shared_objects.clear()  # they may be what could not be opened
            task.error = self._error(reply, task.unit.node.name)

    def _free_worker(self, worker: WorkerProcess) -> _Task:
        """Take a unit off a worker, which is free again."""
        self._idle.append(worker)
        return self._end_task(worker)

    def _end_task(self, worker: WorkerProcess) -> _Task:
        task = self._busy.pop(worker)
        task.inputs, task.work = [], None
        self._done.append(task)
        return task

    def _error(self, reply: Reply, name: str) -> BaseException:
        """Why a unit has no value."""
        assert isinstance(reply.payload, bytes)
        if reply.kind == "error":
            return load_exception(reply.payload)
        reason = reply.payload.decode()
        if reply.kind == "send":
            return EngineError(
                f"the result of node {name!r} cannot be sent to another process: {reason}. "
                "Return something that can be pickled, run the nodes that need it together with it by fuse(), "
                "or run with kind='threads' or without workers"
            )
        if reply.parent is not None:
            return EngineError(
                f"the result of node {self._nodes[reply.parent]!r}, which node {name!r} takes, "
                f"cannot be unpickled in a worker: {reason}"
            )
        return EngineError(
            f"node {name!r} cannot be unpickled in a worker: {reason}. "
            "Its function and arguments must be made of what can be imported there, by the sys.path of this process"
        )

    # ---- ends ----

    def _handle_worker_death(self, worker: WorkerProcess) -> None:
        """A worker is gone: so is the unit that it ran, and nothing else."""
        task = self._end_task(worker)
        ended = worker.describe_exit(_TIMEOUT)
        task.error = EngineError(f"the worker of node {task.unit.node.name!r} {ended}")
        self._remove_worker(worker)

    def _remove_worker(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker)
        worker.kill()

    def _close(self) -> None:
        """End all workers: idle ones by themselves, the others where they are."""
        workers = [*self._idle, *self._busy]
        try:
            for worker in self._idle:
                worker.dismiss()
            for worker in self._busy:
                worker.interrupt()
            self._wait_for_ends(len(workers))
        finally:
            for worker in workers:
                worker.kill()
            self._selector.close()
            self._folders.remove()
            if self._reaper is not None:
                self._reaper.stop()

    def _wait_for_ends(self, left: int) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while left and time.monotonic() < deadline:
            events = self._selector.select(_RETRY_INTERVAL)
            for key, _ in events:
                if key.data.has_ended():
                    self._selector.unregister(key.data)
                    left -= 1
            if not events:  # a signal that comes just after Ctrl-C may be slept over
                for worker in self._busy:
                    worker.interrupt()
