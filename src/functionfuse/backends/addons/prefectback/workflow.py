"""Prefect workflow: the class that runs a graph as a Prefect flow."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import threading
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, overload

from httpx import TransportError
from prefect.flows import Flow, flow
from prefect.tasks import task

from functionfuse._common.validation import validate_names
from functionfuse.backends.addons.prefectback import deployment
from functionfuse.backends.addons.prefectback._compat import complete_models
from functionfuse.backends.addons.prefectback.artifact import publish, publish_in_background
from functionfuse.backends.addons.prefectback.console import ConsoleFilter
from functionfuse.backends.addons.prefectback.engine import PrefectEngine, task_run_overhead
from functionfuse.backends.addons.prefectback.flow import (
    FlowBody,
    FlowFunction,
    RunCall,
    WorkflowFlow,
    current_run,
)
from functionfuse.backends.addons.prefectback.option_types import check_option_types
from functionfuse.backends.addons.prefectback.progress import Progress
from functionfuse.backends.addons.prefectback.reachability import is_lost, stop_retrying
from functionfuse.backends.addons.prefectback.server import persists_results, stop_requested
from functionfuse.backends.addons.prefectback.tasks import CACHING
from functionfuse.backends.base import Query, ResultT, Workflow
from functionfuse.errors import FunctionFuseWarning, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import NotRequired, TypedDict, Unpack
    from uuid import UUID

    from functionfuse._execution.run_spec import OnError, RunSpec
    from functionfuse._graph.placeholder import Placeholder
    from functionfuse.engine import Engine

    class _Options(TypedDict):
        """The keyword arguments of the constructor, for type checkers."""

        workflow_name: str
        fuse: NotRequired[Literal["auto"] | float | None]
        progress: NotRequired[bool]
        read_only: NotRequired[bool]


__all__ = ["PrefectQuery", "PrefectWorkflow"]


def _options_of(decorator: Callable[..., Any]) -> frozenset[str]:
    parameters = inspect.signature(decorator).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


#: In plain Prefect, transaction hooks are methods of the task, not arguments of `prefect.task`.
_TRANSACTION_HOOKS: Final = frozenset({"on_commit", "on_rollback"})
_TASK_OPTIONS: Final = _options_of(task) | _TRANSACTION_HOOKS
_FLOW_OPTIONS: Final = _options_of(flow)
#: Task options that have the same effect on a task group.
_GROUP_SAFE_OPTIONS: Final = frozenset({"description", "log_prints", "tags", "version"})
_LOST: Final = (
    "the Prefect server stopped during the run: the results are complete, "
    "but the server will show the flow run as running"
)
_NOT_IN_FLOW_NAMES: Final = re.compile(r"[/%&<>]")


class PrefectQuery(Query):
    """The nodes that match a pattern; its methods set the options of their Prefect tasks."""

    def set_task_args(self, options: Mapping[str, Any]) -> Self:
        """Set options of `prefect.task` for these nodes.

        Raises:
            OptionError: The installed Prefect does not have an option, or rejects its value.
        """
        validate_names(options, _TASK_OPTIONS, "option of a Prefect task")
        _validate("task", _task, options)
        check_option_types(
            f"query(...).set_task_args on {_format_names(self.names)}", task, options
        )
        self._options.set("task", self.names, dict(options))
        return self


class PrefectWorkflow(Workflow[PrefectQuery, ResultT]):
    """A workflow that runs as a Prefect flow, with a task run for each node, named after the node."""

    _query = PrefectQuery
    _option = "task"

    @overload
    def __init__(
        self: PrefectWorkflow[ResultT], node: Placeholder[ResultT], /, **options: Unpack[_Options]
    ) -> None: ...
    @overload
    def __init__(
        self: PrefectWorkflow[list[Any]], *nodes: Any, **options: Unpack[_Options]
    ) -> None: ...
    def __init__(
        self,
        *nodes: Any,
        workflow_name: str,
        fuse: Literal["auto"] | float | None = None,
        progress: bool = False,
        read_only: bool = False,
    ) -> None:
        """Create a workflow of the targets and their transitive dependencies.

        Args:
            nodes: The targets: nodes, items of nodes, instances of decorated classes.
            workflow_name: The name of the flow; results are stored under it.
            fuse: Run nodes in task groups that take fewer seconds than this, or less than the overhead of a task run
                (`"auto"`), by their durations in the last run or those recorded with stored results.
            progress: Create a progress artifact for each flow run.
            read_only: Nodes take arrays and frames read-only: writing to one is an error.

        Raises:
            NotANodeError: A target is not a node, item or instance.
            DuplicateNameError: Two nodes have the same name.
            OptionError: `fuse` is neither `"auto"` nor a positive number.
        """
        super().__init__(*nodes, workflow_name=workflow_name, read_only=read_only)
        if fuse not in {None, "auto"} and not (type(fuse) in {int, float} and float(fuse) > 0):
            message = f"fuse must be 'auto' or a number of seconds, not {fuse!r}"
            raise OptionError(message)
        self._fuse = fuse
        self._progress = progress
        self._flow_options: dict[str, Any] = {}
        self._flow: Flow[[], Any] | None = None

    def set_prefect_flow_options(self, options: Mapping[str, Any]) -> None:
        """Set options of `prefect.flow` for the flow.

        Raises:
            OptionError: The installed Prefect does not have an option, or rejects its value.
        """
        validate_names(options, _FLOW_OPTIONS, "option of a Prefect flow")
        _validate("flow", flow, options)
        check_option_types("set_prefect_flow_options", flow, options)
        self._flow_options = dict(options)
        self._flow = None

    def generate_flow(self) -> Flow[[], Any]:
        """Create the flow: a Prefect flow to call, to nest in other flows, and to pass to Prefect's own tools."""
        complete_models()
        name = _NOT_IN_FLOW_NAMES.sub("-", self.workflow_name)
        options = {"name": name, "validate_parameters": False, **self._flow_options}
        body = FlowBody(self._run_in_flow, self._passes_result)
        self._flow = WorkflowFlow(FlowFunction(self.workflow_name, body), **options)
        return self._flow

    @property
    def flow(self) -> Flow[[], Any]:
        """The flow, created on first access."""
        return self._flow or self.generate_flow()

    async def arun(
        self, *, on_error: OnError = "raise", check_mutation: bool | None = None
    ) -> ResultT:
        """Call `run()` in a thread, so that the event loop is not blocked.

        When the awaiting task is cancelled, the run is cancelled within seconds: no more nodes start,
        and those that run finish and are stored.
        """
        stop = threading.Event()
        token = stop_requested.set(stop)
        try:
            return await asyncio.to_thread(
                self.run, on_error=on_error, check_mutation=check_mutation
            )
        except asyncio.CancelledError:
            stop.set()
            raise
        finally:
            stop_requested.reset(token)

    def serve(self, name: str | None = None, **options: Any) -> None:
        """Create a deployment and serve it until this process ends: each run is a new child process.

        Args:
            name: The name of the deployment; the default is the name of the flow.
            options: Options of Prefect's `Flow.serve`: `cron`, `interval`, `limit`, `tags` and so on.

        Raises:
            OptionError: An option is unknown, or a part of the workflow cannot be pickled.
            EngineError: No server is configured, or it does not accept connections.
        """
        deployment.serve(self.flow, name, self._picklable_parts(), options)

    def deploy(
        self,
        name: str,
        work_pool_name: str,
        *,
        entrypoint: str | None = None,
        source: Any = None,
        **options: Any,
    ) -> UUID:
        """Create a deployment that the workers of a work pool run.

        A worker imports the file and reads the workflow from a variable at its top level.

        Args:
            name: The name of the deployment.
            work_pool_name: An existing work pool.
            entrypoint: `"pipeline.py:wf"`, where `wf` is the workflow or its flow.
                The default is the variable of a module that holds this workflow.
            source: The folder, git repository (its address) or storage of Prefect that contains the file.
                The default is the current folder.
            options: Options of Prefect's `Flow.deploy`: `cron`, `image`, `job_variables` and so on.

        Returns:
            The deployment's id on the server.

        Raises:
            OptionError: An option is unknown, or the entrypoint does not load this workflow.
            EngineError: No server is configured, or it does not accept connections.
        """
        options["work_pool_name"] = work_pool_name
        return deployment.deploy(self.flow, name, entrypoint, source, options, self._is_held_by)

    def _is_held_by(self, value: Any) -> bool:
        """Tell whether a worker that finds a value has found this workflow."""
        return value is self or (value is self._flow and value is not None)

    def _picklable_parts(self) -> Iterator[tuple[str, Any]]:
        """The objects that the pickle of the flow contains, each with its description for an error."""
        spec = self._run_spec("raise")
        for node in spec.graph:
            yield f"the function of node {node.name!r}", node.func
            for argument in (*node.args, *node.kwargs.values()):
                yield f"an argument of node {node.name!r}", argument
        yield "the storage", spec.results
        yield from ((f"the plugin of node {name!r}", value) for name, value in spec.plugins.items())
        yield from ((f"an option of node {name!r}", value) for name, value in spec.options.items())
        yield from ((f"observer {observer!r}", observer) for observer in spec.observers)

    def _run(self, spec: RunSpec) -> Any:
        flow = self.flow
        call = RunCall(flow.fn, spec, ConsoleFilter())
        token = current_run.set(call)
        call.console.install()
        try:
            flow()
        except TransportError:
            if not call.server_is_lost:
                raise
        finally:
            call.console.remove()
            current_run.reset(token)
        if call.server_is_lost:
            warnings.warn(_LOST, FunctionFuseWarning, stacklevel=3)
            if call.error is not None:
                raise call.error
        return call.result

    def _run_in_flow(self, spec: RunSpec | None) -> Any:
        """Execute a run in the current flow run; without a spec, one with the workflow's own options."""
        if spec is None:
            spec = self._run_spec("raise")
        engine = PrefectEngine(spec.graph, caching=self._caches())
        return engine.drive(lambda: self._execute(spec, engine))

    def _caches(self) -> bool:
        """Tell whether Prefect persists results, by the options of the flow or by the settings."""
        return persists_results() or not CACHING.isdisjoint(self._flow_options)

    def _passes_result(self) -> bool:
        """Tell whether Prefect needs the flow's result: to persist it, or for a hook."""
        return self._caches() or "on_completion" in self._flow_options

    def _run_spec(self, on_error: OnError) -> RunSpec:
        spec = super()._run_spec(on_error)
        return replace(spec, observers=(*spec.observers, Progress())) if self._progress else spec

    def _fusion_threshold(self) -> float | None:
        return (
            task_run_overhead(self._flow_options.get("task_runner"))
            if self._fuse == "auto"
            else self._fuse
        )

    def _may_fuse_automatically(self, name: str) -> bool:
        """Task options apply to a whole group: a timeout, for example, would cut off its last nodes."""
        given = self._options.of("task").get(name, {})
        return self._may_fuse(name) and given.keys() <= _GROUP_SAFE_OPTIONS

    def _may_fuse(self, name: str) -> bool:
        """Prefect persists results of tasks: a node with a persisted result is a task of its own."""
        return not self._caches() and CACHING.isdisjoint(self._options.of("task").get(name, {}))

    def _execute(self, spec: RunSpec, engine: Engine[Any]) -> Any:
        try:
            return super()._execute(spec, engine)
        finally:
            if is_lost():
                self._go_on_without_server()
            elif self._report is not None:
                publish_in_background(
                    publish, spec.graph, self._report, spec.results, sys.exception()
                )

    @staticmethod
    def _go_on_without_server() -> None:
        """End a flow run whose server was killed: the run can no longer be recorded."""
        stop_retrying()
        if (call := current_run.get()) is not None:
            call.server_is_lost = call.console.quiet = True  # `run()` warns


def _format_names(names: Sequence[str]) -> str:
    """The first names, and the number of others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004
    return ", ".join(map(repr, names[:3])) + more


def _task(**options: Any) -> Callable[..., Any]:
    """`prefect.task` with validated transaction hooks."""
    for name in _TRANSACTION_HOOKS & options.keys():
        if not all(map(callable, options[name])):
            message = f"{name} must be a list of functions"
            raise TypeError(message)
    return task(**{key: options[key] for key in options if key not in _TRANSACTION_HOOKS})


def _validate(what: str, decorator: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Validate values by Prefect itself, before the flow runs."""

    def nothing() -> None:
        pass

    try:
        decorator(**options)(nothing)
    except (TypeError, ValueError) as error:
        message = f"Prefect rejects these options of a {what}: {error}"
        raise OptionError(message) from error
