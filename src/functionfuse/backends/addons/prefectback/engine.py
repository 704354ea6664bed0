"""Prefect engine: submits units to the task runner of the current flow run."""

from __future__ import annotations

import sys
import time
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import nullcontext
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from prefect.client.schemas.objects import TaskRunResult
from prefect.context import FlowRunContext
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from functionfuse._common.terminal_signals import terminal_signals_blocked
from functionfuse._graph.graph import references
from functionfuse._graph.nodes import Kind
from functionfuse._kernel.kernel import save, stored_header
from functionfuse._kernel.units import InstanceResult, Outcome, Record, Status
from functionfuse._transport.broadcast import Broadcaster
from functionfuse._transport.exceptions import describe_exception
from functionfuse._transport.pickled_value import pickle_value
from functionfuse.backends.addons.prefectback._compat import (
    ResultRecord,
    break_cycles,
    call_sync,
    has_final_state,
)
from functionfuse.backends.addons.prefectback.envelopes import (
    OpaqueResult,
    opaque_argument,
    pickle_argument,
)
from functionfuse.backends.addons.prefectback.exceptions import ExceptionEnvelope
from functionfuse.backends.addons.prefectback.node_function import arguments_of
from functionfuse.backends.addons.prefectback.parameters import parameters_of
from functionfuse.backends.addons.prefectback.server import Cancellation, Recorder
from functionfuse.backends.addons.prefectback.tasks import TaskTemplates
from functionfuse.engine import Capabilities
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from prefect.client.schemas.objects import RunInput, State
    from prefect.futures import PrefectWrappedFuture

    from functionfuse._graph.graph import Graph
    from functionfuse._kernel.units import Unit
    from functionfuse.backends.addons.prefectback.node_function import NodeFunction

__all__ = ["PrefectEngine", "task_run_overhead"]

R = TypeVar("R")
#: Bytes; larger arguments are broadcast: pickled once for all nodes that take them.
_LARGE: Final = 100_000
_STATUS: Final[dict[str, Status]] = {"Stored": "loaded", "Cached": "cached"}


def task_run_overhead(runner: object) -> float:
    """The overhead of a task run in seconds, in this process and on the server, as measured on two cores."""
    return 0.02 if runner is None or isinstance(runner, ThreadPoolTaskRunner) else 0.1


@dataclass(eq=False, slots=True)
class _Handle:
    """A submitted unit."""

    unit: Unit
    function: NodeFunction
    parameters: dict[str, Any]
    future: PrefectWrappedFuture[Any, Any] | None = None  # None: submitting it failed
    task_run: UUID | None = None
    error: EngineError | None = None
    submitted: float = field(default_factory=time.time)
    result: Any = None  # what the task returned, once it is done

    def finish(self) -> State[Any]:
        """Take the result, and release it from the future, its state, and the contexts of events not sent yet."""
        state = _final_state(self)
        result = _result(state)
        state.data = None
        for parameter in self.parameters.values():
            parameter.empty()
        self.function.release_arguments()
        break_cycles(self.future)
        self.result = result.take() if isinstance(result, OpaqueResult) else result
        return state


