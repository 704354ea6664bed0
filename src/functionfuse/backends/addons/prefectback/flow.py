"""The flow that runs a workflow: one of Prefect's, whatever calls it."""

from __future__ import annotations

import inspect
import logging
import os
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.states import Cancelled, Cancelling
from prefect.utilities.asyncutils import run_coro_as_sync

from functionfuse.backends.addons.prefectback.artifact import background_publishing
from functionfuse.backends.addons.prefectback.exceptions import ExceptionEnvelope, is_incompatible
from functionfuse.backends.addons.prefectback.server import RunCancelled, run_settings

if TYPE_CHECKING:
    from functionfuse._execution.run_spec import RunSpec
    from functionfuse.backends.addons.prefectback.workflow import PrefectWorkflow

__all__ = ["FlowFunction", "RunCall", "WorkflowFlow", "current_run"]

_logger = logging.getLogger(__name__)


class WorkflowFlow(Flow[[], Any]):
    """A flow that loses nothing of what it tells the server, however it is called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - as in Flow
        try:
            with run_settings(), background_publishing():
                return super().__call__(*args, **kwargs)
        except ExceptionEnvelope as envelope:
            error = envelope.error
        raise error


@dataclass(slots=True)
class RunCall:
    """A call of `run()`: what the flow shall do, and what it gave.

    The result does not go through the flow unless it has to: Prefect looks at every element of what a flow returns.
    """

    workflow: PrefectWorkflow
    spec: RunSpec
    result: Any = None


#: The call of run() that is on, if flow() was not called itself.
current_run: Final[ContextVar[RunCall | None]] = ContextVar(
    "functionfuse_prefect_run", default=None
)


class FlowFunction:
    """The function of a flow: runs the workflow.

    A flow travels with every task that goes to another process.
    While it runs, it therefore travels without the workflow, whose graph holds all literal data.
    """

    __slots__ = ("__dict__", "_running", "_workflow")

    def __init__(self, name: str, workflow: PrefectWorkflow | None) -> None:  # noqa: D107
        self.__name__ = self.__qualname__ = name
        self.__module__ = __name__
        self.__doc__ = f"The graph of workflow {name!r}."
        self._workflow = workflow
        self._running = 0

    def __call__(self) -> Any:
        """Run the graph, in the flow run that is on."""
        workflow, run = self._workflow, current_run.get()
        assert workflow is not None
        self._running += 1
        try:
            if run is None or run.workflow is not workflow:  # flow() was called, not run()
                return workflow._in_flow(workflow._run_spec("raise"))
            run.result = workflow._in_flow(run.spec)
            return run.result if workflow._result_is_seen() else None
        except Exception as error:
            if is_incompatible(error):
                raise ExceptionEnvelope(error) from None
            raise
        except RunCancelled:
            _call_cancellation_hooks()
            return Cancelled(message="cancelled; what is stored stays stored")
        finally:
            self._running -= 1

    def __reduce__(self) -> tuple[Any, ...]:
        return FlowFunction, (self.__name__, None if self._running else self._workflow)


def _call_cancellation_hooks() -> None:
    """Do what Prefect does for a flow run that is cancelling when it ends; we end it as Cancelled."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow is not None
    assert context.flow_run is not None
    # set by whoever started this process, and calls them itself
    if os.environ.get("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "true").lower() != "true":
        return
    for hook in context.flow.on_cancellation_hooks:
        try:
            result = hook(context.flow, context.flow_run, Cancelling())
            if inspect.iscoroutine(result):
                run_coro_as_sync(result)
        except Exception:
            _logger.exception("a hook of flow %r failed", context.flow.name)
