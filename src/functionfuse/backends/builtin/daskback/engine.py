"""Submitting nodes as tasks to a Dask cluster, which keeps their order itself."""

from __future__ import annotations

import logging
import pickle
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

import dask
from distributed import Client, Future, KilledWorker

from functionfuse.backends.builtin.daskback.parcels import (
    NodeFailed,
    give,
    pack,
    run_unit,
)
from functionfuse.backends.builtin.daskback.placing import why_nowhere
from functionfuse.engine import Capabilities
from functionfuse.errors import EngineError
from functionfuse.travel import described

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from functionfuse.backends.builtin.daskback.connecting import Connection
    from functionfuse.kernel import Record, Unit

__all__ = ["DaskEngine"]

R = TypeVar("R")
_logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Literal:
    """A large object that several units take, and that travels once."""

    value: Any  # kept, so that its id stays its own
    future: Future[Any]


@dataclass(eq=False, slots=True)
class _Handle:
    """A unit that Dask has, or that it could not be given."""

    name: str
    key: str
    future: Future[Any] | None = None
    literals: Sequence[_Literal] = ()
    error: EngineError | None = None
    ended: bool = False  # says Dask
    awaited: int = 0  # how many of its inputs have not been told
    awaiting: list[_Handle] = field(default_factory=list)  # those that take it
    told: bool = False  # to the runner


class DaskEngine:
    """Runs units as tasks; their values stay on the workers."""

    name = "dask"
    capabilities = Capabilities(schedules=True)

    def __init__(self, connection: Connection) -> None:  # noqa: D107
        self._connection = connection
        self._run = uuid4().hex[:8]
        self._submitted = 0
        self._done: SimpleQueue[_Handle] = SimpleQueue()
        self._literals: WeakValueDictionary[int, _Literal] = WeakValueDictionary()
        self._refusals: dict[int, str] = {}  # why no worker can take some options, by their id

    def drive(self, body: Callable[[], R]) -> R:  # noqa: D102 - as in Engine
        with self._connection.open() as self._client:
            self._mailbox = _mailbox_of(self._client)
            with self._mailbox.opened(self._client, self._run) as self._records:
                return body()

    def submit(  # noqa: D102
        self, unit: Unit, inputs: Sequence[_Handle], options: Mapping[str, Any]
    ) -> _Handle:
        self._submitted += 1
        name = unit.step.name
        handle = _Handle(name, f"{_printable(name)}-{self._run}-{self._submitted}")
        for parent in inputs:
            if not parent.told:
                parent.awaiting.append(handle)
                handle.awaited += 1
        lost = [parent.error for parent in inputs if parent.error]
        try:
            if lost:
                raise lost[0]
            self._check_place(name, options)
            self._send(handle, unit, inputs, options)
        except EngineError as error:
            handle.error = error
            self._done.put(handle)
        return handle

    def _send(
        self, handle: _Handle, unit: Unit, inputs: Sequence[_Handle], options: Mapping[str, Any]
    ) -> None:
        large: list[Any] = []
        try:
            parcel = pack(_repeatable(unit), large)
            handle.literals = [self._literal(value) for value in large]
        except Exception as error:
            message = (
                f"node {handle.name!r} cannot be sent to a worker ({described(error)}): "
                "its function, its arguments and its plugin must be picklable"
            )
            raise EngineError(message) from error
        literals = [literal.future for literal in handle.literals]
        handle.future = self._client.submit(
            run_unit,
            self._mailbox.topic,
            self._run,
            parcel,
            len(large),
            *literals,
            *[parent.future for parent in inputs],
            key=handle.key,
            pure=False,
            **options,
        )
        handle.future.add_done_callback(lambda _: self._done.put(handle))

    def _literal(self, value: Any) -> _Literal:
        """The task that holds a large object; one for all units that take it."""
        literal = self._literals.get(id(value))
        if literal is None:
            self._submitted += 1
            key = f"literal-{self._run}-{self._submitted}"
            parcel = pack(value)
            with dask.config.set({_WARN_FROM: max(parcel.nbytes * 2, 10_000_000)}):  # once is well
                future = self._client.submit(give, parcel, key=key, pure=False)
            literal = self._literals[id(value)] = _Literal(value, future)
        return literal

    def _check_place(self, name: str, options: Mapping[str, Any]) -> None:
        if not options.get("resources") and not options.get("workers"):
            return
        if id(options) not in self._refusals:
            workers = self._client.scheduler_info()["workers"]
            # without any, they may have yet to come
            self._refusals[id(options)] = why_nowhere(options, workers) if workers else ""
        if self._refusals[id(options)]:
            message = f"node {name!r} {self._refusals[id(options)]}"
            raise EngineError(message)

    def wait(self, pending: Collection[_Handle]) -> Iterable[_Handle]:  # noqa: D102
        done: list[_Handle] = []
        while not done:
            done += self._in_order(self._done.get())
            while not self._done.empty():
                done += self._in_order(self._done.get())
            done = [handle for handle in done if handle in pending]
        return done

    @staticmethod
    def _in_order(ended: _Handle) -> Iterator[_Handle]:
        """What can be told now that a unit has ended: nothing before all its inputs are.

        When one of several inputs fails, Dask at once gives those up that need it, while the others may still run.
        """
        ended.ended = True
        ready = [ended] if not ended.awaited else []
        while ready:
            handle = ready.pop()
            handle.told = True
            yield handle
            for child in handle.awaiting:
                child.awaited -= 1
                if child.ended and not child.awaited:
                    ready.append(child)
            handle.awaiting.clear()

    def record(self, handle: _Handle) -> Record:  # noqa: D102
        handle.literals = ()
        if handle.error:
            raise handle.error
        assert handle.future is not None
        if handle.future.status == "error":
            raise _error_of(handle, handle.future)
        record = self._records.pop(handle.key, None)
        if record is None:
            message = f"Dask gave node {handle.name!r} up: its task is {handle.future.status}"
            raise EngineError(message)
        return record

    def fetch(self, handle: _Handle) -> Any:  # noqa: D102
        assert handle.future is not None
        try:
            return handle.future.result()
        except NodeFailed:  # its worker died with the value, and then it failed
            raise _error_of(handle, handle.future) from None
        except Exception as error:
            message = f"the result of node {handle.name!r} cannot be fetched: {described(error)}"
            raise EngineError(message) from error

    def release(self, handle: _Handle) -> None:  # noqa: D102
        handle.future = None

    def cancel(self, pending: Collection[_Handle]) -> None:
        """Take back what waits; what runs goes on, and nobody asks for it."""
        futures = [handle.future for handle in pending if handle.future is not None]
        if futures and self._client.status == "running":
            self._client.cancel(futures)


