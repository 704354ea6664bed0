"""Run workflows in event loops, async flows and threads, also with many nodes."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import add, flow_run, make
from prefect_pipelines import LIMIT, until

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@pytest.mark.usefixtures("server")
class TestWhere:
    """Where a run can be started."""

    def test_awaited(self) -> None:
        """arun() gives the result without blocking the event loop, which releases the node here."""
        released = threading.Event()

        @workflow
        def wait(value: int) -> int:
            """Wait for the event loop."""
            assert released.wait(LIMIT)
            return value

        awaited = make(wait(3), workflow_name="awaited")

        async def main() -> Any:
            run = asyncio.create_task(awaited.arun())
            await asyncio.sleep(0)
            released.set()
            return await run

        assert 3 == asyncio.run(main())

    def test_arun_raises(self) -> None:
        """arun() raises what run() raises."""

        @workflow
        def divide(a: int, b: int) -> float:
            """Divide."""
            return a / b

        with pytest.raises(ZeroDivisionError):
            asyncio.run(make(divide(1, 0), workflow_name="awaited-failure").arun())

    def test_in_event_loop(self) -> None:
        """run() and flow() work inside a running event loop, as in a notebook."""
        looped = make(add(1, 2), workflow_name="looped")

        async def main() -> Any:
            return looped.run(), looped.flow()

        assert (3, 3) == asyncio.run(main())

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_in_async_flow(self) -> None:
        """A workflow's flow is a subflow of an asynchronous flow, also by arun()."""
        inner = make(add(1, 2), workflow_name="inner-of-async")

        @prefect.flow  # type: ignore[untyped-decorator]
        async def outer() -> Any:
            return inner.flow(), await inner.arun()

        assert (3, 3) == asyncio.run(outer())
        gc.collect()  # Prefect leaves a connection of its own asynchronous client open

    def test_in_thread(self) -> None:
        """run() works in a thread that is not the main one."""
        threaded = make(add(1, 2), workflow_name="threaded")
        with ThreadPoolExecutor(1) as pool:
            assert 3 == pool.submit(contextvars.copy_context().run, threaded.run).result(LIMIT)

    def test_large(self, server: SyncPrefectClient) -> None:
        """A graph of 300 nodes, some of which fail at first, runs to its end, and all are recorded."""
        tried = SimpleNamespace(names=set())

        @workflow
        def flaky(value: int, name: int) -> int:
            """Fail at the first call of each tenth."""
            if name % 10 == 0 and name not in tried.names:
                tried.names.add(name)
                message = "not yet"
                raise RuntimeError(message)
            return value + 1

        ends = []
        for row in range(30):
            node: Any = 0
            for column in range(10):
                node = flaky(node, 10 * row + column).set_name(f"node-{row}-{column}")
            ends.append(node)
        large = make(*ends, workflow_name="large")
        large.query().set_task_args({"retries": 1, "retry_delay_seconds": 0})
        assert [10] * 30 == large.run()
        wanted = {
            "flow_runs": {"id": {"any_": [str(flow_run(server, "large").id)]}},
            "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }
        until(lambda: 300 == server.request("POST", "/task_runs/count", json=wanted).json())

    def test_few_threads(self, server: SyncPrefectClient) -> None:
        """A node is submitted when its dependencies are done: a chain needs no thread for each of its nodes."""

        @workflow
        def count_threads(most: int) -> int:
            """Give the largest number of threads so far."""
            return max(most, threading.active_count())

        node: Any = threading.active_count()
        for _ in range(200):
            node = count_threads(node)
        assert make(node, workflow_name="few-threads").run() < threading.active_count() + 20


@workflow
def flow_run_id() -> str:
    """The flow run that a node's logger writes to."""
    identifier: str = prefect.get_run_logger().extra["flow_run_id"]
    return identifier


@pytest.mark.usefixtures("server")
def test_run_logger_in_local_threads() -> None:
    """In a plain flow, nodes of a LocalWorkflow in threads log to the flow's run."""

    def by_hand() -> tuple[list[str], str]:
        nodes = flow_run_id(), flow_run_id()
        local = LocalWorkflow(*nodes, workflow_name="inner", workers=2, kind="threads")
        return local.run(), str(prefect.runtime.flow_run.id)

    found, expected = prefect.flow(by_hand)()
    assert found == [expected, expected]
