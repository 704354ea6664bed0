"""Cases: run one graph as a plain Prefect flow and as a PrefectWorkflow, and compare the server's records of both."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from prefect_helpers import PATIENCE, flow_run, make

from functionfuse import workflow

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, TaskRun


__all__ = [
    "COMPLETED",
    "ERROR",
    "TRANSACTION_HOOKS",
    "Case",
    "Outcome",
    "Run",
    "Sides",
    "double",
    "failing",
    "noting",
    "serial_numbers",
]

serial_numbers: Final = count()  # of flows, files and keys, each used once


@dataclass
class Case:
    """A graph of two nodes, `seed` and the `node` that takes its result, and the options that it has."""

    function: Callable[[int], Any]
    task: dict[str, Any] = field(default_factory=dict)  # options of `node`
    flow: dict[str, Any] = field(default_factory=dict)
    around: Callable[[Callable[[], Any]], Any] = lambda run: run()
    times: int = 1  # how often it is run, one after the other
    task_runs: int = 2  # of the last run
    reported_by: str | None = (
        None  # the flow that the server has the task runs in, if it is another
    )


class Run(NamedTuple):
    """The server's record of a task run or a flow run."""

    states: tuple[str, ...]
    message: str
    run_count: int
    tags: tuple[str, ...]


@dataclass
class Outcome:
    """The results and records of a case."""

    said: list[Any]  # what the case's functions noted, in order
    results: list[Any] = field(default_factory=list)  # or the types of what was raised
    runs: dict[str, list[Run]] = field(default_factory=dict)  # of tasks
    flow_states: tuple[str, str] = ("", "")  # the last one's name and message
    flow_run_count: int = 0
    task_runs: dict[str, TaskRun] = field(default_factory=dict, compare=False)
    flow_run: FlowRun | None = field(default=None, compare=False)


def seed() -> int:
    """The first node."""
    return 20


def double(value: int) -> int:
    """A node without anything to it."""
    return 2 * value


class Sides:
    """Runs a graph as a plain flow and as a PrefectWorkflow."""

    def __init__(self, server: SyncPrefectClient) -> None:  # noqa: D107
        self.server = server

    def compare(self, made: Callable[[list[Any]], Case]) -> Outcome:
        """Run a case as a plain flow and as a workflow; compare and return the outcome.

        Args:
            made: Makes the case, once for each side; gets the list in which the case's functions note things.
        """
        hand, ours = Outcome([]), Outcome([])
        ran = [self._run(made, hand, self.by_hand), self._run(made, ours, self.as_workflow)]
        for run, case, outcome in ran:  # the server records in its own time
            self._read(outcome, run, case.task_runs)
        assert hand == ours
        return ours

    @staticmethod
    def by_hand(case: Case, name: str) -> Callable[[], Any]:
        """The flow that a user of Prefect writes."""
        hooks = {key: case.task[key] for key in TRANSACTION_HOOKS & case.task.keys()}
        options = {key: case.task[key] for key in case.task.keys() - TRANSACTION_HOOKS}
        first = prefect.task(seed, name="seed", task_run_name="seed")
        node = prefect.task(**{"name": "node", "task_run_name": "node", **options})(case.function)
        for key, functions in hooks.items():
            for function in functions:
                getattr(node, key)(function)

        def body() -> Any:
            return node.submit(first.submit()).result()

        flow: Callable[[], Any] = prefect.flow(**{"name": name, **case.flow})(body)
        return flow

    @staticmethod
    def as_workflow(case: Case, name: str) -> Callable[[], Any]:
        """The same with FunctionFuse."""
        node = workflow(case.function)(workflow(seed)().set_name("seed")).set_name("node")
        ours = make(node, workflow_name=name)
        ours.query("node").set_task_args(case.task)
        ours.set_prefect_flow_options(case.flow)
        return ours.run

    def _run(
        self,
        made: Callable[[list[Any]], Case],
        outcome: Outcome,
        make_run: Callable[[Case, str], Callable[[], Any]],
    ) -> tuple[UUID, Case, Outcome]:
        case = made(outcome.said)
        name = f"options-{next(serial_numbers)}"
        run = make_run(case, name)
        for _ in range(case.times):
            try:
                outcome.results.append(case.around(run))
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - compared
                outcome.results.append((type(error), str(error)))
        name = case.reported_by or case.flow.get("name", name)
        return flow_run(self.server, name).id, case, outcome

    def _read(self, outcome: Outcome, identity: UUID, expected: int) -> None:
        last = outcome.flow_run = self.server.read_flow_run(identity)
        assert last.state is not None
        outcome.flow_states = last.state.name or "", last.state.message or ""
        outcome.flow_run_count = last.run_count
        for run in finished(self.server, identity, expected):
            assert run.state is not None
            states = self.server.read_task_run_states(run.id)
            names = tuple(state.name or "" for state in states)
            seen = Run(names, run.state.message or "", run.run_count, tuple(sorted(run.tags)))
            outcome.runs.setdefault(run.name, []).append(seen)
            outcome.task_runs[run.name] = run


#: A plain flow sets them on the task that `@task` creates.
TRANSACTION_HOOKS: Final = frozenset({"on_commit", "on_rollback"})


def finished(server: SyncPrefectClient, identity: UUID, expected: int) -> list[TaskRun]:
    """All task runs of a flow run, once they have ended, in the order of their starts."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    runs = FlowRunFilter(id=FlowRunFilterId(any_=[identity]))
    deadline = time.monotonic() + PATIENCE
    while True:
        found = server.read_task_runs(flow_run_filter=runs)
        if len([run for run in found if run.state and run.state.is_final()]) >= expected:
            assert expected == len(found)
            return sorted(found, key=lambda run: str(run.start_time))
        assert time.monotonic() < deadline, found
        time.sleep(0.05)  # the server records asynchronously, without a notification


COMPLETED: Final = Run(("Pending", "Running", "Completed"), "", 1, ())
ERROR: Final = "Task run encountered an exception "


def failing(said: list[Any], times: int) -> Callable[[int], int]:
    """A function that fails at its first calls."""

    def fails(value: int) -> int:
        said.append("called")
        if len([word for word in said if word == "called"]) <= times:
            message = "not yet"
            raise RuntimeError(message)
        return value

    return fails


def noting(said: list[Any], word: str) -> Callable[..., None]:
    """A hook of a task that notes all that it gets."""

    def hook(task: Any, task_run: Any, state: Any) -> None:
        result = state.result(raise_on_failure=False) if state.is_final() else None
        shown = result if isinstance(result, int) else repr(result)
        said.append((word, task.name, task_run.name, state.name, shown))

    return hook
