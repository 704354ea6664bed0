"""Compatibility with Ray's versions: undocumented parts of Ray, and a replacement for each.

Each docstring names the part of Ray, its purpose, and the behaviour without it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import ray
import ray.cloudpickle

try:
    from ray._common import ray_option_utils
except ImportError:
    ray_option_utils = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ray.exceptions import RayTaskError

__all__ = [
    "REFERENCE_REDUCERS",
    "cause_of",
    "cluster_address",
    "current_connection",
    "hide_unhandled_errors",
    "option_names",
    "start_task",
    "validate_options",
]

#: Needs: `CloudPickler.dispatch`, with which Ray pickles references to its objects and actors.
#: Without it, a node with such references in its arguments fails with an error that says so.
REFERENCE_REDUCERS: Final[dict[Any, Any]] = getattr(ray.cloudpickle.CloudPickler, "dispatch", {})


# ---- options ----


def option_names(kind: str) -> Collection[str] | None:
    """The names of all options of a `"task"` or an `"actor"`; None if Ray does not report them.

    Needs: the tables of `ray._common.ray_option_utils`. With them, an error can suggest the right name.
    Without them, Ray checks the names, see `validate_options`.
    """
    names: Collection[str] | None = getattr(ray_option_utils, f"{kind}_options", None)
    return names


def validate_options(kind: str, options: Mapping[str, Any]) -> None:
    """Have Ray check the options of a `"task"` or an `"actor"` before a graph runs.

    Needs: the validators of `ray._common.ray_option_utils`.
    Without them, `options` of an empty remote function or class checks the options that it knows.

    Raises:
        TypeError, ValueError, AttributeError: Ray refuses an option or its value.
    """
    validate: Callable[..., object] | None
    validate = getattr(ray_option_utils, f"validate_{kind}_options", None)
    if validate is not None:
        validate(dict(options), in_options=True)
        return
    remote: Any = ray.remote(type("Empty", (), {}) if kind == "actor" else lambda: None)
    remote.options(**options)


# ---- tasks ----


def start_task(task: Any, options: Mapping[str, Any], args: Sequence[Any]) -> Any:
    """Start a remote function; returns its references.

    Needs: `RemoteFunction._remote`, which is `options(...).remote(...)` without a new class for each call.
    Without it, and for a `runtime_env`, which `options` prepares, the two are called.
    """
    direct = None if "runtime_env" in options else getattr(task, "_remote", None)
    if direct is None:
        return task.options(**options).remote(*args)
    return direct(args=args, **options)


def cause_of(error: RayTaskError) -> BaseException:
    """The exception that was raised in a worker.

    Needs: the attribute `cause`. Without it, Ray's own error is returned, whose text has the worker's traceback.
    """
    cause: BaseException = getattr(error, "cause", error)
    return cause


# ---- the terminal ----


def hide_unhandled_errors() -> None:
    """Keep Ray from printing failures of nodes as unhandled: `run()` raises them.

    Ray prints an error object that was not fetched. A failed unit has two: its record, which the engine fetches,
    and its value. Errors of tasks that are not of this package are printed.

    Needs: the logger of `ray._private.worker` and the words "Unhandled error".
    Without them, a pickled exception may be printed after a failed run.
    """
    # the logger keeps one filter, however often it is added
    logging.getLogger("ray._private.worker").addFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    if record.levelno < logging.ERROR:
        return True
    text = record.getMessage()
    return not (text.startswith("Unhandled error") and any(name in text for name in _OURS))


#: Parts of the text of an error of our tasks, and of an actor that was ended.
_OURS: Final = ("ExceptionEnvelope", "InstanceActor", "functionfuse.errors.")


# ---- clusters ----


def cluster_address() -> str:
    """The address of the cluster that this process is connected to.

    Needs: `RuntimeContext.gcs_address`. Ray connects a process to one cluster, and ignores another address.
    Without it, a process cannot change `ray_init_args` between runs: any address counts as that of another cluster.
    """
    address: str = getattr(ray.get_runtime_context(), "gcs_address", "")
    return address


def current_connection() -> object:
    """An object that represents the connection of this process to a cluster: `ray.init` creates a new one.

    Needs: `_global_node` of `ray._private.worker`. Calls of Ray's core would end a process that is in `ray.shutdown`.
    Without it, a run does not notice that Ray was shut down and initialised again, and raises an error of Ray.
    """
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    return getattr(worker, "_global_node", None)
