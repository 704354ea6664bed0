"""The Prefect flow of a workflow, and the function that it calls."""

from __future__ import annotations

import inspect
import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.states import Cancelled, Cancelling

from functionfuse._context.hash_seed import hash_seed_set
from functionfuse.backends.addons.prefectback._compat import (
    parent_calls_cancellation_hooks,
    run_coro_as_sync,
)
from functionfuse.backends.addons.prefectback.artifact import background_publishing
from functionfuse.backends.addons.prefectback.exceptions import ExceptionEnvelope, is_incompatible
from functionfuse.backends.addons.prefectback.server import RunCancelled, run_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse.backends.addons.prefectback.console import ConsoleFilter

__all__ = ["FlowBody", "FlowFunction", "RunCall", "WorkflowFlow", "current_run"]

_logger = logging.getLogger(__name__)


class WorkflowFlow(Flow[[], Any]):
    """A flow that sets up its settings, its server and its artifacts, whether `run()` or Prefect calls it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - as in Flow
        try:
            # processes of the task runner inherit the hash seed
            with run_settings(), background_publishing(), hash_seed_set():
                return super().__call__(*args, **kwargs)
        except ExceptionEnvelope as envelope:
            error = envelope.error
        raise error


class FlowBody(NamedTuple):
    """The part of a workflow that its flow calls."""

    #: Executes a run in the current flow run; None is a run with the workflow's own options.
    run: Callable[[RunSpec | None], Any]
    #: Tells whether Prefect needs the flow's result: to persist it, or for a hook.
    passes_result: Callable[[], bool]


@dataclass(slots=True)
class RunCall:
    """A call of `run()` in progress.

    The flow returns None to Prefect where it can, since Prefect inspects each element of a flow's result:
    `run()` takes the result from here.
    """

    function: Callable[..., Any]  # of the flow that this call calls
    spec: RunSpec
    console: ConsoleFilter
    result: Any = None
    error: Exception | None = None  # of a node
    server_is_lost: bool = False


#: The call of `run()` in progress; None if the flow was called directly.
current_run: Final[ContextVar[RunCall | None]] = ContextVar(
    "functionfuse_prefect_run", default=None
)


class FlowFunction:
    """The function of a flow: executes the workflow.

    Prefect pickles the flow with each task that it sends to another process.
    During a run the body is not pickled: the workflow's graph holds all literal data.
    """

    __slots__ = ("__dict__", "_body", "_running")

    def __init__(self, name: str, body: FlowBody | None) -> None:  # noqa: D107
        self.__name__ = self.__qualname__ = name
        self.__module__ = __name__
        self.__doc__ = f"The graph of workflow {name!r}."
        self._body = body
        self._running = 0

    def __call__(self) -> Any:
        """Execute the graph in the current flow run."""
        body, call = self._body, current_run.get()
        assert body is not None
        self._running += 1
        try:
            if call is None or call.function is not self:  # flow() was called, not run()
                return body.run(None)
            call.result = body.run(call.spec)
            return call.result if body.passes_result() else None
        except Exception as error:
            if call is not None:
                call.error = error
            if is_incompatible(error):
                raise ExceptionEnvelope(error) from None
            raise
        except RunCancelled:
            _call_cancellation_hooks()
            return Cancelled(message="cancelled; stored results stay stored")
        except BaseException:  # Ctrl-C, or a signal
            if call is not None:
                call.console.quiet = True
            raise
        finally:
            self._running -= 1

    def __reduce__(self) -> tuple[Any, ...]:
        return FlowFunction, (self.__name__, None if self._running else self._body)


def _call_cancellation_hooks() -> None:
    """Call the flow's `on_cancellation` hooks; Prefect calls them for a flow run that ends as Cancelling only."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow is not None
    assert context.flow_run is not None
    if parent_calls_cancellation_hooks():
        return
    for hook in context.flow.on_cancellation_hooks:
        try:
            result = hook(context.flow, context.flow_run, Cancelling())
            if inspect.iscoroutine(result):
                run_coro_as_sync(result)
        except Exception:
            _logger.exception("an on_cancellation hook of flow %r failed", context.flow.name)
