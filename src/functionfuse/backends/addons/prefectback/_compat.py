"""Compatibility with Prefect's versions: undocumented parts of Prefect, and a replacement for each.

Each docstring names the part of Prefect, its purpose, and the behaviour without it.
`node_function` (transactions and task engines) and `envelopes` (annotations) use further parts in their classes.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from prefect.context import SyncClientContext
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker, emit_events_to_cloud
from prefect.futures import PrefectConcurrentFuture

# Needs: the record of a persisted result, which is the data of its state. Without it, this package cannot be imported.
from prefect.results import ResultRecord  # type: ignore[attr-defined]

# Needs: runs a coroutine from synchronous code, whether or not an event loop runs in the thread: hooks may be
# coroutine functions. Without it, this package cannot be imported.
from prefect.utilities.asyncutils import run_coro_as_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.tasks import Task

__all__ = [
    "EPHEMERAL_SERVER_VARIABLES",
    "ResultRecord",
    "break_cycles",
    "call_sync",
    "client_context",
    "complete_models",
    "drop_function_attributes",
    "has_final_state",
    "parent_calls_cancellation_hooks",
    "route_events",
    "run_coro_as_sync",
    "set_recorder_flush",
    "wait_until_events_sent",
]

#: Needs: the variable with which Prefect starts its own ephemeral server, which turns off services that only a
#: permanent server needs. Without it, those services run as well, and the server starts later.
EPHEMERAL_SERVER_VARIABLES: Final = {"PREFECT__SERVER_EPHEMERAL": "1"}

_COPIED_ATTRIBUTES: Final = ("__annotations__", "__signature__")
_EACH_SECOND: Final = 1


# ---- calls ----


def call_sync(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of Prefect that returns an awaitable in a thread with a running event loop.

    Needs: the argument `_sync` of functions with an `aio` variant, which makes them synchronous everywhere.
    Without `aio`, the function is synchronous, and is called without `_sync`.
    """
    if hasattr(function, "aio"):
        kwargs["_sync"] = True
    return function(*args, **kwargs)


def complete_models() -> None:
    """Complete Prefect's models, which refer to each other; `import prefect` alone does not.

    Needs: the import of `prefect.main`, deferred since it takes a third of the import of this package.
    Without it, Prefect has another place that does so, and the import raises an error.
    """
    import prefect.main  # noqa: F401


def parent_calls_cancellation_hooks() -> bool:
    """Tell whether the process that started this one calls the hooks of a cancelled flow run.

    Needs: the environment variable that Prefect's runner sets for its flow runs, and that Prefect's flow engine reads.
    Without it, a hook may be called twice in deployments: by the runner and here.
    """
    enabled = os.environ.get("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "true")
    return enabled.lower() != "true"


def client_context(client: SyncPrefectClient) -> AbstractContextManager[object]:
    """Let everything within use an existing client.

    Needs: the context of Prefect's synchronous client, constructed without its `__init__`, which makes a new client.
    Without it, entering a run raises an error: there is no other way to share a client between runs.
    """
    return SyncClientContext.model_construct(client=client)


# ---- tasks and futures ----


def drop_function_attributes(task: Task[..., Any]) -> None:
    """Remove the attributes of a task that refer to the user's modules, before it is pickled.

    Needs: `Task` copies its function's attributes into its `__dict__`. The function itself is pickled apart.
    Without the copies there is nothing to remove.
    """
    for name in _COPIED_ATTRIBUTES:
        vars(task).pop(name, None)


def has_final_state(future: Any) -> bool:
    """Tell whether a future that is done has got its state.

    Needs: the attribute `_final_state`. The future of Dask's task runner stays without a state, and without an error,
    where Dask could not return one.
    Without it, the caller asks the wrapped future as well, which costs another transfer of the state on Dask.
    """
    return getattr(future, "_final_state", None) is not None


def break_cycles(future: Any) -> None:
    """Break the reference cycles of a future that is done: it refers to its callbacks, and they to it.

    Needs: the `__dict__` of `PrefectConcurrentFuture` and of the standard library's future that it wraps.
    Without it, the result and the arguments stay in memory until the garbage collector runs.
    """
    while isinstance(future, (PrefectConcurrentFuture, Future)):
        inner = getattr(future, "wrapped_future", None)
        getattr(future, "__dict__", {}).clear()
        future = inner


# ---- events ----

_lock: Final = Lock()
_urls: Final[list[str]] = []  # the servers of the runs in progress


@contextmanager
def route_events(url: str) -> Iterator[None]:
    """Send the events of task runs to the server at an address; Prefect records task runs from them.

    Needs: `EventsWorker.set_client_override`. Prefect has one worker a process, which stays with the server of its
    first event.
    Without it, a second server in one process records nothing, and a run on it ends with a warning that says so.
    """
    if emit_events_to_cloud():  # its workers are apart by address
        yield
        return
    with _lock:
        _urls.append(url)
        _set_events_client(url)
    try:
        yield
    finally:
        with _lock:
            _urls.remove(url)
            _set_events_client(_urls[-1] if _urls else None)


def _set_events_client(url: str | None) -> None:
    override = getattr(EventsWorker, "set_client_override", None)
    if override is not None:
        _ = override(None) if url is None else override(PrefectEventsClient, api_url=url)


def wait_until_events_sent(timeout: float) -> None:
    """Block until all events of this process are sent, or for some seconds.

    Needs: the queue of the process's `EventsWorker`.
    Without it, an ephemeral server is still asked until it has recorded all task runs; on a permanent one, Prefect
    sends the rest when the process exits.
    """
    wait = getattr(EventsWorker.instance(), "wait_until_empty", None)
    if wait is not None:
        sending = Thread(target=wait, daemon=True)
        sending.start()
        sending.join(timeout)


def set_recorder_flush(seconds: float) -> None:
    """Make the server in this process write task runs more often than each second, the least that a setting allows.

    Needs: the function `consumer` of the module `task_run_recorder`, and its argument `flush_every`. A run waits at
    its end until everything is written.
    Without it, a run ends up to a second later.
    """
    from prefect.server.services import task_run_recorder

    consumer = getattr(task_run_recorder, "consumer", None)
    if consumer is None:
        return

    def flush_sooner(*args: Any, **options: Any) -> Any:
        if options.get("flush_every") == _EACH_SECOND:
            options["flush_every"] = seconds
        return consumer(*args, **options)

    task_run_recorder.consumer = flush_sooner
