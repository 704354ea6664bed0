"""Options of Prefect's tasks and flows: every one is taken, and does what it does for a flow written by hand."""

from __future__ import annotations

import inspect
import json
import signal
import threading
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from prefect_helpers import PATIENCE, flow_run, log_messages, make, task_runs

from functionfuse import workflow
from functionfuse.errors import OptionError

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, TaskRun

_names: Final = count()


@dataclass
class Case:
    """A graph of two nodes, `seed` and the `node` that takes its result, and the options that it has."""

    function: Callable[[int], Any]
    task: dict[str, Any] = field(default_factory=dict)  # options of `node`
    flow: dict[str, Any] = field(default_factory=dict)
    around: Callable[[], AbstractContextManager[Any]] | None = None
    times: int = 1  # how often it is run, one after the other
    task_runs: int = 2  # of the last run
    name: str = "node"  # of the task run of `node`


class Run(NamedTuple):
    """What the server has of a task run or a flow run."""

    states: tuple[str, ...]
    message: str | None
    run_count: int
    tags: tuple[str, ...]


@dataclass
class Outcome:
    """What came of a case."""

    said: list[Any]  # what the case's functions noted, in order
    results: list[Any] = field(default_factory=list)  # or the types of what was raised
    runs: dict[str, list[Run]] = field(default_factory=dict)  # of tasks
    flow_states: tuple[str | None, str | None] = ("", "")  # the last one's name and message
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
    """Runs a graph as a flow that is written by hand, and as a workflow of ours."""

    def __init__(self, server: SyncPrefectClient) -> None:
        self.server = server

    def compare(self, made: Callable[[list[Any]], Case]) -> Outcome:
        """Run a case by hand and as a workflow; what came of both is the same, and is given.

        Args:
            made: Makes the case anew for each; gets the list in which its functions note things.
        """
        hand, ours = (self._outcome(made, run) for run in (self.by_hand, self.as_workflow))
        assert hand == ours
        return ours

    @staticmethod
    def by_hand(case: Case, name: str) -> Callable[[], Any]:
        """As somebody writes it who knows Prefect."""
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

    def _outcome(
        self, made: Callable[[list[Any]], Case], make_run: Callable[[Case, str], Callable[[], Any]]
    ) -> Outcome:
        outcome = Outcome([])
        case = made(outcome.said)
        name = f"options-{next(_names)}"
        run = make_run(case, name)
        name = case.flow.get("name", name)
        for _ in range(case.times):
            try:
                with case.around() if case.around else nullcontext():
                    outcome.results.append(run())
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - compared
                outcome.results.append((type(error), str(error)))
        self._read(outcome, name, case.task_runs)
        return outcome

    def _read(self, outcome: Outcome, name: str, expected: int) -> None:
        last = outcome.flow_run = flow_run(self.server, name)
        assert last.state is not None
        outcome.flow_states = last.state.name, last.state.message
        outcome.flow_run_count = last.run_count
        for run in finished(self.server, name, expected):
            assert run.state is not None
            states = self.server.read_task_run_states(run.id)
            names = tuple(state.name or "" for state in states)
            seen = Run(names, run.state.message, run.run_count, tuple(sorted(run.tags)))
            outcome.runs.setdefault(run.name, []).append(seen)
            outcome.task_runs[run.name] = run


TRANSACTION_HOOKS: Final = frozenset({"on_commit", "on_rollback"})


def finished(server: SyncPrefectClient, name: str, expected: int) -> list[TaskRun]:
    """All task runs of the last run of a flow, once they have ended, in the order of their starts."""
    import time

    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    runs = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run(server, name).id]))
    deadline = time.monotonic() + PATIENCE
    while True:
        found = server.read_task_runs(flow_run_filter=runs)
        if len([run for run in found if run.state and run.state.is_final()]) >= expected:
            assert expected == len(found)
            return sorted(found, key=lambda run: str(run.start_time))
        assert time.monotonic() < deadline, found
        time.sleep(0.05)  # the server records in its own time, and tells nobody
