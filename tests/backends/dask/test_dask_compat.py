"""Undocumented parts of Dask: the installed version has them, and what happens in a version that lacks one."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any

import pytest

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from distributed import Client, KilledWorker, LocalCluster, Scheduler, Worker  # noqa: E402

from functionfuse.backends.builtin.daskback import _compat  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of a cluster in this process, without workers."""
    with (
        LocalCluster(
            n_workers=0,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


def test_the_installed_dask_has_all_parts() -> None:
    """Each replacement is for other versions: the installed one has all parts."""
    assert hasattr(Scheduler, "client_desires_keys")
    assert hasattr(Scheduler, "client_releases_keys")
    assert hasattr(Worker, "plugin_add")
    assert hasattr(Worker, "get_current_task")
    assert issubclass(distributed.scheduler.NoValidWorkerError, Exception)
    for key in ("admin.large-graph-warning-threshold", "deploy.lost-worker-timeout"):
        assert dask.config.get(f"distributed.{key}") is not None


@pytest.mark.parametrize("lacks", [[], ["client_desires_keys"]])
def test_released_keys_are_not_run(
    client: Client, monkeypatch: pytest.MonkeyPatch, lacks: list[str]
) -> None:
    """A task that waits for a worker is cancelled, also by the documented way; others still wait."""
    released, kept = (
        f"released-{len(lacks)}",
        f"kept-{len(lacks)}",
    )  # a client knows a key for some time
    tasks = [client.submit(len, "", key=key, pure=False) for key in (released, kept)]
    wait_until_known(client, {released, kept})
    with monkeypatch.context() as patched:
        for name in lacks:  # the scheduler itself calls it, too
            patched.delattr(Scheduler, name)
        _compat.release_keys(client, [released], [kept])
    wait_until_known(client, {kept})
    del tasks


def wait_until_known(client: Client, keys: set[str]) -> None:
    """Ask the scheduler for its tasks until it has these, and no others."""
    end = time.monotonic() + 60
    while (known := client.run_on_scheduler(keys_of)) != keys:
        assert time.monotonic() < end, known


def keys_of(dask_scheduler: Scheduler) -> set[Any]:
    """The keys of all tasks."""
    return {*dask_scheduler.tasks}


def test_the_key_of_a_task_that_dask_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of Dask's exceptions name it; another exception, or a version without one of them, gives no key."""
    worker: Any = None
    killed = KilledWorker("task", worker, 3)
    unschedulable = distributed.scheduler.NoValidWorkerError("task", set(), {}, {}, None)
    assert ["task", "task", ""] == [
        _compat.failed_key(error) for error in (killed, unschedulable, ValueError())
    ]
    monkeypatch.delattr(distributed.scheduler, "NoValidWorkerError")
    assert ["task", ""] == [_compat.failed_key(error) for error in (killed, unschedulable)]


def test_a_process_that_multiprocessing_starts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it imports the user's script, and never without Python's attribute."""
    assert not _compat.is_starting_worker()
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    assert _compat.is_starting_worker()


def test_a_worker_without_plugins_gets_none() -> None:
    """A version whose workers take no plugins runs units without them."""
    worker: Any = object()
    assert _compat.plugin_of(worker, "name") is None
    _compat.add_plugin(worker, distributed.WorkerPlugin())
