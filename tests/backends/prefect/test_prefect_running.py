"""Runs on Prefect's servers: unreachable ones, restarted ones, and every task run is recorded."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import add, flow_run, make
from prefect_pipelines import until
from server_processes import free_port, prefect_server_in, runs_go_to

from functionfuse.errors import EngineError

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient


class TestUnreachable:
    """PREFECT_API_URL names an address without a server."""

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://nowhere.invalid/api"])
    def test_run(self, url: str) -> None:
        """The error names the address and what to do, instead of minutes of silence."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(EngineError, match=f"PREFECT_API_URL={url}.*prefect server start.*unset"),
        ):
            make(add(1, 2), workflow_name="unreachable").run()


def test_server_that_starts_again(tmp_path: Path) -> None:
    """A process that stays runs on, and has everything recorded, when its server was stopped and started."""
    port = free_port()
    wanted = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    with runs_go_to(f"http://127.0.0.1:{port}/api"):
        for count in (1, 2):
            with prefect_server_in(tmp_path, port), prefect.get_client(sync_client=True) as client:
                assert 3 == make(add(1, 2), workflow_name="restarted").run()
                ask = partial(client.request, "POST", "/task_runs/count", json=wanted)
                until(partial(is_answer, ask, count))


def is_answer(ask: Callable[[], Any], expected: int) -> bool:
    """Tell whether the server answers with a number."""
    answer: int = ask().json()
    return answer == expected


@pytest.mark.usefixtures("server")
class TestLarge:
    """A graph of 6,000 nodes, when it is asked for: FUNCTIONFUSE_FULL=1. It takes minutes."""

    __test__ = bool(os.environ.get("FUNCTIONFUSE_FULL"))

    def test_every_task_run_is_recorded(self, server: SyncPrefectClient) -> None:
        """The server has a completed task run for each of 6,000 nodes."""
        rows = [add(number, 1) for number in range(2_000)]
        for _ in range(2):
            rows = [add(node, 1) for node in rows]
        large = make(*rows, workflow_name="six-thousand")
        assert [3 + number for number in range(2_000)] == large.run()
        wanted = {
            "flow_runs": {"id": {"any_": [str(flow_run(server, "six-thousand").id)]}},
            "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }

        def more_than(count: int) -> bool:
            recorded: int = server.request("POST", "/task_runs/count", json=wanted).json()
            return recorded > count

        for count in range(0, 6_000, 500):  # it may be slow as long as it progresses
            until(partial(more_than, count))
        until(partial(more_than, 5_999))
        assert not more_than(6_000)
