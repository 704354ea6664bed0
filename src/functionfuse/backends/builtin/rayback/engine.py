"""The engine: gives units to Ray as soon as they are known, and lets Ray keep their order."""

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
from functionfuse.backends.builtin.rayback.envelopes import REDUCERS, dumps, unwrapped, wrapped
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
_LARGE: Final = (
    100_000  # bytes of a function or literal that go into the store once, not along with each node
)
_BATCH: Final = 100  # nodes that are waited for together ...
_POLL_TIMEOUT: Final = (
    0.02  # ... for so many seconds at most: to wait for each by itself costs as much as to run it
)
_CHECK_INTERVAL: Final = 1.0  # seconds between two looks whether Ray was shut down
_GRACE: Final = 1.0  # seconds that nodes have to end by themselves when a run is interrupted
#: Made once: Ray keeps each remote function and class as long as the process lives.
_task: Final[Any] = ray.remote(run_unit)
_actor: Final[Any] = ray.remote(InstanceActor)
_DEATHS: Final = (WorkerCrashedError, ActorDiedError, NodeDiedError, OutOfMemoryError)


@dataclass(eq=False, slots=True)
class _Handle:
    """A unit that Ray has."""

    name: str
    value: Any = None  # Ray's reference to the value
    record: Any = None  # to the record, which is fetched without the value
    actor: Any = None  # where the instance is that this unit made or called
    answer: bytes | None = None  # the record, fetched together with others
    recorded: bool = False  # its record was given
    released: bool = False  # nobody will ask for the value
    error: BaseException | None = None  # it never reached Ray


class _Sent(NamedTuple):
    """A unit as it is sent."""

    code: Any  # its function
    packed: bytes
    refs: Sequence[BroadcastRef[Any]]  # the large objects that it takes

    @property
    def literals(self) -> list[Any]:
        return [literal.sent for literal in self.refs]


class RayEngine:
    """Runs units as Ray tasks, and those on instances in an actor for each instance."""

    name = "ray"

    def __init__(self, graph: Graph, *, actors: bool, read_only: bool = False) -> None:
        """Use the cluster that this process is connected to.

        Args:
            graph: What is run.
            actors: Instances of decorated classes stay in actors, instead of going from task to task.
            read_only: Arrays are given out as Ray does it, instead of a copy for each node that takes one.
        """
        self.capabilities = Capabilities(schedules=True, cancels_queued=True, releases_early=True)
        self._actors = actors
        self._returned_instances = _instances_taken(graph) if actors else frozenset()
        self._code: dict[int, tuple[Any, Any]] = {}  # functions as they are sent, by id
        self._read_only = read_only
        self._broadcaster = Broadcaster(graph, self._put, _LARGE, dict(REDUCERS))
        self._session = Session()
        hide_unhandled_errors()
        self._failed: list[_Handle] = []  # what never reached Ray, and nobody was told of
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
            sent = _Sent(self._pickled_function(unit.node.func), *packed)
        except Exception as error:  # noqa: BLE001 - whatever the user's objects raise
            message = (
                f"node {name!r} cannot be sent to a worker, since its function or what it is given "
                f"cannot be pickled: {describe_exception(error)}. Make what cannot be pickled inside of a node"
            )
            failure = EngineError(message)
            failure.__cause__ = error
            return self._fail(name, failure)
        if self._actors and unit.node.kind is not Kind.FUNCTION and not unit.load:
            return self._call(unit, sent, inputs, options)
        if unit.load:  # reading takes neither a graphics card nor a second try
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
        self, unit: Unit, sent: _Sent, inputs: Sequence[_Handle], options: Mapping[str, Any]
    ) -> _Handle:
        """Give a constructor or method to the actor of its instance."""
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

    def _pickled_function(self, function: Any) -> Any:
        """A function as it is sent: pickled once in a run."""
        known = self._code.get(id(function))
        if known is None:
            code = dumps(function)
            known = function, ray.put(code) if len(code) > _LARGE else code
            self._code[id(function)] = known  # with the function, so that its id stays its own
        return known[1]

    def _put(self, literal: Any) -> Any:
        """Put a large object into Ray's store, for all nodes that take it."""
        return ray.put(wrapped(literal, "a large argument", read_only=self._read_only))

    def wait(self, pending: Collection[_Handle]) -> Iterable[_Handle]:  # noqa: D102
        failed, self._failed = self._failed, []
        failed = [handle for handle in failed if handle in pending]
        if failed:
            return failed
        self._session.check()
        handles = {handle.record: handle for handle in islice(pending, _BATCH)}
        # a quarter, so that a run with few in flight soon has the next
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
        """What became of a unit.

        Raises:
            Withdrawn: It was taken back before it started.
            EngineError: It never came back.
            BaseException: What the user's function raised.
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
        return unwrapped(_get(handle.value, handle.name))

    def release(self, handle: _Handle) -> None:
        """Drop the references: Ray frees the value when no task takes it, and ends an actor that nobody can call."""
        handle.value, handle.released = None, True
        if handle.recorded:
            handle.record = handle.actor = None

    def cancel(self, pending: Collection[_Handle]) -> None:
        """Take back what has not started; what runs is told as well, and may not listen."""
        if self._session.is_over:
            return
        self._cancelled = [handle for handle in pending if handle.record is not None]
        for handle in self._cancelled:
            ray.cancel(handle.record, recursive=False)

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop; if it was left before everything was settled, let no node go on."""
        try:
            return body()
        except BaseException as error:
            if self._session.is_over:
                if not isinstance(error, EngineError | KeyboardInterrupt):
                    self._session.check()  # Ray's errors, SystemExit among them, do not say why
            elif self._cancelled:
                self._end_cancelled()
            raise

    def _end_cancelled(self) -> None:
        """End what did not listen, with its worker: it would keep the next run from its cores."""
        handles = {handle.record: handle for handle in self._cancelled}
        _, running = ray.wait([*handles], num_returns=len(handles), timeout=_GRACE)
        for record in running:
            if handles[record].actor is None:
                ray.cancel(record, force=True, recursive=False)
            else:
                ray.kill(handles[record].actor)


def _instances_taken(graph: Graph) -> frozenset[int]:
    """The steps whose instance somebody takes as they leave it, and not only the next method."""
    followed = Counter(node.state.number for node in graph if node.state is not None)
    readers = graph.instance_uses
    return frozenset(number for number in readers if readers[number] > followed[number])


def _refers_to(node: GraphNode, number: int) -> bool:
    """Tell whether the arguments of a method refer to a step, apart from the instance that it works on."""
    arguments = (*node.args, *node.kwargs.values())
    return any(ref.number == number for ref in references(arguments))


# ---- what comes back ----


def _fetch_records(handles: Sequence[_Handle]) -> None:
    """Fetch the records of what is done in one go, which takes a third of the time; not if one failed."""
    try:
        answers = ray.get([handle.record for handle in handles])
    except Exception:  # noqa: BLE001 - each is asked for its own
        return
    for handle, answer in zip(handles, answers, strict=True):
        handle.answer = answer


def _get(reference: Any, name: str) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(cause_of(error), TaskCancelledError):  # when its worker had it, but not begun
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
    raise original  # here, and not where Ray's own error would become its context


def _user_exception(error: RayTaskError) -> BaseException:
    """What was raised in the worker."""
    cause = cause_of(error)
    if isinstance(cause, ExceptionEnvelope):
        return cause.error
    if isinstance(cause, EngineError):
        return cause
    return EngineError(f"Ray could not finish the node: {describe_exception(cause)}")
