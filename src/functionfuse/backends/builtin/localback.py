"""`LocalWorkflow`: runs a graph on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from functionfuse._common.validation import validate_names
from functionfuse._kernel.kernel import execute
from functionfuse.backends.base import Query, ResultT, Workflow
from functionfuse.engine import Capabilities
from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import NotRequired, TypedDict, Unpack

    from functionfuse._execution.run_spec import OnError, RunSpec
    from functionfuse._graph.placeholder import Placeholder
    from functionfuse._kernel.units import Outcome, Record, Unit
    from functionfuse.engine import Engine

    class _Options(TypedDict):
        """Keyword parameters of the constructor, for type checkers."""

        workflow_name: str
        workers: NotRequired[int | None]
        kind: NotRequired[Kind]
        read_only: NotRequired[bool]


__all__ = ["LocalEngine", "LocalWorkflow"]

R = TypeVar("R")
Kind = Literal["processes", "threads"]
_KINDS: Final = ("processes", "threads")
_HAS_PROCESSES: Final = hasattr(os, "register_at_fork")  # workers inherit sockets and signal masks


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class LocalEngine:
    """Runs a unit when it is submitted; its handles are the outcomes."""

    name = "local"
    capabilities = Capabilities(inline=True, calls_directly=True, shares_values=True)

    def submit(  # noqa: D102 - as in Engine
        self, unit: Unit, inputs: Sequence[Outcome], _: Mapping[str, Any]
    ) -> Outcome | _Failed:
        try:
            return execute(unit, [outcome.value for outcome in inputs])
        except Exception as error:  # noqa: BLE001 - the node's own
            return _Failed(error)

    def wait(self, pending: Collection[Outcome | _Failed]) -> Collection[Outcome | _Failed]:  # noqa: D102
        return pending

    def record(self, handle: Outcome | _Failed) -> Record:  # noqa: D102
        if isinstance(handle, _Failed):
            raise handle.error
        return handle.record

    def fetch(self, handle: Outcome) -> Any:  # noqa: D102
        return handle.value

    def release(self, handle: Outcome | _Failed) -> None:
        """Do nothing: the value is released with its handle."""

    def cancel(self, pending: Collection[Outcome | _Failed]) -> None:
        """Do nothing: all submitted units have run."""

    def drive(self, body: Callable[[], R]) -> R:  # noqa: D102
        return body()


class LocalWorkflow(Workflow[Query, ResultT]):
    """Runs a graph on this machine: one node after the other in this process, or in several threads or processes."""

    _query = Query

    @overload
    def __init__(
        self: LocalWorkflow[ResultT], node: Placeholder[ResultT], /, **options: Unpack[_Options]
    ) -> None: ...
    @overload
    def __init__(
        self: LocalWorkflow[list[Any]], *nodes: Any, **options: Unpack[_Options]
    ) -> None: ...
    def __init__(
        self,
        *nodes: Any,
        workflow_name: str,
        workers: int | None = None,
        kind: Kind = "processes",
        read_only: bool = False,
    ) -> None:
        """Create a workflow of targets and their transitive dependencies.

        Args:
            nodes: The targets: nodes, items of nodes, instances of decorated classes.
            workflow_name: The name under which results are stored and runs are shown.
            workers: The number of nodes that run at the same time.
                None: one after the other, in this process, in the order in which the calls were recorded.
            kind: The kind of workers: `"processes"`, or `"threads"` of this process.
            read_only: Nodes take arrays and frames read-only: writing to one is an error.

        Raises:
            NotANodeError: A target is another object.
            DuplicateNameError: Two nodes have one name.
            OptionError: `workers` is not an integer from 1 on, `kind` is another value,
                or this system cannot run nodes in processes: Windows.
        """
        validate_names([kind], _KINDS, "kind of workers")
        if workers is not None and (type(workers) is not int or workers < 1):
            message = f"workers is a whole number from 1 on, or None, not {workers!r}"
            raise OptionError(message)
        if workers is not None and kind == "processes" and not _HAS_PROCESSES:
            message = (
                "LocalWorkflow(..., workers=...) runs nodes in processes on Linux and macOS only: "
                "use kind='threads', DaskWorkflow or RayWorkflow on this system"
            )
            raise OptionError(message)
        super().__init__(*nodes, workflow_name=workflow_name, read_only=read_only)
        self._workers = workers
        self._kind = kind

    def _run_spec(self, on_error: OnError) -> RunSpec:
        spec = super()._run_spec(on_error)
        # no more units in flight than workers, so that none is queued and started after a failure
        return spec if self._workers is None else replace(spec, max_in_flight=self._workers)

    def _engine(self) -> Engine[Any]:
        if self._workers is None:
            return LocalEngine()
        if self._kind == "threads":
            from functionfuse.backends.builtin.pool.thread_engine import ThreadEngine

            return ThreadEngine(self._workers)
        from functionfuse.backends.builtin.pool.process_engine import ProcessEngine

        return ProcessEngine(self._workers)
