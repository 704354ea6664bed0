"""Deployments: flows that Prefect runs in child processes of this one, or in workers of a work pool."""

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
from functionfuse.backends.addons.prefectback._compat import call_sync
from functionfuse.backends.addons.prefectback.entrypoints import module_entrypoint
from functionfuse.backends.addons.prefectback.reachability import check_reachable
from functionfuse.errors import EngineError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from uuid import UUID

__all__ = ["deploy", "serve"]


def _options_of(method: Callable[..., Any], *given: str) -> frozenset[str]:
    return frozenset(inspect.signature(method).parameters) - {"self", *given}


_SERVE_OPTIONS: Final = _options_of(Flow.serve, "name", "entrypoint_type")
_DEPLOY_OPTIONS: Final = _options_of(Flow.deploy, "name", "entrypoint_type")
_loading: Final[ContextVar[str]] = ContextVar("functionfuse_prefect_loading", default="")


def serve(
    flow: Flow[..., Any],
    name: str | None,
    parts: Iterable[tuple[str, Any]],
    options: Mapping[str, Any],
) -> None:
    """Serve a flow from this process; see `PrefectWorkflow.serve`.

    Args:
        flow: The flow of the workflow.
        name: The name of the deployment; None for the flow's.
        parts: The objects in the flow's pickle, each with its description for an error.
        options: Those of `Flow.serve`.
    """
    validate_names(options, _SERVE_OPTIONS, "option of Flow.serve")
    _check_caller_and_server("serve")
    _check_picklable(flow, parts)
    flow.serve(name, **options)


def deploy(  # noqa: PLR0913 - the deployment, and where the flow is
    flow: Flow[..., Any],
    name: str,
    entrypoint: str | None,
    source: Any,
    options: Mapping[str, Any],
    is_workflow: Callable[[Any], bool],
) -> UUID:
    """Register where workers load a flow from; see `PrefectWorkflow.deploy`.

    Args:
        flow: The flow of the workflow.
        name: The name of the deployment.
        entrypoint: The file and variable that hold the workflow; None to search the modules for it.
        source: The folder, repository or storage of the file; None for the current folder.
        options: Those of `Flow.deploy`.
        is_workflow: Tells whether the value of a variable is the workflow or its flow.
    """
    validate_names(options, _DEPLOY_OPTIONS, "option of Flow.deploy")
    _check_caller_and_server("deploy")
    entrypoint = entrypoint or _entrypoint_of(flow, is_workflow)
    loaded = _load(source or Path.cwd(), entrypoint)
    if loaded.name != flow.name:
        message = (
            f"{entrypoint!r} is flow {loaded.name!r}, not {flow.name!r}: "
            "name the variable that holds this workflow"
        )
        raise OptionError(message)
    identity: UUID = call_sync(loaded.deploy, name, **options)
    return identity


def _check_caller_and_server(method: str) -> None:
    """Refuse a call without a permanent server, and one made while a worker imports the file."""
    if entrypoint := _loading.get():
        message = (
            f"{entrypoint!r} calls {method}() when it is imported, as each worker does: "
            "put the call under `if __name__ == '__main__':`"
        )
        raise OptionError(message)
    if PREFECT_API_URL.value() is None:
        message = (
            f"{method}() needs a server that outlives this process: start one with "
            "`prefect server start`, and set PREFECT_API_URL to its address"
        )
        raise EngineError(message)
    check_reachable()


# ---- serve: each run gets the flow as a pickle ----


def _check_picklable(flow: Flow[..., Any], parts: Iterable[tuple[str, Any]]) -> None:
    error = _pickling_error(flow)
    if error is not None:
        what = next((what for what, part in parts if _pickling_error(part)), "the flow")
        message = (
            f"flow {flow.name!r} cannot be served: each run is a new process that unpickles it, "
            f"and {what} cannot be pickled: {error}"
        )
        raise OptionError(message) from error


def _pickling_error(value: Any) -> Exception | None:
    try:
        cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return error
    return None


# ---- deploy: a worker loads the flow from a variable of a file ----


def _load(source: Any, entrypoint: str) -> Flow[..., Any]:
    """Load the flow that an entrypoint names, as a worker does.

    The entrypoint is a flow, a workflow, or a function that returns a workflow.

    Raises:
        OptionError: The file cannot be loaded, or the entrypoint is nothing of these.
    """
    missing: Exception | None = None
    for attempt in (entrypoint, f"{entrypoint}.flow", module_entrypoint(entrypoint)):
        try:
            if attempt is not None:
                with _loading_entrypoint(entrypoint):
                    flow: Flow[..., Any] = call_sync(Flow.from_source, source, attempt)
                    return flow
        except MissingFlowError as error:
            missing = error
        except (ScriptError, ImportError, OSError, ValueError) as error:
            reason = _reason(error)
            message = f"a worker cannot load {entrypoint!r}: {type(reason).__name__}: {reason}"
            raise OptionError(message) from reason
    message = (
        f"{entrypoint!r} is neither a PrefectWorkflow, nor its flow, nor a function that returns one. "
        "A worker runs the file and reads the variable of that name"
    )
    raise OptionError(message) from missing


def _reason(error: BaseException) -> BaseException:
    """The error that the file raised: Prefect then looks for a flow in its source, and reports that there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ScriptError):
            return cause.user_exc
        cause = cause.__cause__ or cause.__context__
    return error


@contextmanager
def _loading_entrypoint(entrypoint: str) -> Iterator[None]:
    token = _loading.set(entrypoint)
    try:
        yield
    finally:
        _loading.reset(token)


def _entrypoint_of(flow: Flow[..., Any], is_workflow: Callable[[Any], bool]) -> str:
    """Search the modules for a variable that holds the workflow; returns it as `path.py:name`.

    Raises:
        OptionError: No variable holds it, so no worker could load it.
    """
    modules = list(sys.modules.items())
    for _, module in sorted(modules, key=lambda item: item[0] == "__main__"):
        path = getattr(module, "__file__", None)
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if path and is_workflow(value):
                return f"{_relative(Path(path))}:{name}"
    message = (
        f"no variable of a module holds the workflow of flow {flow.name!r}, and a worker loads it "
        "from a variable: assign it to one in a file, or give entrypoint='file.py:variable'"
    )
    raise OptionError(message)


def _relative(path: Path) -> Path:
    path, here = path.resolve(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