_WARN_FROM: Final = "distributed.admin.large-graph-warning-threshold"


def _printable(name: str) -> str:
    """A name that any server takes as text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _repeatable(unit: Unit) -> Unit:
    """The same unit, to work on copies of the instances that come from outside.

    Dask may run it again, on retries and when workers die: what it takes must stay as it is.
    """
    outside = unit.step.parents
    parts = [
        part._replace(sole=False) if part.step.state and part.step.state.number in outside else part
        for part in unit.parts
    ]
    return unit._replace(sole=False, parts=tuple(parts)) if unit.sole or parts else unit


def _error_of(handle: _Handle, future: Future[Any]) -> BaseException:
    """The exception that a node raised, or what else became of its task."""
    error: BaseException = future.exception()
    if isinstance(error, NodeFailed):
        try:
            own: BaseException = pickle.loads(error.error)
        except Exception as reason:  # noqa: BLE001 - whatever the user's classes raise
            message = (
                f"node {handle.name!r} raised {error.summary}, "
                f"which cannot be made again here ({described(reason)})"
            )
            return EngineError(message)
        return own.with_traceback(future.traceback())
    if isinstance(error, KilledWorker):
        message = (
            f"node {handle.name!r} was given up: {error.allowed_failures + 1} workers died while they "
            f"had it, the last at {error.last_worker.address} (KilledWorker). "
            "It may have crashed or needed too much memory: the workers' logs say more"
        )
    else:
        message = f"Dask could not run node {handle.name!r}: {described(error)}"
    failed = EngineError(message)
    failed.__cause__ = error
    return failed


# ---- records ----


class _Mailbox:
    """The records that workers send to a client, for the runs that are on."""

    def __init__(self, client: Client) -> None:
        self.topic = f"functionfuse-{client.id}"
        self._runs: dict[str, dict[str, Record]] = {}
        self._lock = Lock()

    @contextmanager
    def opened(self, client: Client, run: str) -> Iterator[dict[str, Record]]:
        """Give the records of one run, by the keys of their tasks."""
        with self._lock:
            if not self._runs:
                client.subscribe_topic(self.topic, self._receive)
            records = self._runs[run] = {}
        try:
            yield records
        finally:
            with self._lock:
                del self._runs[run]
                if not self._runs and client.status == "running":
                    client.unsubscribe_topic(self.topic)

    def _receive(self, event: tuple[float, tuple[str, str, bytes]]) -> None:
        _, (run, key, record) = event
        if run in self._runs:
            self._runs[run][key] = pickle.loads(record)


_mailboxes: Final[WeakKeyDictionary[Client, _Mailbox]] = WeakKeyDictionary()


def _mailbox_of(client: Client) -> _Mailbox:
    """The one of a client: it hears of a topic in one place only."""
    return _mailboxes.setdefault(client, _Mailbox(client))
