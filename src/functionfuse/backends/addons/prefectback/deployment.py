"""Deployments: flows that Prefect starts, in this process's children or on a work pool."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
from prefect.exceptions import MissingFlowError, ScriptError
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL

from functionfuse._common.validation import validate_names
from functionfuse.backends.addons.prefectback.entrypoints import module_entrypoint
from functionfuse.backends.addons.prefectback.server import check_reachable
from functionfuse.errors import EngineError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

    from functionfuse.backends.addons.prefectback.workflow import PrefectWorkflow

__all__ = ["deploy", "serve"]


def _options_of(method: Callable[..., Any], *given: str) -> frozenset[str]:
    return frozenset(inspect.signature(method).parameters) - {"self", *given}


_SERVE_OPTIONS: Final = _options_of(Flow.serve, "name", "entrypoint_type")
_DEPLOY_OPTIONS: Final = _options_of(Flow.deploy, "name", "entrypoint_type")
_loading: Final[ContextVar[str]] = ContextVar("functionfuse_prefect_loading", default="")


def serve(workflow: PrefectWorkflow, name: str | None, options: Mapping[str, Any]) -> None:
    """Wait for runs that the server asks for, and run each in a new process; see `PrefectWorkflow.serve`."""
    validate_names(options, _SERVE_OPTIONS, "option of Flow.serve")
    _check_where("serve")
    _check_pickles(workflow)
    workflow.flow.serve(name, **options)


def deploy(
    workflow: PrefectWorkflow,
    name: str,
    entrypoint: str | None,
    source: Any,
    options: Mapping[str, Any],
) -> UUID:
    """Tell the server where workers find the flow; see `PrefectWorkflow.deploy`."""
    validate_names(options, _DEPLOY_OPTIONS, "option of Flow.deploy")
    _check_where("deploy")
    entrypoint = entrypoint or _entrypoint_of(workflow)
    flow = _load(source or Path.cwd(), entrypoint)
    if flow.name != workflow.flow.name:
        message = (
            f"{entrypoint!r} is flow {flow.name!r}, not {workflow.flow.name!r}: "
            "name the variable that holds this workflow"
        )
        raise OptionError(message)
    identity: UUID = _in_this_thread(flow.deploy, name, **options)
    return identity


def _check_where(method: str) -> None:
    """See that there is a server that lasts, and that this is not the worker's own look at the file."""
    if entrypoint := _loading.get():
        message = (
            f"{entrypoint!r} calls {method}() when it is imported, as each worker does: "
            "put the call under `if __name__ == '__main__':`"
        )
        raise OptionError(message)
    if PREFECT_API_URL.value() is None:
        message = (
            f"{method}() needs a server that lasts: start one with `prefect server start`, "
            "and set PREFECT_API_URL to its address"
        )
        raise EngineError(message)
    check_reachable()


# ---- served: the flow travels as a pickle ----


def _check_pickles(workflow: PrefectWorkflow) -> None:
    error = _refusal(workflow.flow)
    if error is not None:
        what = next((what for what, part in _parts(workflow) if _refusal(part)), "the flow")
        message = (
            f"workflow {workflow.workflow_name!r} cannot be served: each run is a new process, "
            f"which gets it as a pickle, and {what} cannot be pickled: {error}"
        )
        raise OptionError(message) from error


def _parts(workflow: PrefectWorkflow) -> Iterator[tuple[str, Any]]:
    """What can be in the way, with what to call it."""
    spec = workflow._run_spec("raise")
    for node in spec.graph:
        yield f"the function of node {node.name!r}", node.func
        for argument in (*node.args, *node.kwargs.values()):
            yield f"an argument of node {node.name!r}", argument
    yield "the storage", spec.results
    yield from ((f"the plugin of node {name!r}", value) for name, value in spec.plugins.items())
    yield from ((f"an option of node {name!r}", value) for name, value in spec.options.items())
    yield from ((f"observer {observer!r}", observer) for observer in spec.observers)


def _refusal(value: Any) -> Exception | None:
    try:
        cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return error
    return None


# ---- deployed: the flow is found by the name of a variable in a file ----


def _load(source: Any, entrypoint: str) -> Flow[..., Any]:
    """Load a flow as a worker will: itself, an attribute of a workflow, or of what a function returns.

    Raises:
        OptionError: There is none.
    """
    missing: Exception | None = None
    for attempt in (entrypoint, f"{entrypoint}.flow", module_entrypoint(entrypoint)):
        try:
            if attempt is not None:
                with _marked(entrypoint):
                    flow: Flow[..., Any] = _in_this_thread(Flow.from_source, source, attempt)
                    return flow
        except MissingFlowError as error:
            missing = error
        except (ScriptError, ImportError, OSError, ValueError) as error:
            reason = _reason(error)
            message = f"a worker cannot load {entrypoint!r}: {type(reason).__name__}: {reason}"
            raise OptionError(message) from reason
    message = (
        f"{entrypoint!r} is neither a PrefectWorkflow, nor its flow, nor a function that returns one. "
        "A worker runs the file and takes what it names from its top level"
    )
    raise OptionError(message) from missing


def _reason(error: BaseException) -> BaseException:
    """What the file raised: Prefect then searches its text for a flow, and raises that there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ScriptError):
            return cause.user_exc
        cause = cause.__cause__ or cause.__context__
    return error


def _in_this_thread(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call one of Prefect's methods that else return something to await where an event loop runs."""
    return method(*args, _sync=True, **kwargs)


@contextmanager
def _marked(entrypoint: str) -> Iterator[None]:
    token = _loading.set(entrypoint)
    try:
        yield
    finally:
        _loading.reset(token)


def _entrypoint_of(workflow: PrefectWorkflow) -> str:
    """Where a variable of a module holds the workflow, as `path.py:name`.

    Raises:
        OptionError: Nowhere, so that no worker could find it.
    """
    modules = list(sys.modules.items())
    for _, module in sorted(modules, key=lambda item: item[0] == "__main__"):
        path = getattr(module, "__file__", None)
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if path and (value is workflow or value is workflow._flow is not None):
                return f"{_relative(Path(path))}:{name}"
    message = (
        f"no variable of a module holds workflow {workflow.workflow_name!r}, and a worker finds it "
        "by nothing else: assign it to one in a file, or say entrypoint='file.py:variable'"
    )
    raise OptionError(message)


def _relative(path: Path) -> Path:
    path, here = path.resolve(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
