"""Cancel a run: on the server, and by cancelling the awaiting task."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from prefect_helpers import add, flow_run, make, task_runs
from prefect_pipelines import LIMIT

from functionfuse import workflow
from functionfuse.events import RunFinished
from functionfuse.storage import storage_factory

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient


class TestCancelling:
    """A run started by run() is cancelled on the server."""

    def test_cancelled(
        self, server: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The running node is stored, nothing new starts, the run is Cancelled, and its caller gets an error."""
        from prefect.exceptions import CancelledRun
        from prefect.states import Cancelling

        from functionfuse.backends.addons.prefectback.server import Cancellation

        monkeypatch.setattr(Cancellation, "interval", 0.1)
        noticed = threading.Event()

        @workflow
        def wait(value: int) -> int:
            """Cancel the run, as the UI does, and wait until that is noticed."""
            identity = prefect.context.get_run_context().task_run.flow_run_id
            with prefect.get_client(sync_client=True) as client:
                client.set_flow_run_state(identity, Cancelling())
            assert noticed.wait(LIMIT)
            return value

        running = wait(1).set_name("running")
        cancelled = make(add(running, 1).set_name("next"), workflow_name="cancelled")
        storage = storage_factory({"kind": "file", "options": {"path": str(tmp_path)}})
        cancelled.set_storage(storage)
        cancelled.add_observer(
            lambda event: noticed.set() if isinstance(event, RunFinished) else None
        )
        with pytest.raises(CancelledRun):
            cancelled.run()
        assert "Cancelled" == flow_run(server, "cancelled").state_name
        assert ["running"] == storage.list_tasks("cancelled")
        assert ["running"] == list(task_runs(server, "cancelled", 1))

    def test_awaiting_task_cancelled(
        self, server: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the task that awaits arun() is cancelled, the run is Cancelled: nothing new starts."""
        from functionfuse.backends.addons.prefectback.server import Cancellation

        monkeypatch.setattr(Cancellation, "interval", 0.1)
        noticed = threading.Event()
        loop = asyncio.new_event_loop()

        @workflow
        def wait(value: int) -> int:
            """Cancel the task, and wait until the run knows."""
            loop.call_soon_threadsafe(tasks[0].cancel)
            assert noticed.wait(LIMIT)
            return value

        running = wait(1).set_name("running")
        left = make(add(running, 1).set_name("next"), workflow_name="left-alone")
        left.add_observer(lambda event: noticed.set() if isinstance(event, RunFinished) else None)
        tasks = [loop.create_task(left.arun())]
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(tasks[0])
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        assert "Cancelled" == flow_run(server, "left-alone").state_name
        assert ["running"] == list(task_runs(server, "left-alone", 1))
