"""Runs on Prefect's servers: unreachable ones, restarted ones, and every task run is recorded."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import add, flow_run, make
from prefect_pipelines import until
from server_processes import free_port, prefect_server_in, runs_go_to

from functionfuse import workflow
from functionfuse.errors import EngineError, FunctionFuseWarning

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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

    @pytest.mark.parametrize(
        ("address", "environment", "problem"),
        [
            ("http://127.0.0.1:{web}", {}, r"ends with /api, as in http://127.0.0.1:\d+/api"),
            ("http://127.0.0.1:{web}/api", {}, r"is not the API of a Prefect server \(HTTP 404\)"),
            (
                "http://127.0.0.1:{silent}/api",
                {},
                r"no Prefect server answers there within 1 seconds",
            ),
            (
                "http://server.invalid/api",
                {"HTTP_PROXY": "http://me:secret@127.0.0.1:{web}"},
                r"\(HTTP 502\): requests go through the proxy http://127.0.0.1:\d+ .* NO_PROXY=server.invalid",
            ),
            (
                "http://server.invalid/api",
                {"HTTP_PROXY": "http://127.0.0.1:{silent}"},
                r"within 1 seconds: requests go through the proxy",
            ),
        ],
    )
    def test_other_servers(
        self,
        address: str,
        environment: dict[str, str],
        problem: str,
        ports: dict[str, int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A server that is not the API, or never answers, is an error within seconds that says what to set."""
        from prefect.settings import (
            PREFECT_API_REQUEST_TIMEOUT,
            PREFECT_API_URL,
            temporary_settings,
        )

        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(**ports))
        settings = {PREFECT_API_URL: address.format(**ports), PREFECT_API_REQUEST_TIMEOUT: 1}
        with temporary_settings(settings), pytest.raises(EngineError, match=problem) as caught:
            make(add(1, 2), workflow_name="unreachable").run()
        assert "secret" not in str(caught.value)


class _Pages(BaseHTTPRequestHandler):
    """A web server without an API, which answers 502 as a proxy."""

    def do_GET(self) -> None:
        status = 502 if "://" in self.path else 404 if self.path.startswith("/api") else 200
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    """The ports of a web server, and of one that accepts connections and never answers."""
    with (
        HTTPServer(("127.0.0.1", 0), _Pages) as web,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        serving = Thread(target=web.serve_forever)
        serving.start()
        try:
            yield {"web": web.server_port, "silent": silent.getsockname()[1]}
        finally:
            web.shutdown()
            serving.join()


def test_server_that_is_killed(tmp_path: Path) -> None:
    """A run whose server is killed continues immediately, returns its values, and warns that they are not recorded."""
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(runs_go_to(f"http://127.0.0.1:{port}/api"))
        server = ExitStack()
        server.enter_context(prefect_server_in(tmp_path, port))
        stack.enter_context(server)
        killed = workflow(server.close)()
        with pytest.warns(FunctionFuseWarning, match="the Prefect server stopped during the run"):
            assert [None, 7, 9] == make(
                killed, add(3, 4), add(add(1, 2), 6), workflow_name="killed"
            ).run()

        with pytest.raises(EngineError, match="no Prefect server answers"):
            make(add(1, 2), workflow_name="killed").run()


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
    """A graph of 6,000 nodes, with FUNCTIONFUSE_FULL=1: it takes minutes."""

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
