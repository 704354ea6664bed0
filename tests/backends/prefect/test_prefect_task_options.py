"""Options of Prefect's tasks: each has the effect that it has in a plain Prefect flow."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from prefect_cases import COMPLETED, ERROR, Case, Outcome, Run, Sides, double, failing, noting
from prefect_helpers import log_messages, make

from functionfuse import workflow

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient


class TestTaskOptions:
    """An option of a node has the effect of the same option of a plain task."""

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
        """A node that exceeds timeout_seconds is TimedOut, and says after how long."""
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
        """A node that is quick enough is Completed, also with a timeout, and retried after one."""

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

    def test_hooks_of_instances(self, module_server: SyncPrefectClient) -> None:
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
        """A node's prints are in its log if log_prints is set; the node's option overrides the flow's."""
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
