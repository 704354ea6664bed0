"""Options of Prefect's tasks and flows: every one is taken, and does what it does for a flow written by hand."""

from __future__ import annotations

import inspect
import json
import signal
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pytest
from prefect_helpers import PATIENCE, flow_run, log_messages, make

from functionfuse import workflow
from functionfuse.errors import OptionError

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, TaskRun

_names: Final = count()


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
    """What the server has of a task run or a flow run."""

    states: tuple[str, ...]
    message: str
    run_count: int
    tags: tuple[str, ...]


@dataclass
class Outcome:
    """What came of a case."""

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
    """Runs a graph as a flow that is written by hand, and as a workflow of ours."""

    def __init__(self, server: SyncPrefectClient) -> None:  # noqa: D107
        self.server = server

    def compare(self, made: Callable[[list[Any]], Case]) -> Outcome:
        """Run a case by hand and as a workflow; what came of both is the same, and is given.

        Args:
            made: Makes the case anew for each; gets the list in which its functions note things.
        """
        hand, ours = Outcome([]), Outcome([])
        ran = [self._run(made, hand, self.by_hand), self._run(made, ours, self.as_workflow)]
        for run, case, outcome in ran:  # the server records in its own time
            self._read(outcome, run, case.task_runs)
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

    def _run(
        self,
        made: Callable[[list[Any]], Case],
        outcome: Outcome,
        make_run: Callable[[Case, str], Callable[[], Any]],
    ) -> tuple[UUID, Case, Outcome]:
        case = made(outcome.said)
        name = f"options-{next(_names)}"
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


#: By hand they are given to the task that `@task` makes.
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
        time.sleep(0.05)  # the server records in its own time, and tells nobody


