"""Compatibility with Dask's versions: undocumented parts of Dask, and a replacement for each.

Each docstring names the part of Dask, its purpose, and the behaviour without it.
"""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import dask
import distributed.scheduler
from distributed import Future, KilledWorker, get_worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from distributed import Client, Worker, WorkerPlugin

__all__ = [
    "accept_large_graph",
    "add_plugin",
    "current_key",
    "failed_key",
    "forget_topics",
    "is_starting_worker",
    "keep_restarting_workers",
    "plugin_of",
    "release_keys",
]


# ---- client and scheduler ----


def release_keys(client: Client, keys: Sequence[str], kept: Sequence[str]) -> None:
    """Cancel tasks; when this returns, the scheduler sends none of them to a worker any more.

    Needs: `Scheduler.client_releases_keys` and `client_desires_keys`, called on the scheduler.
    Without them, `Client.cancel` is called, which returns earlier than the scheduler cancels: a task may still start.

    Args:
        client: The client that submitted the tasks.
        keys: The keys of the tasks.
        kept: The keys of other tasks that the client waits for from now on.
    """
    name = client.id

    # a local function is sent by value: the scheduler's process may lack this package
    def release(dask_scheduler: Any) -> None:
        dask_scheduler.client_desires_keys(keys=kept, client=name)
        dask_scheduler.client_releases_keys(keys=keys, client=name)

    try:
        client.run_on_scheduler(release)
    except AttributeError:
        client.cancel([Future(key, client) for key in keys])


def forget_topics(client: Client, prefix: str) -> None:
    """Remove the topics of a client from the scheduler, which would keep them; the client is closed next.

    Needs: the dictionary `Scheduler._broker._topics`. Without it, the scheduler keeps two names for each run.

    Args:
        client: The client.
        prefix: The start of the names of its topics.
    """
    delay = _FORGET_DELAY

    # a local function is sent by value: the scheduler's process may lack this package
    def forget(dask_scheduler: Any) -> None:
        def remove() -> None:
            topics = getattr(getattr(dask_scheduler, "_broker", None), "_topics", {})
            for name in [name for name in topics if name.startswith(prefix)]:
                del topics[name]

        dask_scheduler.loop.call_later(delay, remove)

    if client.status == "running":
        with suppress(Exception):  # the scheduler may have ended
            client.run_on_scheduler(forget)


_FORGET_DELAY: Final = 1.0  # seconds: a message in flight would create its topic again


def failed_key(error: BaseException) -> str:
    """The key of the task that Dask stopped trying; empty for other exceptions.

    Needs: `NoValidWorkerError`, raised if no worker can run a task, and its attribute `task`.
    Without them, the error names the first failed node, which may be a dependent of the right one.
    """
    unschedulable = getattr(distributed.scheduler, "NoValidWorkerError", KilledWorker)
    if isinstance(error, (KilledWorker, unschedulable)):
        return str(getattr(error, "task", ""))
    return ""


def accept_large_graph(nbytes: int) -> AbstractContextManager[object]:
    """Submit a large object once without a warning.

    Needs: the configuration key below. Without it, Dask warns about large objects; their tasks run.
    """
    limit = max(nbytes * 2, 10_000_000)
    setting: AbstractContextManager[object] = dask.config.set(
        {"distributed.admin.large-graph-warning-threshold": limit}
    )
    return setting


# ---- local clusters ----


def keep_restarting_workers() -> AbstractContextManager[object]:
    """Let clusters restart a worker however often it dies.

    Needs: the configuration key below. By default, a cluster stops restarting a worker that dies several times in a row.
    Without it, a run whose nodes crash several workers waits for a worker without end.
    """
    setting: AbstractContextManager[object] = dask.config.set(
        {"distributed.deploy.lost-worker-timeout": "1 hour"}
    )
    return setting


def is_starting_worker() -> bool:
    """Tell whether this process is a worker that imports the user's script before it starts.

    Needs: `multiprocessing` sets `_inheriting` during the import.
    Without it, Python's less specific error is raised by the start of a cluster.
    """
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


# ---- workers ----


def current_key() -> Any:
    """The key of the task that runs in this thread.

    Needs: `Worker.get_current_task`. Without it, each node fails: the client identifies units by these keys.
    """
    return get_worker().get_current_task()


def plugin_of(worker: Worker, name: str) -> WorkerPlugin | None:
    """A plugin of a worker; None if the worker lacks it.

    Needs: the dictionary `Worker.plugins`. Without it, the worker has no plugin: see `add_plugin`.
    """
    plugins: dict[str, WorkerPlugin] = getattr(worker, "plugins", {})
    return plugins.get(name)


def add_plugin(worker: Worker, plugin: WorkerPlugin) -> None:
    """Add a plugin to a worker from a task on it; Dask documents this for clients only.

    Needs: `Worker.plugin_add`, a coroutine function, and the worker's `loop`.
    Without it, each record is sent in a packet of its own, which delays a unit by some milliseconds.
    """
    add = getattr(worker, "plugin_add", None)
    if add is not None:
        worker.loop.add_callback(add, plugin)
