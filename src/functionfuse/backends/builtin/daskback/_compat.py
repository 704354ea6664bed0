"""Parts of Dask that its documentation does not promise, and what replaces each where a version lacks it.

Each function says what it needs of Dask, why, and what happens without it.
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
    `Client.cancel` returns before the scheduler knows of it: without them it is called, and a task may still start.

    Args:
        client: The client that submitted the tasks.
        keys: The keys of the tasks.
        kept: The keys of other tasks that the client waits for from now on.
    """
    name = client.id

    # not of this module: the scheduler's process may be without this package
    def release(dask_scheduler: Any) -> None:
        dask_scheduler.client_desires_keys(keys=kept, client=name)
        dask_scheduler.client_releases_keys(keys=keys, client=name)

    try:
        client.run_on_scheduler(release)
    except AttributeError:
        client.cancel([Future(key, client) for key in keys])


def forget_topics(client: Client, prefix: str) -> None:
    """Remove the topics of a client that is closed next from the scheduler, which would keep them for ever.

    Needs: the dictionary `Scheduler._broker._topics`. Without it, a scheduler that lasts keeps two names for each run.

    Args:
        client: The client.
        prefix: The start of the names of its topics.
    """
    delay = _FORGET_DELAY

    # not of this module: the scheduler's process may be without this package
    def forget(dask_scheduler: Any) -> None:
        def remove() -> None:
            topics = getattr(getattr(dask_scheduler, "_broker", None), "_topics", {})
            for name in [name for name in topics if name.startswith(prefix)]:
                del topics[name]

        dask_scheduler.loop.call_later(delay, remove)

    if client.status == "running":
        with suppress(Exception):  # the scheduler may be gone
            client.run_on_scheduler(forget)


_FORGET_DELAY: Final = 1.0  # seconds: a message of the client on its way would make its topic again


def failed_key(error: BaseException) -> str:
    """The key of the task that Dask gave up; empty if the exception is another one.

    Needs: `NoValidWorkerError` and its attribute `task`, which say that no worker can run a task.
    Without them, the first node that is seen to fail is blamed, which may be a dependent of the right one.
    """
    unschedulable = getattr(distributed.scheduler, "NoValidWorkerError", KilledWorker)
    if isinstance(error, (KilledWorker, unschedulable)):
        return str(getattr(error, "task", ""))
    return ""


def accept_large_graph(nbytes: int) -> AbstractContextManager[object]:
    """Submit a large object once without a warning.

    Needs: the configuration key below. Without it, Dask warns of large objects, and their tasks run.
    """
    limit = max(nbytes * 2, 10_000_000)
    setting: AbstractContextManager[object] = dask.config.set(
        {"distributed.admin.large-graph-warning-threshold": limit}
    )
    return setting


# ---- local clusters ----


def keep_restarting_workers() -> AbstractContextManager[object]:
    """Start clusters that start a worker again however often it dies.

    Needs: the configuration key below. Dask's own clusters give a worker up that dies some times in a row.
    Without it, a run whose nodes crash several workers waits for a worker for ever.
    """
    setting: AbstractContextManager[object] = dask.config.set(
        {"distributed.deploy.lost-worker-timeout": "1 hour"}
    )
    return setting


def is_starting_worker() -> bool:
    """Tell whether this process is a worker that imports the user's script before it starts.

    Needs: `multiprocessing` sets `_inheriting` meanwhile, and uses it itself for an error that says less.
    Without it, Python's error is raised, from a cluster that cannot be started.
    """
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


# ---- workers ----


def current_key() -> Any:
    """The key of the task that runs in this thread.

    Needs: `Worker.get_current_task`. Without it, each node fails: the client knows units by their keys.
    """
    return get_worker().get_current_task()


def plugin_of(worker: Worker, name: str) -> WorkerPlugin | None:
    """A plugin of a worker.

    Needs: the dictionary `Worker.plugins`. Without it, there is no plugin: see `add_plugin`.
    """
    plugins: dict[str, WorkerPlugin] = getattr(worker, "plugins", {})
    return plugins.get(name)


def add_plugin(worker: Worker, plugin: WorkerPlugin) -> None:
    """Add a plugin to a worker, from a task that it runs; only clients can do so by the documented way.

    Needs: `Worker.plugin_add`, a coroutine function, and the worker's `loop`.
    Without it, each record is sent in a packet of its own, and a unit is done some milliseconds later.
    """
    add = getattr(worker, "plugin_add", None)
    if add is not None:
        worker.loop.add_callback(add, plugin)
