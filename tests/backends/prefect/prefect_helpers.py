"""Make PrefectWorkflows, and read runs and logs from the server's API."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from functionfuse import workflow

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, TaskRun

    from functionfuse.backends.addons.prefectback import PrefectWorkflow

PATIENCE = 60  # seconds that the server gets to record what was sent to it


def make(*nodes: Any, workflow_name: str) -> PrefectWorkflow:
    """A workflow on Prefect."""
    from functionfuse.backends.addons.prefectback import PrefectWorkflow

    return PrefectWorkflow(*nodes, workflow_name=workflow_name)


def flow_run(server: SyncPrefectClient, name: str) -> FlowRun:
    """The last run of a flow."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    found = server.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[name])),
        sort=FlowRunSort.START_TIME_DESC,
        limit=1,
    )
    return found[0]


def task_runs(server: SyncPrefectClient, name: str, count: int) -> dict[str, TaskRun]:
    """The task runs of the last run of a flow by their names, once the server has that many ends."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    runs = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run(server, name).id]))
    deadline = time.monotonic() + PATIENCE
    while True:
        found = server.read_task_runs(flow_run_filter=runs)
        if len([run for run in found if run.state and run.state.is_final()]) >= count:
            assert count == len(found)
            return {run.name: run for run in found}
        assert time.monotonic() < deadline, found
        time.sleep(0.1)  # the server records asynchronously, without a notification


def edges(runs: dict[str, TaskRun]) -> dict[str, dict[str, set[str]]]:
    """For each task run and parameter, the names of the task runs that it depends on."""
    names: dict[UUID, str] = {run.id: name for name, run in runs.items()}
    return {
        name: {
            parameter: {names[source.id] for source in sources}  # type: ignore[union-attr]
            for parameter, sources in run.task_inputs.items()
            if sources
        }
        for name, run in runs.items()
    }


def log_messages(server: SyncPrefectClient, run: TaskRun, count: int) -> list[str]:
    """The messages that the server has for a task run, once it has that many."""
    from prefect.client.schemas.filters import LogFilter, LogFilterTaskRunId

    deadline = time.monotonic() + PATIENCE
    while True:
        logs = server.read_logs(LogFilter(task_run_id=LogFilterTaskRunId(any_=[run.id])))
        if len(logs) >= count:
            return [log.message for log in logs]
        assert time.monotonic() < deadline, logs
        time.sleep(0.1)  # logs are sent in batches, in their own time


@workflow
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@workflow
def pair(a: Any, b: Any) -> dict[str, list[Any]]:
    """Put two things into a container."""
    return {"pair": [a, b]}


@workflow
def collect(*parts: Any, **named: Any) -> tuple[Any, Any]:
    """Give back what came in."""
    return parts, named


@workflow
class Total:
    """A sum that grows."""

    def __init__(self, start: int) -> None:  # noqa: D107
        self.total = start

    def add(self, number: int) -> int:
        """Add a number."""
        self.total += number
        return self.total


@workflow
def lock() -> Any:
    """Return what no other process can have."""
    return threading.Lock()


class Guarded(Exception):
    """An error with a part that no other process can have."""

    def __init__(self, words: str, lock: Any) -> None:  # noqa: D107
        super().__init__(words, lock)
        self.lock = lock


@workflow
def fail_guarded() -> None:
    """Raise it."""
    message = "keep out"
    raise Guarded(message, threading.Lock())


def edges_targets() -> list[Any]:
    """Nodes that depend on whole results, on items, through containers and by their instance."""
    one = add(1, 1).set_name("one")
    two = pair(one, 2).set_name("two")
    three = collect(two["pair"][0], [one, {"k": two}], 2, x=one).set_name("three")
    total: Any = Total(one)
    total.set_name("total")
    first = total.add(2).set_name("first")
    second = total.add(two["pair"][1]).set_name("second")
    return [three, first, second]


EDGES_RESULT: Final = [((2, [2, {"k": {"pair": [2, 2]}}], 2), {"x": 2}), 4, 6]
#: What Prefect has to know: for each task run and parameter, the task runs that it depends on.
EDGES: Final[dict[str, dict[str, set[str]]]] = {
    "one": {},
    "two": {"a": {"one"}},
    "three": {"parts": {"one", "two"}, "named": {"one"}},
    "total": {"start": {"one"}},
    "first": {"self": {"total"}},
    "second": {"self": {"first"}, "number": {"two"}},
}
