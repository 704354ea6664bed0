"""Process engine: runs units in worker processes of this machine."""

from __future__ import annotations

import pickle
import selectors
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from functionfuse._common.recursion import deep_recursion
from functionfuse._common.stdio import open_closed_streams
from functionfuse._common.terminal_signals import terminal_signals_blocked
from functionfuse._context.forwarding import Forwarded
from functionfuse._transport.exceptions import describe_exception, load_exception
from functionfuse._transport.shared_memory import BufferPool, unpickle
from functionfuse.backends.builtin.pool.reaper import Reaper
from functionfuse.backends.builtin.pool.run_folders import RunFolders
from functionfuse.backends.builtin.pool.task_messages import MessageBuilder, own_buffer
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
_RETRY_INTERVAL: Final = 0.1  # seconds until a worker that has not ended is interrupted again
_TIMEOUT: Final = 5.0  # seconds that a worker has to end before it is killed
_UNSET: Final = object()


class _Task:
    """A unit, its inputs and its outcome."""

    __slots__ = ("error", "inputs", "message", "payload", "record", "unit", "value")

    def __init__(self, unit: Unit, inputs: list[Payload]) -> None:
        self.unit = unit
        self.inputs = inputs
        #: Held until the unit is done: its shared buffers are deleted with it.
        self.message: TaskMessage | None = None
        self.payload: Payload | None = None
        self.record: Record | None = None
        self.error: BaseException | None = None
        self.value: Any = _UNSET


class ProcessEngine:
    """Runs units in worker processes, which live for one run.

    It starts a worker when a unit finds none idle, up to a maximum.
    Values stay pickled in this process: only `fetch` unpickles.
    """

    name = "local"
    capabilities = Capabilities()

    def __init__(self, workers: int) -> None:  # noqa: D107
        self._max_workers = workers
        open_closed_streams()  # before sockets get their descriptors
        self._folders = RunFolders()
        self._reaper: Reaper | None = None  # started with the first worker
        self._messages = MessageBuilder(BufferPool(self._folders.paths, "run"))
        self._selector = selectors.DefaultSelector()
        self._names = (f"worker{number}" for number in count())
        self._idle: list[WorkerProcess] = []
        self._busy: dict[WorkerProcess, _Task] = {}
        self._queue: deque[_Task] = deque()
        self._done: list[_Task] = []
        self._forwarded = Forwarded()
        self._nodes: dict[int, str] = {}  # names of submitted nodes, by number

    def submit(self, unit: Unit, inputs: Sequence[_Task], _: Mapping[str, Any]) -> _Task:
        """Queue a unit, and send it if a worker is idle or can be started."""
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
        """Block until a unit is done; return all that are done."""
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
        """The value; it is unpickled once.

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
        """Release the value; units in flight that take it keep its buffers until they are done."""
        handle.payload = None
        handle.value = _UNSET

    def cancel(self, pending: Collection[_Task]) -> None:
        """Cancel queued units."""
        cancelled = set(pending)
        self._queue = deque(task for task in self._queue if task not in cancelled)

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop; end all worker processes and remove the folders afterwards."""
        try:
            return body()
        finally:
            self._close()

    # ---- sending units ----

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
            task.message = self._messages.build(task.unit, task.inputs, worker.shared_objects)
        except EngineError as error:
            self._free_worker(worker).error = error
            return
        try:
            with deep_recursion:
                stream = pickle.dumps(task.message, protocol=5)
            worker.channel.send(stream)
        except ConnectionError:  # it did not receive the complete unit, which therefore has not run
            if worker.has_replied:
                self._queue.appendleft(self._busy.pop(worker))
                self._remove_worker(worker)
            else:
                self._handle_worker_death(worker)

    # ---- receiving replies ----

    def _receive_reply(self, worker: WorkerProcess) -> None:
        try:
            reply = self._next_reply(worker)
        except (EOFError, ConnectionError):
            if worker in self._busy:
                self._handle_worker_death(worker)
            else:
                self._idle.remove(worker)
                self._remove_worker(worker)
            return
        if reply is None:
            return
        worker.has_replied = True
        task = self._free_worker(worker)
        if reply.kind == "value":
            task.record, task.payload = reply.record, own_buffer(reply.payload)
        else:
            worker.shared_objects.clear()  # one of them may be the object that could not be unpickled
            task.error = self._error(reply, task.unit.node.name)

    def _next_reply(self, worker: WorkerProcess) -> Reply | None:
        """Deliver received log records and warnings; return the reply, or None if it has not arrived."""
        while True:
            reply: Reply = pickle.loads(worker.channel.receive())
            if reply.kind != "message":
                return reply
            self._forwarded.deliver([cast("bytes", reply.payload)])
            if not worker.channel.has_received:
                return None

    def _free_worker(self, worker: WorkerProcess) -> _Task:
        """Mark a worker as idle, and its unit as done."""
        self._idle.append(worker)
        return self._end_task(worker)

    def _end_task(self, worker: WorkerProcess) -> _Task:
        task = self._busy.pop(worker)
        task.inputs, task.message = [], None
        self._done.append(task)
        return task

    def _error(self, reply: Reply, name: str) -> BaseException:
        """The exception of a unit without a value."""
        assert isinstance(reply.payload, bytes)
        if reply.kind == "error":
            return load_exception(reply.payload)
        reason = reply.payload.decode()
        if reply.kind == "send":
            return EngineError(
                f"the result of node {name!r} cannot be sent to another process: {reason}. "
                "Return something that can be pickled, run the nodes that take it in one unit with it by fuse(), "
                "or run with kind='threads' or without workers"
            )
        if reply.parent is not None:
            return EngineError(
                f"the result of node {self._nodes[reply.parent]!r}, which node {name!r} takes, "
                f"cannot be unpickled in a worker: {reason}"
            )
        return EngineError(
            f"node {name!r} cannot be unpickled in a worker: {reason}. "
            "The modules of its function and arguments must be importable there, by the sys.path of this process"
        )

    # ---- ending workers ----

    def _handle_worker_death(self, worker: WorkerProcess) -> None:
        """Fail the unit of a worker that has died, and remove the worker."""
        task = self._end_task(worker)
        ended = worker.describe_exit(_TIMEOUT)
        task.error = EngineError(f"the worker of node {task.unit.node.name!r} {ended}")
        self._remove_worker(worker)

    def _remove_worker(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker)
        worker.kill()

    def _close(self) -> None:
        """End all workers: dismiss idle ones, and interrupt the others."""
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
            if not events:  # a worker may miss a signal that arrives just after Ctrl-C
                for worker in self._busy:
                    worker.interrupt()
