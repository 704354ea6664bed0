"""Submitting nodes to the task runner of the flow run that is on."""

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

from functionfuse._graph.graph import references
from functionfuse._kernel.binding import resolve_argument
from functionfuse._kernel.kernel import save
from functionfuse._kernel.units import InstanceResult, Outcome, Record, Status
from functionfuse._transport.broadcast import Broadcaster
from functionfuse._transport.exceptions import describe_exception
from functionfuse.backends.addons.prefectback._compat import (
    ResultRecord,
    break_cycles,
    call_sync,
    has_final_state,
)
from functionfuse.backends.addons.prefectback.envelopes import (
    OpaqueResult,
    opaque_argument,
    pickle_value,
)
from functionfuse.backends.addons.prefectback.exceptions import ExceptionEnvelope
from functionfuse.backends.addons.prefectback.node_function import arguments_of
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
#: The bytes from which on an argument is pickled once for all nodes that take it.
_LARGE: Final = 100_000
_STATUS: Final[dict[str, Status]] = {"Stored": "loaded", "Cached": "cached"}


def task_run_overhead(runner: object) -> float:
    """What a task run costs in seconds, here and on the server, as measured on two cores."""
    return 0.02 if runner is None or isinstance(runner, ThreadPoolTaskRunner) else 0.1


@dataclass(eq=False, slots=True)
class _Handle:
    """A node that the task runner has."""

    unit: Unit
    function: NodeFunction
    parameters: dict[str, Any]
    future: PrefectWrappedFuture[Any, Any] | None = None  # None: it was refused
    task_run: UUID | None = None
    error: EngineError | None = None
    submitted: float = field(default_factory=time.time)
    result: Any = None  # what the task returned, out of its box, once it is done

    def finish(self) -> State[Any]:
        """Take the result out of all that would keep it: the future, its state, and what is told of the run later."""
        state = _final_state(self)
        result = _result(state)
        self.result = result.take() if isinstance(result, OpaqueResult) else result
        state.data = None
        for parameter in self.parameters.values():
            parameter.empty()
        self.function.release_arguments()
        break_cycles(self.future)
        return state


class PrefectEngine:
    """Runs units as tasks of the current flow run.

    A unit is submitted when its inputs are done, so its arguments are values.
    What it depends on is told explicitly: every task runner keeps that, and nothing is guessed.
    """

    name = "prefect"
    capabilities = Capabilities()

    def __init__(self, graph: Graph, *, caching: bool) -> None:
        """Use the flow run that this is called in.

        Args:
            graph: What is run.
            caching: The flow or the settings ask Prefect to keep results.
        """
        context = FlowRunContext.get()
        assert context is not None
        self._runner = context.task_runner
        self._depth = 2 if isinstance(self._runner, ProcessPoolTaskRunner) else 1
        self._broadcaster: Broadcaster[Any] | None = None
        if not isinstance(self._runner, ThreadPoolTaskRunner):
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
            parameters = {
                name: resolve_argument(value, values.__getitem__)
                for name, value in arguments.items()
            }
        except Exception as error:  # noqa: BLE001 - an item that is not there: the node's own failure
            parameters = function.fail_with(error)
        handle = _Handle(unit, function, {})
        try:
            handle.parameters = self._wrap_arguments(unit, parameters)
            handle.future = self._runner.submit(
                task, parameters=handle.parameters, dependencies=_dependencies(arguments, runs)
            )
        except Exception as error:  # noqa: BLE001 - of pickling
            handle.error = _submit_error(unit, error)
            self._done.put(handle)
            return handle
        handle.task_run = handle.future.task_run_id
        self._recorder.submitted(handle.task_run)
        handle.future.add_done_callback(lambda _: self._done.put(handle))
        return handle

    def _wrap_arguments(self, unit: Unit, values: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments as Prefect gets them; what is large and goes to other processes is pickled once for all nodes."""
        if self._broadcaster is not None and self._broadcaster.applies_to(unit):
            with self._broadcaster.pickling(unit) as pack:
                values = {name: pickle_value(value, pack) for name, value in values.items()}
        return {name: opaque_argument(value, self._depth) for name, value in values.items()}

    def wait(self, _: Collection[_Handle]) -> Iterator[_Handle]:
        """Block until a unit is done; give all that are.

        Raises:
            RunCancelled: Somebody cancelled the flow run.
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
        """What is known of a result that Prefect keeps, and perhaps had already."""
        name, nbytes = unit.node.name, None
        seconds = state.timestamp.timestamp() - submitted
        status = _STATUS.get(state.name or "", "computed")
        if status == "cached" and unit.storage is not None and not unit.storage.contains(name):
            value = result.value if isinstance(result, InstanceResult) else result
            nbytes = save(unit, value, seconds)
        return Record(name, status, submitted, seconds, "", nbytes)

    def fetch(self, handle: _Handle) -> Any:  # noqa: D102
        return _value(handle)

    def release(self, handle: _Handle) -> None:
        """Forget the value."""
        handle.result = None

    def cancel(self, pending: Collection[_Handle]) -> None:
        """Start nothing more; what is running ends, and is stored, before the flow run does."""
        for handle in pending:
            if handle.future is None:
                continue
            future = handle.future.wrapped_future
            if hasattr(future, "cancel"):
                future.cancel()
            else:  # a reference of Ray, which only Ray can cancel
                sys.modules["ray"].cancel(future, recursive=False)

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop, and see that a temporary server has recorded everything when it ends."""
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
    """Dask warns of large arguments, and advises what its task runner for Prefect cannot do."""
    if not type(runner).__module__.startswith("prefect_dask"):
        return nullcontext()
    setting = "distributed.admin.large-graph-warning-threshold"
    quiet: AbstractContextManager[object] = sys.modules["dask"].config.set({setting: 2**62})
    return quiet


def _dependencies(
    arguments: Mapping[str, Any], runs: Mapping[int, UUID]
) -> dict[str, set[RunInput]]:
    """The task runs that each parameter comes from: the edges in Prefect's graph."""
    return {
        name: {TaskRunResult(id=runs[ref.number]) for ref in references((argument,))}
        for name, argument in arguments.items()
    }


def _submit_error(unit: Unit, error: Exception) -> EngineError:
    message = (
        f"node {unit.node.name!r} cannot be sent to a worker ({describe_exception(error)}): "
        "with a task runner of other processes, its function, its arguments and its plugin must be picklable"
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
    except Exception as error:  # of pickling, on the way there or back, or of a worker that is gone
        raise _missing_state_error(handle, error) from error
    state = future.state
    crash = state.data if state.is_crashed() else None
    if isinstance(crash, Exception) and type(crash).__module__.startswith("ray."):
        raise _missing_state_error(handle, crash) from crash
    return state


def _missing_state_error(handle: _Handle, error: Exception) -> EngineError:
    message = (
        f"the task run of node {handle.unit.node.name!r} gave no state "
        f"({describe_exception(_engine_error(error))}): with a task runner of other processes, "
        "all that goes there and comes back must be picklable, and no worker may die"
    )
    return EngineError(message)


def _engine_error(error: BaseException) -> BaseException:
    """What we have said of it ourselves, if we have, and Prefect has wrapped."""
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
    return EngineError(f"its task run ended as {state.name}: {state.message}")
