"""Ray engine: submits each unit as soon as it is known; Ray orders them by their inputs."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import ray
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from functionfuse._graph.graph import references
from functionfuse._graph.nodes import Kind
from functionfuse._transport.broadcast import Broadcaster
from functionfuse._transport.exceptions import ExceptionEnvelope, describe_exception
from functionfuse.backends.builtin.rayback._compat import (
    cause_of,
    hide_unhandled_errors,
    start_task,
)
from functionfuse.backends.builtin.rayback.cluster import Session
from functionfuse.backends.builtin.rayback.envelopes import REDUCERS, dumps, unwrap, wrap
from functionfuse.backends.builtin.rayback.tasks import (
    InstanceActor,
    RetryableExceptionEnvelope,
    pickle_unit,
    run_unit,
)
from functionfuse.engine import Cancelled, Capabilities
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from functionfuse._graph.graph import Graph, GraphNode
    from functionfuse._kernel.units import Record, Unit
    from functionfuse._transport.broadcast import BroadcastRef

__all__ = ["RayEngine"]

R = TypeVar("R")
_LARGE: Final = 100_000  # bytes; larger functions and literals are put into Ray's store once
#: Units in one call of `ray.wait`, and its timeout in seconds: a call for each unit costs as much as running it.
_BATCH: Final = 100
_POLL_TIMEOUT: Final = 0.02
_CHECK_INTERVAL: Final = 1.0  # seconds between two checks whether Ray was shut down
_GRACE: Final = 1.0  # seconds that nodes have to end when a run is interrupted
#: Created once: Ray keeps each remote function and class as long as the process lives.
_task: Final[Any] = ray.remote(run_unit)
_actor: Final[Any] = ray.remote(InstanceActor)
_DEATHS: Final = (WorkerCrashedError, ActorDiedError, NodeDiedError, OutOfMemoryError)


@dataclass(eq=False, slots=True)
class _Handle:
    """A submitted unit, or one that could not be submitted."""

    name: str
    value: Any = None  # Ray's reference to the value
    record: Any = None  # to the record, which is fetched without the value
    actor: Any = None  # of the instance that this unit created or called
    answer: bytes | None = None  # the record, fetched together with others
    recorded: bool = False  # its record was returned
    released: bool = False  # its value is not fetched
    error: BaseException | None = None  # why it could not be submitted


class _PickledUnit(NamedTuple):
    """A pickled unit, in the parts that are sent."""

    code: Any  # its function: pickled, or Ray's reference to it
    packed: bytes  # the rest of it
    refs: Sequence[BroadcastRef[Any]]  # its large arguments

    @property
    def literals(self) -> list[Any]:
        return [literal.sent for literal in self.refs]


class RayEngine:
    """Runs units as Ray tasks, and those on instances in an actor for each instance."""

    name = "ray"

    def __init__(self, graph: Graph, *, actors: bool, read_only: bool = False) -> None:
        """Use the cluster that this process is connected to.

        Args:
            graph: The graph of the run.
            actors: Keep instances of decorated classes in actors, instead of passing them from task to task.
            read_only: Nodes take Ray's read-only arrays, instead of a copy each.
        """
        self.capabilities = Capabilities(schedules=True, cancels_queued=True, releases_early=True)
        self._actors = actors
        self._returned_instances = _instances_used(graph) if actors else frozenset()
        self._code: dict[int, tuple[Any, Any]] = {}  # pickled functions, by id of the function
        self._read_only = read_only
        self._broadcaster = Broadcaster(graph, self._put, _LARGE, dict(REDUCERS))
        self._session = Session()
        hide_unhandled_errors()
        self._failed: list[_Handle] = []  # could not be submitted, and not reported yet
        self._cancelled: list[_Handle] = []  # by the last call of cancel

    def submit(  # noqa: D102 - as in Engine
        self, unit: Unit, inputs: Sequence[_Handle], options: Mapping[str, Any]
    ) -> _Handle:
        name = unit.node.name
        self._session.check()
        for handle in inputs:
            if handle.error is not None:
                return self._fail(name, handle.error)
        try:
            retried = options.get("retry_exceptions")
            types = retried if isinstance(retried, (list, tuple)) else ()
            packed = pickle_unit(unit, types, self._broadcaster, read_only=self._read_only)
            sent = _PickledUnit(self._pickle_function(unit.node.func), *packed)
        except Exception as error:  # noqa: BLE001 - pickling the user's objects raises anything
            message = (
                f"node {name!r} cannot be sent to a worker, since its function or an argument "
                f"cannot be pickled: {describe_exception(error)}. Create objects that cannot be pickled in the node"
            )
            failure = EngineError(message)
            failure.__cause__ = error
            return self._fail(name, failure)
        if self._actors and unit.node.kind is not Kind.FUNCTION and not unit.load:
            return self._call(unit, sent, inputs, options)
        if unit.load:  # loading requires neither resources nor retries
            options = {key: options[key] for key in options if key == "runtime_env"}
        elif types:
            options = {**options, "retry_exceptions": [RetryableExceptionEnvelope]}
        given = {"name": name, "max_retries": 0, **options, "num_returns": 2}
        values = [handle.value for handle in inputs]
        value, record = start_task(_task, given, (sent.code, sent.packed, *sent.literals, *values))
        return _Handle(name, value, record)

    def _fail(self, name: str, error: BaseException) -> _Handle:
        handle = _Handle(name, error=error)
        self._failed.append(handle)
        return handle

    def _call(
        self, unit: Unit, sent: _PickledUnit, inputs: Sequence[_Handle], options: Mapping[str, Any]
    ) -> _Handle:
        """Submit a constructor or method to the actor of its instance."""
        node, before = unit.node, None
        actor: Any
        values = [handle.value for handle in inputs]
        if node.state is None:
            actor = _actor.options(**options).remote()
        else:
            position = node.parents.index(node.state.number)
            actor, before = inputs[position].actor, inputs[position].record
            if not _refers_to(node, node.state.number):
                values[position] = None
        return_instance = node.number in self._returned_instances
        method = actor.run.options(name=node.name, num_returns=2)
        value, record = method.remote(
            sent.code, sent.packed, return_instance, before, *sent.literals, *values
        )
        return _Handle(node.name, value, record, actor)

    def _pickle_function(self, function: Any) -> Any:
        """Pickle a function, once in a run; a large one is put into Ray's store."""
        known = self._code.get(id(function))
        if known is None:
            code = dumps(function)
            known = function, ray.put(code) if len(code) > _LARGE else code
            self._code[id(function)] = known  # holds the function, so that its id is not reused
        return known[1]

    def _put(self, literal: Any) -> Any:
        """Put a large object into Ray's store, for all nodes that take it."""
        return ray.put(wrap(literal, "a large argument", read_only=self._read_only))

    def wait(self, pending: Collection[_Handle]) -> Iterable[_Handle]:  # noqa: D102
        failed, self._failed = self._failed, []
        failed = [handle for handle in failed if handle in pending]
        if failed:
            return failed
        self._session.check()
        handles = {handle.record: handle for handle in islice(pending, _BATCH)}
        # for a quarter of them, so that a run with few units in flight soon submits the next
        done, _ = ray.wait([*handles], num_returns=-(-len(handles) // 4), timeout=_POLL_TIMEOUT)
        if not done:
            handles = {handle.record: handle for handle in pending}
            while not ray.wait([*handles], num_returns=1, timeout=_CHECK_INTERVAL)[0]:
                self._session.check()
            done, _ = ray.wait([*handles], num_returns=len(handles), timeout=0)
        finished = [handles[reference] for reference in done]
        _fetch_records(finished)
        return finished

    def record(self, handle: _Handle) -> Record:
        """The record of a unit.

        Raises:
            Cancelled: It was cancelled before it started.
            EngineError: Its worker died, or Ray could not run it.
            BaseException: The exception of the user's function.
        """
        if handle.error is not None:
            raise handle.error
        self._session.check()
        handle.recorded = True
        answer = handle.answer or _get(handle.record, handle.name)
        handle.answer = None
        if handle.released:
            self.release(handle)
        return cast("Record", pickle.loads(answer))

    def fetch(self, handle: _Handle) -> Any:  # noqa: D102
        self._session.check()
        return unwrap(_get(handle.value, handle.name))

    def release(self, handle: _Handle) -> None:
        """Drop the references: Ray frees the value when no task takes it, and ends an actor without references."""
        handle.value, handle.released = None, True
        if handle.recorded:
            handle.record = handle.actor = None

    def cancel(self, pending: Collection[_Handle]) -> None:
        """Cancel queued units; running ones ignore it."""
        if self._session.is_over:
            return
        self._cancelled = [handle for handle in pending if handle.record is not None]
        for handle in self._cancelled:
            ray.cancel(handle.record, recursive=False)

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop; after an exception, end units that were cancelled but still run."""
        try:
            return body()
        except BaseException as error:
            if self._session.is_over:
                if not isinstance(error, EngineError | KeyboardInterrupt):
                    self._session.check()  # raises the reason, which Ray's errors, such as SystemExit, lack
            elif self._cancelled:
                self._end_cancelled()
            raise

    def _end_cancelled(self) -> None:
        """End cancelled units that still run, with their workers: they would occupy the cores of the next run."""
        handles = {handle.record: handle for handle in self._cancelled}
        _, running = ray.wait([*handles], num_returns=len(handles), timeout=_GRACE)
        for record in running:
            if handles[record].actor is None:
                ray.cancel(record, force=True, recursive=False)
            else:
                ray.kill(handles[record].actor)


def _instances_used(graph: Graph) -> frozenset[int]:
    """Numbers of the nodes whose instance other nodes take, in addition to the next method call."""
    followed = Counter(node.state.number for node in graph if node.state is not None)
    readers = graph.instance_uses
    return frozenset(number for number in readers if readers[number] > followed[number])


def _refers_to(node: GraphNode, number: int) -> bool:
    """Tell whether the arguments of a method refer to a node, apart from its own instance."""
    arguments = (*node.args, *node.kwargs.values())
    return any(ref.number == number for ref in references(arguments))


# ---- records and values ----


def _fetch_records(handles: Sequence[_Handle]) -> None:
    """Fetch the records of finished units in one call, which takes a third of the time; none if a unit failed."""
    try:
        answers = ray.get([handle.record for handle in handles])
    except Exception:  # noqa: BLE001 - `record` fetches each and raises its own exception
        return
    for handle, answer in zip(handles, answers, strict=True):
        handle.answer = answer


def _get(reference: Any, name: str) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(
            cause_of(error), TaskCancelledError
        ):  # its worker had received, but not started it
            raise Cancelled from error
        original = _user_exception(error)
    except TaskCancelledError as error:
        raise Cancelled from error
    except _DEATHS as error:
        message = (
            f"the worker of node {name!r} died before the node was done: {describe_exception(error)}\n"
            "Nothing was run again: whether that is safe is known to you alone. "
            "query(...).set_remote_args({'max_retries': 3}) runs functions again"
        )
        raise EngineError(message) from error
    except RayError as error:
        message = f"Ray could not run node {name!r}: {describe_exception(error)}"
        raise EngineError(message) from error
    raise original  # outside of the except block, or Ray's error would become its context


def _user_exception(error: RayTaskError) -> BaseException:
    """The exception that was raised in the worker, or an `EngineError` of Ray's."""
    cause = cause_of(error)
    if isinstance(cause, ExceptionEnvelope):
        return cause.error
    if isinstance(cause, EngineError):
        return cause
    return EngineError(f"Ray could not finish the node: {describe_exception(cause)}")