class PrefectEngine:
    """Runs units as tasks of the current flow run.

    A unit is submitted when its inputs are done, so its arguments are values.
    Its dependencies are given explicitly: each task runner records them, and Prefect need not infer them from values.
    """

    name = "prefect"

    def __init__(self, graph: Graph, *, caching: bool) -> None:
        """Use the flow run that this is called in.

        Args:
            graph: The graph of the run.
            caching: Prefect persists results, by the options of the flow or by the settings.
        """
        context = FlowRunContext.get()
        assert context is not None
        self._runner = context.task_runner
        in_threads = isinstance(self._runner, ThreadPoolTaskRunner)
        self.capabilities = Capabilities(shares_values=in_threads)
        self._depth = 2 if isinstance(self._runner, ProcessPoolTaskRunner) else 1
        self._broadcaster: Broadcaster[Any] | None = None
        if not in_threads:
            self._broadcaster = Broadcaster(graph, pickle_value, _LARGE)
        self._templates = TaskTemplates(caching=caching)
        self._recorder = Recorder()
        self._cancellation = Cancellation(context.flow_run.id if context.flow_run else None)
        self._done: SimpleQueue[_Handle] = SimpleQueue()

    def submit(  # noqa: D102 - as in Engine
        self, unit: Unit, inputs: Sequence[_Handle], options: Mapping[str, Any]
    ) -> _Handle:
        task = self._templates.task_of(unit, options)
        function = cast("NodeFunction", task.fn)
        arguments = {} if unit.load else arguments_of(function, unit)
        parents = () if unit.load else unit.node.parents
        values = dict(zip(parents, map(_value, inputs), strict=True))
        runs = {
            number: cast("UUID", parent.task_run)
            for number, parent in zip(parents, inputs, strict=True)
        }
        try:
            parameters = parameters_of(arguments, function.__signature__, values.__getitem__)
        except Exception as error:  # noqa: BLE001 - a missing item, which fails the node
            parameters = function.fail_with(error)
        handle = _Handle(unit, function, {})
        try:
            handle.parameters = self._wrap_arguments(unit, parameters)
            with self._starting_workers():
                handle.future = self._runner.submit(
                    task, parameters=handle.parameters, dependencies=_dependencies(arguments, runs)
                )
        except Exception as error:  # noqa: BLE001 - pickling raises anything
            handle.error = _submit_error(unit, error)
            self._done.put(handle)
            return handle
        handle.task_run = handle.future.task_run_id
        self._recorder.submitted(handle.task_run)
        handle.future.add_done_callback(lambda _: self._done.put(handle))
        return handle

    def _starting_workers(self) -> AbstractContextManager[object]:
        """Let the workers of a process pool, which start with the first units, inherit blocked signals of a terminal."""
        if isinstance(self._runner, ProcessPoolTaskRunner):
            return terminal_signals_blocked()
        return nullcontext()

    def _wrap_arguments(self, unit: Unit, values: Mapping[str, Any]) -> dict[str, Any]:
        """Wrap arguments for Prefect; large ones for other processes are broadcast."""
        if self._broadcaster is not None and self._broadcaster.applies_to(unit):
            with self._broadcaster.pickling(unit) as pack:
                values = {name: pickle_argument(value, pack) for name, value in values.items()}
        return {name: opaque_argument(value, self._depth) for name, value in values.items()}

    def wait(self, _: Collection[_Handle]) -> Iterator[_Handle]:
        """Block until a unit is done; yield all units that are.

        Raises:
            RunCancelled: The flow run was cancelled.
        """
        yield self._first()
        while not self._done.empty():
            yield self._done.get()

    def _first(self) -> _Handle:
        while True:
            self._cancellation.check()
            try:
                return self._done.get(timeout=self._cancellation.interval)
            except Empty:
                continue

    def record(self, handle: _Handle) -> Record:  # noqa: D102
        if handle.error is not None:
            raise handle.error
        unit, state = handle.unit, handle.finish()
        result = handle.result
        if not state.is_completed():
            raise _error(state, result)
        if isinstance(result, Outcome):
            return result.record
        return self._record_of_persisted(unit, state, result, handle.submitted)

    @staticmethod
    def _record_of_persisted(
        unit: Unit, state: State[Any], result: Any, submitted: float
    ) -> Record:
        """Make the record of a result that Prefect persists, and may have loaded instead of computed."""
        node, nbytes, digest = unit.node, None, None
        seconds = state.timestamp.timestamp() - submitted
        status = _STATUS.get(state.name or "", "computed")
        if unit.storage is not None and not unit.load and node.kind is not Kind.CONSTRUCT:
            header = stored_header(unit, unit.storage)
            if header is not None:
                digest = header.get("value")
            elif status == "cached":
                value = result.value if isinstance(result, InstanceResult) else result
                nbytes, digest = save(unit, value, seconds)
        return Record(node.name, status, submitted, seconds, "", nbytes, digest=digest)

    def fetch(self, handle: _Handle) -> Any:  # noqa: D102
        return _value(handle)

    def release(self, handle: _Handle) -> None:
        """Release the value."""
        handle.result = None

    def cancel(self, pending: Collection[_Handle]) -> None:
        """Cancel queued units; running ones finish, and are stored, before the flow run ends."""
        for handle in pending:
            if handle.future is None:
                continue
            future = handle.future.wrapped_future
            if hasattr(future, "cancel"):
                future.cancel()
            else:  # an ObjectRef of Ray
                sys.modules["ray"].cancel(future, recursive=False)

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop, and wait until its events are sent and an ephemeral server has recorded them."""
        try:
            with _large_graph_warning_disabled(self._runner):
                result = body()
        except Exception:
            self._recorder.finish()
            raise
        finally:
            if self._broadcaster is not None:
                self._broadcaster.end()
        self._recorder.finish()
        return result


def _large_graph_warning_disabled(runner: object) -> AbstractContextManager[object]:
    """Silence Dask's warning about large arguments: its advice cannot be followed with Prefect's Dask task runner."""
    if not type(runner).__module__.startswith("prefect_dask"):
        return nullcontext()
    setting = "distributed.admin.large-graph-warning-threshold"
    quiet: AbstractContextManager[object] = sys.modules["dask"].config.set({setting: 2**62})
    return quiet


def _dependencies(
    arguments: Mapping[str, Any], runs: Mapping[int, UUID]
) -> dict[str, set[RunInput]]:
    """The task runs that each parameter depends on: the edges of Prefect's graph."""
    return {
        name: {TaskRunResult(id=runs[ref.number]) for ref in references((argument,))}
        for name, argument in arguments.items()
    }


