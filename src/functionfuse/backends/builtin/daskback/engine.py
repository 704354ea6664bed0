"""Dask engine: submits units as tasks to a cluster, whose scheduler orders them."""

from __future__ import annotations

import pickle
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from distributed import Future

from functionfuse._transport.broadcast import Broadcaster
from functionfuse._transport.exceptions import describe_exception
from functionfuse._transport.pickled_value import pickle_value
from functionfuse.backends.builtin.daskback._compat import accept_large_graph, release_keys
from functionfuse.backends.builtin.daskback.event_subscriber import subscriber_of
from functionfuse.backends.builtin.daskback.failures import exception_of, failed_key
from functionfuse.backends.builtin.daskback.handles import Handle, observable_handle
from functionfuse.backends.builtin.daskback.resources import explain_unschedulable
from functionfuse.backends.builtin.daskback.tasks import (
    TaskExceptionEnvelope,
    hold,
    pickle_unit,
    run_unit,
    unwrap,
)
from functionfuse.engine import Cancelled, Capabilities
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from functionfuse._graph.graph import Graph
    from functionfuse._kernel.units import Record, Unit
    from functionfuse.backends.builtin.daskback.cluster import Connection

__all__ = ["DaskEngine"]

R = TypeVar("R")
_LARGE: Final = 1_000_000  # bytes; larger literals are broadcast