@pytest.fixture(scope="module")
def server(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of the session's server; for all tests here, since a change of settings takes a quarter of a second."""
    from prefect import get_client
    from prefect.context import refresh_global_settings_context
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_API_URL", prefect_server)
        refresh_global_settings_context()
        # without the second that each flow by hand waits for its heartbeats
        settings = {PREFECT_API_URL: prefect_server, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        with temporary_settings(settings), get_client(sync_client=True) as client:
            yield client
    refresh_global_settings_context()


@pytest.fixture(scope="module")
def sides(server: SyncPrefectClient) -> Sides:
    """Both ways of writing a graph."""
    return Sides(server)


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


class TestTaskOptions:
    """Options of a node do what they do by hand."""

    def test_nothing_set(self, sides: Sides) -> None:
        """Without options there is nothing that differs, and nothing is tried twice."""
        outcome = sides.compare(lambda _: Case(double))
        assert [40] == outcome.results
        assert {"seed": [COMPLETED], "node": [COMPLETED]} == outcome.runs
        assert (("Completed", ""), 1) == (outcome.flow_states, outcome.flow_run_count)

    @pytest.mark.parametrize(
        ("delays", "waits"),
        [
            ({}, ("Retrying", "Retrying")),
            ({"retry_delay_seconds": [0, 0.01]}, ("AwaitingRetry", "Retrying") * 2),
            (
                {"retry_delay_seconds": lambda n: [0.01] * n, "retry_jitter_factor": 0.5},
                ("AwaitingRetry", "Retrying") * 2,
            ),
        ],
        ids=["no delay", "list", "function and jitter"],
    )
    def test_retries(self, sides: Sides, delays: dict[str, Any], waits: tuple[str, ...]) -> None:
        """A node is tried again as often as it takes, after the delays, in one task run."""
        outcome = sides.compare(lambda said: Case(failing(said, 2), {"retries": 3, **delays}))
        assert [20] == outcome.results
        assert ["called"] * 3 == outcome.said
        expected = Run(("Pending", "Running", *waits, "Completed"), "", 3, ())
        assert {"seed": [COMPLETED], "node": [expected]} == outcome.runs

    def test_retries_exhausted(self, sides: Sides) -> None:
        """When all tries have failed, the task run and the flow run are Failed with the last error."""
        outcome = sides.compare(lambda said: Case(failing(said, 9), {"retries": 1}))
        assert [(RuntimeError, "not yet")] == outcome.results
        states = ("Pending", "Running", "Retrying", "Failed")
        assert [Run(states, f"{ERROR}RuntimeError: not yet", 2, ())] == outcome.runs["node"]
        message = "Flow run encountered an exception: RuntimeError: not yet"
        assert ("Failed", message) == outcome.flow_states

    @pytest.mark.parametrize("again", [True, False])
    def test_retry_condition(self, sides: Sides, again: bool) -> None:  # noqa: FBT001
        """retry_condition_fn gets the task, its run and the state, and decides."""

        def case(said: list[Any]) -> Case:
            def condition(task: Any, task_run: Any, state: Any) -> bool:
                said.append((task.name, task_run.name, state.name, repr(state.data)))
                return again

            return Case(failing(said, 1), {"retries": 3, "retry_condition_fn": condition})

        outcome = sides.compare(case)
        asked = ("node", "node", "Failed", "RuntimeError('not yet')")
        assert ["called", asked, *(["called"] if again else [])] == outcome.said
        assert [20 if again else (RuntimeError, "not yet")] == outcome.results

    def test_timeout(self, sides: Sides) -> None:
        """What takes longer than timeout_seconds is TimedOut, and says after how long."""
        from prefect.task_engine import TaskRunTimeoutError

        def forever(value: int) -> int:
            never = threading.Event()
            while not never.wait(0.01):
                pass
            return value

        outcome = sides.compare(lambda _: Case(forever, {"timeout_seconds": 0.1}))
        assert TaskRunTimeoutError is outcome.results[0][0]
        message = "Task run exceeded timeout of 0.1 second(s)"
        assert [Run(("Pending", "Running", "TimedOut"), message, 1, ())] == outcome.runs["node"]
        assert "TimedOut" == outcome.flow_states[0]

    def test_timeout_that_is_kept(self, sides: Sides) -> None:
        """What is quick enough is Completed, also with a timeout, and tried again after one."""

        def case(said: list[Any]) -> Case:
            def slow_once(value: int) -> int:
                said.append("called")
                never = threading.Event()
                while len(said) == 1 and not never.wait(0.01):
                    pass
                return value

            return Case(slow_once, {"timeout_seconds": 0.5, "retries": 1})

        outcome = sides.compare(case)
        assert [20] == outcome.results
        states = ("Pending", "Running", "Retrying", "Completed")
        assert [Run(states, "", 2, ())] == outcome.runs["node"]

    def test_tags(self, sides: Sides) -> None:
        """Tags of the node, and those around the run, are on the task run; the latter on the others too."""

        def around(run: Callable[[], Any]) -> Any:
            with prefect.tags("outside"):
                return run()

        outcome = sides.compare(lambda _: Case(double, {"tags": ["slow", "big"]}, around=around))
        assert ("big", "outside", "slow") == outcome.runs["node"][0].tags
        assert ("outside",) == outcome.runs["seed"][0].tags
        assert outcome.flow_run is not None
        assert ["outside"] == outcome.flow_run.tags

    def test_hooks_of_success(self, sides: Sides) -> None:
        """on_running and on_completion get the node's task, its run and the state with what the node returned."""

        def case(said: list[Any]) -> Case:
            hooks = {key: [noting(said, key)] for key in ("on_running", "on_completion")}
            return Case(double, {**hooks, "on_failure": [noting(said, "on_failure")]})

        outcome = sides.compare(case)
        assert [
            ("on_running", "node", "node", "Running", "None"),
            ("on_completion", "node", "node", "Completed", 40),
        ] == outcome.said

    def test_hooks_of_failure(self, sides: Sides) -> None:
        """on_failure is called once all tries have failed, with the error; on_running at each."""

        def case(said: list[Any]) -> Case:
            keys = ("on_running", "on_completion", "on_failure")
            hooks = {key: [noting(said, key)] for key in keys}
            return Case(failing(said, 9), {**hooks, "retries": 1})

        assert [
            ("on_running", "node", "node", "Running", "None"),
            "called",
            ("on_running", "node", "node", "Retrying", "None"),
            "called",
            ("on_failure", "node", "node", "Failed", "RuntimeError('not yet')"),
        ] == sides.compare(case).said

    def test_hook_that_fails(self, sides: Sides) -> None:
        """A hook that raises is in the logs, and fails nothing; one may be asynchronous."""

        def case(said: list[Any]) -> Case:
            def bad(*_: Any) -> None:
                said.append("bad")
                raise RuntimeError

            async def good(task: Any, task_run: Any, state: Any) -> None:
                said.append(await state.aresult())

            return Case(double, {"on_completion": [bad, good]})

        outcome = sides.compare(case)
        assert ["bad", 40] == outcome.said
        assert [40] == outcome.results

    def test_hooks_of_instances(self, server: SyncPrefectClient) -> None:
        """A hook finds the instance in the state of a constructor, and what a method returned in a method's."""
        said: list[Any] = []

        @workflow
        class Total:
            """A sum."""

            def __init__(self, start: int) -> None:
                self.total = start

            def add(self, number: int) -> int:
                """Add."""
                self.total += number
                return self.total

        def hook(task: Any, task_run: Any, state: Any) -> None:
            result = state.result()
            said.append((task_run.name, getattr(result, "total", result)))

        total: Any = Total(1)
        total.set_name("total")
        node = total.add(2).set_name("sum")
        for options in ({}, {"persist_result": True}):
            said.clear()
            ours = make(node, workflow_name="options-instances")
            ours.query().set_task_args({"on_completion": [hook], **options})
            assert 3 == ours.run()
            assert [("total", 1), ("sum", 3)] == said

    def test_names(self, sides: Sides) -> None:
        """name, description and version are those of the task; its run is called by task_run_name."""
        options = {
            "name": "another",
            "description": "Doubles.",
            "version": "7",
            "task_run_name": "run of {value}",
        }

        def case(said: list[Any]) -> Case:
            def hook(task: Any, task_run: Any, state: Any) -> None:
                said.append((task.name, task.description, task.version, task_run.task_version))

            return Case(double, {**options, "on_running": [hook]})

        outcome = sides.compare(case)
        assert [("another", "Doubles.", "7", "7")] == outcome.said
        assert {"seed", "run of 20"} == set(outcome.runs)
        assert "7" == outcome.task_runs["run of 20"].task_version

    def test_task_run_name_function(self, sides: Sides) -> None:
        """task_run_name can be a function, which gets the parameters."""

        def name(parameters: dict[str, Any]) -> str:
            return f"called {parameters['value']}"

        outcome = sides.compare(lambda _: Case(double, {"task_run_name": name}))
        assert {"seed", "called 20"} == set(outcome.runs)

    @pytest.mark.parametrize(
        ("options", "flow_options"),
        [({"log_prints": True}, {}), ({"log_prints": False}, {"log_prints": True})],
        ids=["on", "off"],
    )
    def test_log_prints(
        self, sides: Sides, options: dict[str, Any], flow_options: dict[str, Any]
    ) -> None:
        """What a node prints is in its log if it says so; what it says counts more than what the flow says."""
        logs: list[set[str]] = []
        printed = {"printed"} if options["log_prints"] else set[str]()

        def speak(value: int) -> int:
            print("printed")  # noqa: T201
            return value

        class ReadSession(Sides):
            def _read(self, outcome: Outcome, identity: UUID, expected: int) -> None:
                super()._read(outcome, identity, expected)
                node = outcome.task_runs["node"]
                logs.append(set(log_messages(self.server, node, 1 + len(printed))))

        ReadSession(sides.server).compare(lambda _: Case(speak, options, flow_options))
        assert [printed | {"Finished in state Completed()"}] * 2 == logs


class Caching(NamedTuple):
    """How a cached node goes: which runs execute it, and what the last one's state is."""

    options: dict[str, Any]
    executions: int
    last: str


def caching(kind: str, folder: Path) -> Caching:
    """Ways to have Prefect keep results; each call has a key or a place of its own."""
    from prefect.cache_policies import INPUTS

    place = folder / str(next(_names))
    kept = {"cache_key_fn": lambda context, parameters: f"{place.name} {parameters['value']}"}
    return {
        "key": Caching(kept, 1, "Cached"),
        "policy": Caching({"cache_policy": INPUTS.configure(key_storage=place)}, 1, "Cached"),
        "expired": Caching({**kept, "cache_expiration": timedelta()}, 2, "Completed"),
        "refreshed": Caching({**kept, "refresh_cache": True}, 2, "Completed"),
        "not persisted": Caching({**kept, "persist_result": False}, 2, "Completed"),
        "storage key": Caching({"result_storage_key": f"{folder.name}-{place.name}"}, 1, "Cached"),
    }[kind]


def kept_in(file: Path) -> str:
    """The result in a file of Prefect, which writes those of flows without anything around them."""
    content = json.loads(file.read_text())
    return str(content["result"] if isinstance(content, dict) else content)


class TestResults:
    """What Prefect keeps of a node is what it keeps by hand."""

    @pytest.mark.parametrize(
        "kind",
        [
            "key",
            "policy",
            "expired",
            "refreshed",
            "not persisted",
            "storage key",
        ],
    )
    def test_caching(self, sides: Sides, tmp_path: Path, kind: str) -> None:
        """Of two runs as many execute the node as by hand, and the other takes what is kept."""
        expected = caching(kind, tmp_path)

        def case(said: list[Any]) -> Case:
            return Case(failing(said, 0), caching(kind, tmp_path).options, times=2)

        outcome = sides.compare(case)
        assert [20] * 2 == outcome.results
        assert ["called"] * expected.executions == outcome.said
        assert expected.last == outcome.runs["node"][0].states[-1]

    @pytest.mark.parametrize("serializer", ["json", "pickle"])
    def test_file(self, sides: Sides, tmp_path: Path, serializer: str) -> None:
        """With result_storage_key the file is where it is by hand, and there is the same in it."""
        from prefect.filesystems import LocalFileSystem

        storage = LocalFileSystem(basepath=str(tmp_path / "block"))
        storage.save("options-results", overwrite=True)
        files: list[Path] = []

        def case(_: list[Any]) -> Case:
            key = f"kept-{next(_names)}/of-{{parameters[value]}}"
            files.append(tmp_path / "block" / key.format(parameters={"value": 20}))
            options = {
                "persist_result": True,
                "result_storage": storage,
                "result_storage_key": key,
                "result_serializer": serializer,
            }
            return Case(lambda value: {"doubled": [value, value]}, options)

        assert [{"doubled": [20, 20]}] == sides.compare(case).results
        hand, ours = (json.loads(file.read_text()) for file in files)
        for record in (hand, ours):
            record["metadata"].pop("storage_key")
            record["metadata"].pop("storage_block_id", None)
        assert hand == ours

    def test_flow_result(self, sides: Sides, tmp_path: Path) -> None:
        """persist_result, result_storage and result_serializer of a flow hold for its nodes and its own result."""
        from prefect.filesystems import LocalFileSystem

        folders: list[Path] = []

        def case(_: list[Any]) -> Case:
            name = f"options-flow-{next(_names)}"
            folders.append(tmp_path / name)
            storage = LocalFileSystem(basepath=str(folders[-1]))
            storage.save(name, overwrite=True)
            options = {
                "persist_result": True,
                "result_storage": storage,
                "result_serializer": "json",
            }
            return Case(double, flow=options)

        assert [40] == sides.compare(case).results
        hand, ours = (sorted(map(kept_in, folder.iterdir())) for folder in folders)
        assert ["20", "40", "40"] == hand
        assert hand == ours

    @pytest.mark.parametrize("asked", ["setting", "tasks", "block", "server"])
    def test_settings(self, sides: Sides, tmp_path: Path, asked: str) -> None:
        """Settings and the server's own default storage have results kept, as by hand."""
        from prefect import get_client
        from prefect import settings as known
        from prefect.filesystems import LocalFileSystem

        folders: list[Path] = []

        def case(_: list[Any]) -> Case:
            folders.append(tmp_path / f"options-default-{next(_names)}")
            return Case(double, around=kept)

        def kept(run: Callable[[], Any]) -> Any:
            folder = folders[-1]
            block = LocalFileSystem(basepath=str(folder))
            identity: Any = block.save(folder.name, overwrite=True)
            chosen: dict[Any, Any] = {
                known.PREFECT_LOCAL_STORAGE_PATH: str(folder),
                known.PREFECT_RESULTS_DEFAULT_SERIALIZER: "json",
            }
            if asked == "setting":
                chosen[known.PREFECT_RESULTS_PERSIST_BY_DEFAULT] = True
            elif asked == "tasks":
                chosen[known.PREFECT_TASKS_DEFAULT_PERSIST_RESULT] = True
            elif asked == "block":
                chosen[known.PREFECT_DEFAULT_RESULT_STORAGE_BLOCK] = (
                    f"local-file-system/{folder.name}"
                )
            with known.temporary_settings(chosen), get_client(sync_client=True) as client:
                if asked == "server":
                    client.update_server_default_result_storage(identity)
                try:
                    return run()
                finally:
                    client.clear_server_default_result_storage()

        assert [40] == sides.compare(case).results
        hand, ours = (sorted(map(kept_in, folder.iterdir())) for folder in folders)
        assert "20" in hand
        assert hand == ours


class TestTransactions:
    """Transactions around a run, and within nodes."""

    @pytest.mark.parametrize("fails", [False, True])
    def test_around_a_run(self, sides: Sides, fails: bool) -> None:  # noqa: FBT001
        """Nodes belong to the transaction around the run: they see what it holds, and share its end."""
        from prefect.transactions import get_transaction, transaction

        def case(said: list[Any]) -> Case:
            def touch(value: int) -> Any:
                own = get_transaction()
                assert own is not None
                own.set("made", value)
                return own.get("around")

            hooks = {
                key: [lambda txn, key=key: said.append((key, txn.get("made")))]
                for key in TRANSACTION_HOOKS
            }

            def around(run: Callable[[], Any]) -> Any:
                with transaction() as txn:
                    txn.set("around", 5)
                    result = run()
                    said.append("ran")
                    if fails:
                        raise KeyError(1)
                return result

            outer = f"options-around-{next(_names)}"
            # Prefect gives what is rolled back to the flow run in which that happens: to none outside of any
            return Case(
                touch,
                hooks,
                {"name": inner},
                around=prefect.flow(name=outer)(around),
                reported_by=outer if fails else None,
                task_runs=3 if fails else 2,
            )

        inner = f"options-inner-{next(_names)}"
        outcome = sides.compare(case)
        assert [(KeyError, "1") if fails else 5] == outcome.results
        assert ["ran", ("on_rollback" if fails else "on_commit", 20)] == outcome.said
        last = "RolledBack" if fails else "Completed"
        assert {"seed": last, "node": last} == {
            name: runs[0].states[-1] for name, runs in outcome.runs.items() if inner not in name
        }

    def test_hooks_without_a_transaction(self, sides: Sides) -> None:
        """Each node is a transaction of its own, which is committed when it is done."""

        def case(said: list[Any]) -> Case:
            return Case(double, {"on_commit": [lambda _: said.append("committed")]})

        assert ["committed"] == sides.compare(case).said

    def test_in_a_node(self, sides: Sides) -> None:
        """A transaction in a node is rolled back with it."""
        from prefect.transactions import transaction

        def case(said: list[Any]) -> Case:
            def fails(value: int) -> int:
                with transaction() as txn:
                    txn.stage(value, on_rollback_hooks=[lambda _: said.append("rolled back")])
                    message = "no"
                    raise RuntimeError(message)

            return Case(fails)

        outcome = sides.compare(case)
        assert ["rolled back"] == outcome.said
        assert [(RuntimeError, "no")] == outcome.results


def noting_flow(said: list[Any], word: str) -> Callable[..., None]:
    """A hook of a flow that notes all that it gets."""

    def hook(flow: Any, run: Any, state: Any) -> None:
        result = state.result(raise_on_failure=False) if state.is_final() else None
        shown = result if isinstance(result, int) else type(result)
        said.append((word, flow.name, run.name, state.name, shown))

    return hook


FLOW_HOOKS: Final = ("on_running", "on_completion", "on_failure", "on_crashed", "on_cancellation")


class TestFlowOptions:
    """Options of the flow do what they do by hand."""

    @staticmethod
    def hooks(said: list[Any]) -> dict[str, Any]:
        """All of them."""
        return {key: [noting_flow(said, key)] for key in FLOW_HOOKS}

    def test_names_and_hooks_of_success(self, sides: Sides) -> None:
        """The flow and its run are called as the options say; hooks get both, and the state with the result."""
        options = {
            "name": "options-named",
            "flow_run_name": "the run",
            "description": "Doubles.",
            "version": "7",
        }

        def case(said: list[Any]) -> Case:
            def describe(flow: Any, run: Any, _: Any) -> None:
                said.append((flow.description, flow.version, run.flow_version))

            hooks = self.hooks(said)
            hooks["on_running"].append(describe)
            return Case(double, flow={**options, **hooks})

        outcome = sides.compare(case)
        assert [
            ("on_running", "options-named", "the run", "Running", type(None)),
            ("Doubles.", "7", "7"),
            ("on_completion", "options-named", "the run", "Completed", 40),
        ] == outcome.said
        assert outcome.flow_run is not None
        assert ("the run", "7") == (outcome.flow_run.name, outcome.flow_run.flow_version)

    @pytest.mark.parametrize("delay", [{}, {"retry_delay_seconds": 0.01}], ids=["", "delay"])
    def test_retries(self, sides: Sides, delay: dict[str, Any]) -> None:
        """A flow that fails runs all its nodes again, in the same flow run."""

        def case(said: list[Any]) -> Case:
            return Case(failing(said, 1), flow={"retries": 2, **delay}, task_runs=4)

        outcome = sides.compare(case)
        assert [20] == outcome.results
        assert ("Completed", 2) == (outcome.flow_states[0], outcome.flow_run_count)
        assert ["Failed", "Completed"] == [run.states[-1] for run in outcome.runs["node"]]

    def test_failure(self, sides: Sides) -> None:
        """on_failure is called once, with the error, after all tries."""

        def case(said: list[Any]) -> Case:
            options = {"name": "options-failing", "flow_run_name": "the run", "retries": 1}
            return Case(failing(said, 9), flow={**options, **self.hooks(said)}, task_runs=4)

        outcome = sides.compare(case)
        assert ("on_failure", "options-failing", "the run", "Failed", RuntimeError) == outcome.said[
            -1
        ]
        assert 1 == len([word for word, *_ in outcome.said if word == "on_failure"])

    def test_timeout(self, sides: Sides) -> None:
        """A flow that takes longer than timeout_seconds is TimedOut; what runs ends before the call does."""

        def case(said: list[Any]) -> Case:
            timed_out = threading.Event()

            def slow(value: int) -> int:
                assert timed_out.wait(PATIENCE)
                said.append("ended")
                return value

            hooks = [noting_flow(said, "on_failure"), lambda *_: timed_out.set()]
            options = {"name": "options-slow", "flow_run_name": "run", "timeout_seconds": 0.5}
            return Case(slow, flow={**options, "on_failure": hooks})

        from prefect.flow_engine import FlowRunTimeoutError

        outcome = sides.compare(case)
        assert FlowRunTimeoutError is outcome.results[0][0]
        message = "Flow run exceeded timeout of 0.5 second(s)"
        assert ("TimedOut", message) == outcome.flow_states
        hook = ("on_failure", "options-slow", "run", "TimedOut", FlowRunTimeoutError)
        assert [hook, "ended"] == outcome.said

    def test_crash(self, sides: Sides) -> None:
        """Ctrl-C is a crash, and on_crashed is called."""

        def case(said: list[Any]) -> Case:
            def interrupt(value: int) -> int:
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)
                return value

            options = {"name": "options-crashed", "flow_run_name": "run"}
            return Case(interrupt, flow={**options, "on_crashed": self.hooks(said)["on_crashed"]})

        outcome = sides.compare(case)
        assert [(KeyboardInterrupt, "")] == outcome.results
        assert "Crashed" == outcome.flow_states[0]
        assert 1 == len(outcome.said)

    def test_cancelled(self, sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
        """on_cancellation is called when somebody cancels the run, though ours ends as Cancelled and not Cancelling."""
        from prefect.exceptions import CancelledRun
        from prefect.states import Cancelling

        from functionfuse.backends.addons.prefectback.server import Cancellation

        monkeypatch.setattr(Cancellation, "interval", 0)  # look after each node
        said: list[Any] = []

        async def later(flow: Any, run: Any, state: Any) -> None:
            said.append(("later", flow.name))

        def bad(*_: Any) -> None:
            raise RuntimeError

        def cancel() -> int:
            with prefect.get_client(sync_client=True) as client:
                run = prefect.context.TaskRunContext.get().task_run.flow_run_id
                client.set_flow_run_state(run, Cancelling())
            return 20

        options = {
            "name": "options-cancelled",
            "flow_run_name": "run",
            **self.hooks(said),
            "on_cancellation": [bad, noting_flow(said, "on_cancellation"), later],
        }

        def by_hand() -> Any:
            return prefect.task(double).submit(prefect.task(cancel).submit()).result()

        assert 40 == prefect.flow(**options)(by_hand)()
        hand = said.copy()
        said.clear()
        ours = make(workflow(double)(workflow(cancel)()), workflow_name="options-cancelled")
        ours.set_prefect_flow_options(options)
        with pytest.raises(CancelledRun):
            ours.run()
        assert [
            ("on_running", "options-cancelled", "run", "Running", type(None)),
            ("on_cancellation", "options-cancelled", "run", "Cancelling", type(None)),
            ("later", "options-cancelled"),
        ] == hand
        assert hand == said
        assert "Cancelled" == flow_run(sides.server, "options-cancelled").state_name

    def test_task_runner(self, sides: Sides) -> None:
        """The nodes run where task_runner says."""
        from prefect.task_runners import ThreadPoolTaskRunner

        class Noting(ThreadPoolTaskRunner[Any]):
            def submit(self, task: Any, *args: Any, **kwargs: Any) -> Any:
                noted.append(task.name)
                return super().submit(task, *args, **kwargs)

            def duplicate(self) -> Noting:
                return Noting(max_workers=1)

        noted: list[str] = []

        def case(said: list[Any]) -> Case:
            return Case(double, flow={"task_runner": Noting(max_workers=1)})

        assert [40] == sides.compare(case).results
        assert ["seed", "node"] * 2 == noted


def nothing(*_: Any) -> None:
    """A hook."""


#: A valid value of each option of `@task`.
TASK: Final[dict[str, Any]] = {
    "asset_deps": ["s3://bucket/table"],
    "cache_expiration": timedelta(days=1),
    "cache_key_fn": lambda context, _: str(context.task_run.id),
    "cache_policy": None,
    "cache_result_in_memory": True,
    "description": "Doubles.",
    "log_prints": True,
    "name": "another",
    "on_commit": [nothing],
    "on_completion": [nothing],
    "on_failure": [nothing],
    "on_rollback": [nothing],
    "on_running": [nothing],
    "persist_result": True,
    "refresh_cache": True,
    "result_serializer": "json",
    "result_storage": "local-file-system/options-results",
    "result_storage_key": "options-key",
    "retries": 2,
    "retry_condition_fn": lambda *_: True,
    "retry_delay_seconds": [1, 2.5],
    "retry_jitter_factor": 0.5,
    "tags": {"one", "two"},
    "task_run_name": "run-{value}",
    "timeout_seconds": 60,
    "version": "7",
    "viz_return_value": 3,
}
#: A valid value of each option of `@flow`.
FLOW: Final[dict[str, Any]] = {
    "cache_result_in_memory": False,
    "description": "Doubles.",
    "flow_run_name": "the run",
    "log_prints": True,
    "name": "options-every",
    "on_cancellation": [nothing],
    "on_completion": [nothing],
    "on_crashed": [nothing],
    "on_failure": [nothing],
    "on_running": [nothing],
    "persist_result": True,
    "result_serializer": "pickle",
    "result_storage": "local-file-system/options-results",
    "retries": 2,
    "retry_delay_seconds": 1.5,
    "task_runner": prefect.task_runners.ThreadPoolTaskRunner(max_workers=2),
    "timeout_seconds": 60,
    "validate_parameters": True,
    "version": "7",
}
#: What Prefect refuses when it is set.
REFUSED_TASK: Final[dict[str, Any]] = {
    "asset_deps": [""],
    "on_commit": [1],
    "on_completion": [1],
    "on_failure": 1,
    "on_rollback": 1,
    "on_running": ["hook"],
    "result_storage": 3,
    "retry_condition_fn": 3,
    "retry_delay_seconds": "soon",
    "retry_jitter_factor": -1,
    "tags": 3,
    "task_run_name": 3,
    "timeout_seconds": "soon",
}
#: What Prefect takes when it is set, against its own types, and fails or goes wrong with later.
WRONG_TYPES_TASK: Final[dict[str, Any]] = {
    "cache_expiration": 60,
    "cache_result_in_memory": "no",
    "description": 3,
    "log_prints": "yes",
    "name": 3,
    "persist_result": "no",
    "refresh_cache": "no",
    "result_storage_key": 3,
    "retries": "x",
    "version": 3,
}
WRONG_TYPES_FLOW: Final[dict[str, Any]] = {
    "cache_result_in_memory": "no",
    "log_prints": "yes",
    "persist_result": "no",
    "validate_parameters": "no",
}
REFUSED_FLOW: Final[dict[str, Any]] = {
    "flow_run_name": 3,
    "name": "a/b",
    "on_cancellation": [1],
    "on_completion": 1,
    "on_crashed": ["hook"],
    "on_failure": [None],
    "on_running": 1,
    "result_storage": 3,
    "timeout_seconds": "soon",
}


def options_of(decorator: Callable[..., Any]) -> set[str]:
    """The options that the installed Prefect has."""
    parameters = inspect.signature(decorator).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


class TestEveryOption:
    """What the installed Prefect takes is taken, and nothing else."""

    def test_all_are_here(self) -> None:
        """Each option of the installed Prefect has been thought of: a new one needs a value above, and a thought."""
        assert options_of(prefect.task) | TRANSACTION_HOOKS == set(TASK)
        assert options_of(prefect.flow) == set(FLOW)

    @pytest.fixture(scope="class")
    @staticmethod
    def storage(server: SyncPrefectClient, tmp_path_factory: pytest.TempPathFactory) -> None:
        """The block that is the value of result_storage."""
        from prefect.filesystems import LocalFileSystem

        block = LocalFileSystem(basepath=str(tmp_path_factory.mktemp("results")))
        block.save("options-results", overwrite=True)

    @pytest.mark.usefixtures("storage")
    @pytest.mark.parametrize("option", sorted(options_of(prefect.task) | TRANSACTION_HOOKS))
    def test_task_option_is_taken(self, option: str) -> None:
        """A run completes with it."""
        node = workflow(double)(20).set_name("node")
        ours = make(node, workflow_name="options-every-task")
        ours.query().set_task_args({option: TASK[option]})
        assert 40 == ours.run()

    @pytest.mark.usefixtures("storage")
    @pytest.mark.parametrize("option", sorted(options_of(prefect.flow)))
    def test_flow_option_is_taken(self, option: str) -> None:
        """A run completes with it, and the flow has it."""
        ours = make(workflow(double)(20), workflow_name="options-every-flow")
        ours.set_prefect_flow_options({option: FLOW[option]})
        assert 40 == ours.run()
        by_hand = prefect.flow(**{"name": ours.flow.name, option: FLOW[option]})(double)
        attribute = {"validate_parameters": "should_validate_parameters"}.get(
            option, f"{option}_hooks" if option.startswith("on_") else option
        )
        assert getattr(by_hand, attribute) == getattr(ours.flow, attribute)

    @pytest.mark.parametrize("option", sorted(options_of(prefect.task) | TRANSACTION_HOOKS))
    def test_misspelt_task_option(self, option: str) -> None:
        """It is an error where it is set, with the right name."""
        query = make(workflow(double)(20), workflow_name="options-misspelt").query()
        with pytest.raises(
            OptionError, match=f"unknown option .*'{option}x'; did you .*'{option}'"
        ):
            query.set_task_args({f"{option}x": TASK[option]})

    @pytest.mark.parametrize("option", sorted(options_of(prefect.flow)))
    def test_misspelt_flow_option(self, option: str) -> None:
        """It is an error where it is set, with the right name."""
        ours = make(workflow(double)(20), workflow_name="options-misspelt")
        with pytest.raises(
            OptionError, match=f"unknown option .*'{option}x'; did you .*'{option}'"
        ):
            ours.set_prefect_flow_options({f"{option}x": FLOW[option]})

    @pytest.mark.parametrize("option", REFUSED_TASK)
    def test_refused_task_option(self, option: str) -> None:
        """What `@task` refuses is an error where it is set."""
        query = make(workflow(double)(20), workflow_name="options-refused").query()
        with pytest.raises(OptionError, match="Prefect rejects these options of a task: "):
            query.set_task_args({option: REFUSED_TASK[option]})

    @pytest.mark.parametrize("option", WRONG_TYPES_TASK)
    def test_task_option_of_a_wrong_type(self, option: str) -> None:
        """It is an error where it is set, with the nodes, the option and the value."""
        value = WRONG_TYPES_TASK[option]
        query = make(workflow(double)(20).set_name("n"), workflow_name="options-types").query("n")
        message = rf"query\(\.\.\.\)\.set_task_args on 'n': '{option}' must be .*, not {value!r}"
        with pytest.raises(OptionError, match=message):
            query.set_task_args({option: value})

    @pytest.mark.parametrize("option", WRONG_TYPES_FLOW)
    def test_flow_option_of_a_wrong_type(self, option: str) -> None:
        """It is an error where it is set, with the option and the value."""
        value = WRONG_TYPES_FLOW[option]
        ours = make(workflow(double)(20), workflow_name="options-types")
        message = f"set_prefect_flow_options: '{option}' must be .*, not {value!r}"
        with pytest.raises(OptionError, match=message):
            ours.set_prefect_flow_options({option: value})

    @pytest.mark.parametrize(
        "options",
        [
            {"retries": np.int64(2)},
            {"timeout_seconds": np.float32(2)},
            {"retry_jitter_factor": 1},
            {"retries": None, "log_prints": None},
        ],
    )
    def test_task_options_of_near_types(self, options: dict[str, Any]) -> None:
        """Numbers are numbers, of numpy as well; nothing is what Prefect sets by itself."""
        query = make(workflow(double)(20), workflow_name="options-types").query()
        assert query is query.set_task_args(options)

    @pytest.mark.parametrize("option", REFUSED_FLOW)
    def test_refused_flow_option(self, option: str) -> None:
        """What `@flow` refuses is an error where it is set."""
        ours = make(workflow(double)(20), workflow_name="options-refused")
        with pytest.raises(OptionError, match="Prefect rejects these options of a flow: "):
            ours.set_prefect_flow_options({option: REFUSED_FLOW[option]})
