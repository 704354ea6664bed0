"""Submitting nodes as tasks to a Dask cluster, which keeps their order itself."""

from __future__ import annotations

import logging
import pickle
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

import dask
from distributed import Client, Future, KilledWorker

from functionfuse.backends.builtin.daskback.parcels import (
    NodeFailed,
    give,
    pack,
    pack_unit,
    run_unit,
    taken_out,
)
from functionfuse.backends.builtin.daskback.placing import why_nowhere
from functionfuse.backends.literals import Lending
from functionfuse.engine import Capabilities
from functionfuse.errors import EngineError
from functionfuse.travel import described

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from functionfuse.backends.builtin.daskback.connecting import Connection
    from functionfuse.backends.literals import Lent
    from functionfuse.graph import Graph
    from functionfuse.units import Record, Unit

__all__ = ["DaskEngine"]

R = TypeVar("R")
_logger = logging.getLogger(__name__)


_LARGE: Final = 1_000_000  # bytes from which on a literal travels once, for all nodes that take it


@dataclass(eq=False, slots=True)
class _Handle:
    """A unit that Dask has, or that it could not be given."""

    name: str
    key: str
    future: Future[Any] | None = None
    literals: Sequence[Lent[Future[Any]]] = ()
    error: EngineError | None = None
    ended: bool = False
    awaited: int = 0  # how many of its inputs have not been told
    awaiting: list[_Handle] = field(default_factory=list)  # those that take it
    told: bool = False  # to the runner
    unneeded: bool = False  # nobody will ask for the value
    record: Record | None = None
    value: Any = None  # once it was fetched


class DaskEngine:
    """Runs units as tasks; their values stay on the workers."""

    name = "dask"
    capabilities = Capabilities(schedules=True, releases_early=True)

    def __init__(self, connection: Connection, graph: Graph) -> None:  # noqa: D107
        self._connection = connection
        self._run = uuid4().hex[:8]
        self._submitted = 0
        self._done: SimpleQueue[_Handle] = SimpleQueue()
        self._lending = Lending(graph, self._send_literal, _LARGE)
        self._flying: dict[
            str, _Handle
        ] = {}  # those that were not told, by the keys of their tasks
        self._held: dict[_Handle, None] = {}  # those whose values are on the workers, and in use
        self._refusals: dict[int, str] = {}  # why no worker can take some options, by their id

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop while the cluster is there.

        Without context managers of `contextlib`, which write on exceptions that go through them: some refuse.
        """
        self._client, endings = self._connection.open()
        try:
            self._mailbox = _mailbox_of(self._client)
            self._mailbox.open(self._client, self._run, self._receive)
            try:
                return body()
            finally:
                self._mailbox.close(self._client, self._run)
                self._lending.end()
                for handle in (*self._flying.values(), *self._held):
                    handle.future, handle.literals = None, ()
        finally:
            for end in endings:
                end()

    def _receive(self, key: str, record: bytes) -> None:
        """Take a worker's word for it that a unit has a value, or hear from the scheduler whether it is tried again."""
        handle = self._flying.get(key)
        if handle is None:
            return
        if record:
            handle.record = pickle.loads(record)
            if handle.unneeded:
                handle.future = None
            self._done.put(handle)
        elif (future := handle.future) is not None:
            future.add_done_callback(lambda _: self._done.put(handle))

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
        try:
            parcel, handle.literals = pack_unit(_repeatable(unit), self._lending)
        except Exception as error:
            message = (
                f"node {handle.name!r} cannot be sent to a worker ({described(error)}): "
                "its function, its arguments and its plugin must be picklable"
            )
            raise EngineError(message) from error
        literals = [literal.sent for literal in handle.literals]
        self._flying[handle.key] = handle
        handle.future = self._client.submit(
            run_unit,
            self._mailbox.topic,
            self._run,
            parcel,
            len(literals),
            *literals,
            *[parent.future for parent in inputs],
            key=handle.key,
            pure=False,
            **options,
        )

    def _send_literal(self, value: Any) -> Future[Any]:
        """A task that holds a large object, for all units that take it."""
        self._submitted += 1
        key = f"literal-{self._run}-{self._submitted}"
        parcel = pack(value)
        with dask.config.set({_WARN_FROM: max(parcel.nbytes * 2, 10_000_000)}):  # once is well
            return self._client.submit(give, parcel, key=key, pure=False)

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
            for ended in self._ended(pending):
                done += self._in_order(ended)
            done = [handle for handle in done if handle in pending]
        return done

    def _ended(self, pending: Collection[_Handle]) -> Iterator[_Handle]:
        try:
            yield self._done.get(timeout=_LOOK)
        except (
            Empty
        ):  # no worker speaks for what was given up; to ask Dask for a call for each costs too much
            for handle in pending:
                if handle.future is not None and handle.future.status in {"error", "cancelled"}:
                    yield handle
        while not self._done.empty():
            yield self._done.get()

    def _in_order(self, ended: _Handle) -> Iterator[_Handle]:
        """What can be told now that a unit has ended: nothing before all its inputs are.

        When one of several inputs fails, what needs it is lost, while the others may still run.
        """
        ready = [] if ended.awaited or ended.told else [ended]
        ended.ended = True
        while ready:
            handle = ready.pop()
            handle.told = True
            self._flying.pop(handle.key, None)
            yield handle
            for child in handle.awaiting:
                child.awaited -= 1
                child.ended |= handle.record is None
                if child.ended and not child.awaited and not child.told:
                    ready.append(child)
            handle.awaiting.clear()

    def record(self, handle: _Handle) -> Record:  # noqa: D102
        handle.literals = ()
        if handle.error:
            raise handle.error
        if handle.record is not None:
            if not handle.unneeded:
                self._held[handle] = None
            return handle.record
        raise _failure_of(handle)

    def fetch(self, handle: _Handle) -> Any:
        """The value of a unit; those of all that were not let go come along, in one request."""
        if handle in self._held:
            wanted = list(self._held)
            try:
                values = self._client.gather([other.future for other in wanted])
            except Exception:  # noqa: BLE001 - which one it is?
                wanted, values = [handle], [self._fetch(handle)]
            for other, value in zip(wanted, values, strict=True):
                other.value, other.future = taken_out(value), None
                del self._held[other]
        return handle.value

    @staticmethod
    def _fetch(handle: _Handle) -> Any:
        assert handle.future is not None
        try:
            return handle.future.result()
        except NodeFailed:  # its worker died with the value, and then it failed
            raise _error_of(handle, handle.future) from None
        except Exception as error:
            message = f"the result of node {handle.name!r} cannot be fetched: {described(error)}"
            raise EngineError(message) from error

    def release(self, handle: _Handle) -> None:
        """Let the value go; if the unit is on its way, as soon as a worker says that it has one."""
        handle.unneeded = True
        if handle.told or handle.record is not None:
            handle.future = handle.value = None
        self._held.pop(handle, None)

    def cancel(self, pending: Collection[_Handle]) -> None:
        """Take back what waits; what runs goes on, and nobody asks for it."""
        futures = [handle.future for handle in pending if handle.future is not None]
        if not futures or self._client.status != "running":
            return
        client, keys = self._client.id, [future.key for future in futures]
        self._client.cancel(futures)

        # that is on its way; once this is answered, none of them starts any more
        def release(dask_scheduler: Any) -> None:
            dask_scheduler.client_releases_keys(keys=keys, client=client)

        with suppress(Exception):  # a scheduler may take no functions
            self._client.run_on_scheduler(release)