def _submit_error(unit: Unit, error: Exception) -> EngineError:
    message = (
        f"node {unit.node.name!r} cannot be sent to a worker ({describe_exception(error)}): "
        "its function, arguments and plugin must be picklable for a task runner with worker processes"
    )
    refused = EngineError(message)
    refused.__cause__ = error
    return refused


def _final_state(handle: _Handle) -> State[Any]:
    future = handle.future
    assert future is not None
    try:
        future.wait()
        if not has_final_state(future):  # raises what Dask's future does not
            future.wrapped_future.result()
    except BrokenExecutor as error:
        message = f"the worker of node {handle.unit.node.name!r} died: {error}"
        raise EngineError(message) from error
    except CancelledError:
        raise
    except Exception as error:  # pickling failed, in either direction, or a worker died
        raise _missing_state_error(handle, error) from error
    state = future.state
    crash = state.data if state.is_crashed() else None
    if isinstance(crash, Exception) and type(crash).__module__.startswith("ray."):
        raise _missing_state_error(handle, crash) from crash
    return state


def _missing_state_error(handle: _Handle, error: Exception) -> EngineError:
    message = (
        f"the task run of node {handle.unit.node.name!r} returned no state "
        f"({describe_exception(_engine_error(error))}): with worker processes, "
        "its function, arguments and result must be picklable, and its worker must not die"
    )
    return EngineError(message)


def _engine_error(error: BaseException) -> BaseException:
    """The `EngineError` in the chain of causes, which Prefect has wrapped; without one, the error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, EngineError):
        cause = cause.__cause__
    return cause or error


def _value(handle: _Handle) -> Any:
    result = handle.result
    return result.value if isinstance(result, Outcome) else result


def _result(state: State[Any]) -> Any:
    if isinstance(state.data, ResultRecord):
        return state.data.result
    return call_sync(state.result, raise_on_failure=False)


def _error(state: State[Any], result: Any) -> BaseException:
    if isinstance(result, ExceptionEnvelope):
        return result.error
    if isinstance(result, BaseException):
        return result
    return EngineError(f"the task run ended in state {state.name}: {state.message}")