class DaskEngine:
    """Runs units as tasks; their values stay on the workers."""

    name = "dask"
    capabilities = Capabilities(schedules=True, releases_early=True)

    def __init__(self, connection: Connection, graph: Graph) -> None:  # noqa: D107
        self._connection = connection
        self._run = uuid4().hex[:8]
        self._submitted = 0
        self._done: SimpleQueue[Handle] = SimpleQueue()
        self._broadcaster = Broadcaster(graph, self._send_literal, _LARGE)
        #: Units that were not reported, by the keys of their tasks.
        self._in_flight: dict[str, Handle] = {}
        #: Units whose values are on the workers and may be fetched.
        self._held: dict[Handle, None] = {}
        #: Why no worker satisfies some options, by the id of the options; empty if one does.
        self._placement_errors: dict[int, str] = {}

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop while the cluster is there.

        Without context managers of `contextlib`: they set attributes of exceptions, which some exceptions refuse.
        """
        self._client, endings = self._connection.open()
        try:
            self._subscriber = subscriber_of(self._client)
            self._subscriber.open(self._client, self._run, self._receive)
            try:
                return body()
            finally:
                self._subscriber.close(self._client, self._run)
                self._broadcaster.end()
                for handle in (*self._in_flight.values(), *self._held):
                    handle.future, handle.literals = None, ()
        finally:
            for end in endings:
                end()

    def _receive(self, key: str, record: bytes) -> None:
        """Handle a worker's completion event; the record is empty if the unit failed, and it may be retried."""
        handle = self._in_flight.get(key)
        if handle is None:
            return
        if record:
            handle.record = pickle.loads(record)
            if handle.released:
                handle.release_if_observable()
        self._done.put(handle)

    def submit(  # noqa: D102
        self, unit: Unit, inputs: Sequence[Handle], options: Mapping[str, Any]
    ) -> Handle:
        self._submitted += 1
        name = unit.node.name
        handle = Handle(name, f"{_printable(name)}-{self._run}-{self._submitted}", self._submitted)
        handle.wait_for([parent for parent in inputs if not parent.reported])
        handle.upstream_failed = any(parent.failed for parent in inputs)
        try:
            if not handle.upstream_failed:
                self._check_placement(name, options)
                self._send(handle, unit, inputs, options)
        except EngineError as error:
            handle.error = error
        if handle.failed:
            self._done.put(handle)
        return handle

    def _send(
        self, handle: Handle, unit: Unit, inputs: Sequence[Handle], options: Mapping[str, Any]
    ) -> None:
        try:
            pickled, handle.literals = pickle_unit(_retryable(unit), self._broadcaster)
        except Exception as error:
            message = (
                f"node {handle.name!r} cannot be sent to a worker ({describe_exception(error)}): "
                "its function, its arguments and its plugin must be picklable"
            )
            raise EngineError(message) from error
        literals = [literal.sent for literal in handle.literals]
        self._in_flight[handle.key] = handle
        handle.future = self._client.submit(
            run_unit,
            self._subscriber.topic,
            self._run,
            handle.name,
            pickled,
            len(literals),
            *literals,
            *[parent.future for parent in inputs],
            key=handle.key,
            pure=False,
            **options,
        )

    def _send_literal(self, value: Any) -> Future[Any]:
        """Submit a task whose result is a large object, an input of all units that use it."""
        self._submitted += 1
        key = f"literal-{self._run}-{self._submitted}"
        pickled = pickle_value(value)
        with accept_large_graph(pickled.nbytes):
            return self._client.submit(hold, pickled, key=key, pure=False)

    def _check_placement(self, name: str, options: Mapping[str, Any]) -> None:
        if not options.get("resources") and not options.get("workers"):
            return
        if id(options) not in self._placement_errors:
            workers = self._client.scheduler_info()["workers"]
            # without workers, they may still connect
            self._placement_errors[id(options)] = (
                explain_unschedulable(options, workers) if workers else ""
            )
        if self._placement_errors[id(options)]:
            message = f"node {name!r} {self._placement_errors[id(options)]}"
            raise EngineError(message)

    def wait(self, pending: Collection[Handle]) -> Iterable[Handle]:  # noqa: D102
        done: list[Handle] = []
        while not done:
            for ended in self._wait_for_outcomes(pending):
                done += self._reportable(ended)
            done = [handle for handle in done if handle in pending]
        return done

    def _wait_for_outcomes(self, pending: Collection[Handle]) -> Iterator[Handle]:
        try:
            yield from self._with_known_outcome(self._done.get(timeout=_POLL_INTERVAL))
        except Empty:
            # no worker sends an event for a cancelled task; a callback for each future would cost too much
            for handle in pending:
                if handle.future is not None and handle.future.status in _FAILED_STATUSES:
                    yield from self._with_known_outcome(handle)
        while not self._done.empty():
            yield from self._with_known_outcome(self._done.get())

    def _with_known_outcome(self, handle: Handle) -> Iterator[Handle]:
        """Units whose outcome is known after an event of a unit or of its task."""
        if handle.record is not None or handle.failed:
            yield handle
        elif (there := observable_handle(handle)) is not None and there.future is not None:
            if there.future.status in _FAILED_STATUSES:
                yield from self._failed(there, there.future)
            elif there.future.status == "pending":  # it is retried
                there.future.add_done_callback(lambda _: self._done.put(there))

    def _failed(self, handle: Handle, future: Future[Any]) -> Iterator[Handle]:
        """Units that caused the failure of a task: its own, or units upstream of it."""
        failed = handle.unfinished_ancestors()
        if future.status == "error":
            blamed = self._in_flight.get(failed_key(future))
            if blamed is None or blamed.record:
                # a completed task is repeated when its worker dies, and may fail then: its dependent has failed,
                # and not units that are observed at other tasks, which may still run
                failed = (
                    [other for other in failed if observable_handle(other) is handle] or failed
                )[:1]
            else:
                failed = [blamed]
        for other in failed:
            other.error = exception_of(other.name, future)
            yield other

    def _reportable(self, ended: Handle) -> Iterator[Handle]:
        """Units that can be reported after a unit has ended: each is reported after all its inputs.

        When one of several inputs fails, a dependent fails upstream while its other inputs may still run.
        """
        ready = [] if ended.pending_inputs or ended.reported else [ended]
        while ready:
            handle = ready.pop()
            handle.reported = True
            self._in_flight.pop(handle.key, None)
            if handle.failed or handle.released:
                handle.release_if_observable()
            yield handle
            ready += handle.report_to_dependents()

    def record(self, handle: Handle) -> Record:
        """The record of a unit.

        Raises:
            Cancelled: A unit upstream of it failed.
            EngineError: Dask could not run it.
            BaseException: The exception of the user's function.
        """
        handle.literals = ()
        if handle.error is not None:
            raise handle.error
        if handle.record is None:
            raise Cancelled
        if not handle.released:
            self._held[handle] = None
        return handle.record

    def fetch(self, handle: Handle) -> Any:
        """The value of a unit; one request fetches the values of all units that were not released."""
        if handle in self._held:
            wanted = list(self._held)
            try:
                values = self._client.gather([other.future for other in wanted])
            except Exception:  # noqa: BLE001 - of any of the units
                wanted, values = [handle], [self._fetch(handle)]
            for other, value in zip(wanted, values, strict=True):
                other.value, other.future = value, None
                del self._held[other]
        handle.value = unwrap(handle.value)
        return handle.value

    @staticmethod
    def _fetch(handle: Handle) -> Any:
        assert handle.future is not None
        try:
            return handle.future.result()
        except (
            TaskExceptionEnvelope
        ):  # its worker died with the value, and the repeated task failed
            raise exception_of(handle.name, handle.future) from None
        except Exception as error:
            message = (
                f"the result of node {handle.name!r} cannot be fetched: {describe_exception(error)}"
            )
            raise EngineError(message) from error

    def release(self, handle: Handle) -> None:
        """Release the value: now if the outcome can be observed elsewhere, otherwise when the unit completes."""
        handle.released = True
        handle.release_if_observable()
        self._held.pop(handle, None)

    def cancel(self, pending: Collection[Handle]) -> None:
        """Cancel queued units; running units finish, and their values are not fetched."""
        if not pending or self._client.status != "running":
            return
        cancelled = set(pending)
        others = [
            handle
            for handle in self._in_flight.values()
            if handle.future is None and handle.record is None and handle not in cancelled
        ]
        for other in others:  # their outcome was observed at a unit that is cancelled now
            other.future = Future(other.key, self._client)
        kept, keys = [other.key for other in others], [handle.key for handle in pending]
        with suppress(Exception):  # the scheduler may have ended
            self._subscriber.sync(self._client)
            release_keys(self._client, keys, kept)
        for handle in pending:
            handle.release_future()


_POLL_INTERVAL: Final = 0.5  # seconds between two checks of tasks without events
_FAILED_STATUSES: Final = frozenset({"error", "cancelled"})  # of tasks without a value


def _printable(name: str) -> str:
    """A name as text that can be encoded in UTF-8, as keys of Dask must be."""
    return name.encode("utf-8", "backslashreplace").decode()


def _retryable(unit: Unit) -> Unit:
    """A copy of a unit that copies the instances among its inputs before it calls a method.

    Dask may run the unit again, on retries and when workers die, with the same inputs: they must not change.
    """
    outside = unit.node.parents
    parts = [
        part._replace(exclusive_instance=False)
        if part.node.state and part.node.state.number in outside
        else part
        for part in unit.subunits
    ]
    return (
        unit._replace(exclusive_instance=False, subunits=tuple(parts))
        if unit.exclusive_instance or parts
        else unit
    )