_LOOK: Final = 0.5  # seconds between two looks at what nobody speaks for
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


def _failure_of(handle: _Handle) -> BaseException:
    """Why a unit has no value; its future is let go, which a traceback would hold otherwise."""
    future, handle.future = handle.future, None
    assert future is not None
    if future.status == "error":
        return _error_of(handle, future)
    return EngineError(f"Dask gave node {handle.name!r} up: its task is {future.status}")


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
    """What workers tell a client of the runs that are on."""

    def __init__(self, client: Client) -> None:
        self.topic = f"functionfuse-{client.id}"
        self._runs: dict[str, Callable[[str, bytes], object]] = {}
        self._lock = Lock()

    def open(self, client: Client, run: str, receive: Callable[[str, bytes], object]) -> None:
        """Let a run have what is for it: the keys of tasks and their records."""
        with self._lock:
            if not self._runs:
                client.subscribe_topic(self.topic, self._receive)
            self._runs[run] = receive

    def close(self, client: Client, run: str) -> None:
        """Have nothing more for a run."""
        with self._lock:
            del self._runs[run]
            if not self._runs and client.status == "running":
                client.unsubscribe_topic(self.topic)

    def _receive(self, event: tuple[float, tuple[str, str, bytes]]) -> None:
        _, (run, key, record) = event
        receive = self._runs.get(run)
        if receive is not None:
            receive(key, record)


_mailboxes: Final[WeakKeyDictionary[Client, _Mailbox]] = WeakKeyDictionary()


def _mailbox_of(client: Client) -> _Mailbox:
    """The one of a client: it hears of a topic in one place only."""
    return _mailboxes.setdefault(client, _Mailbox(client))
