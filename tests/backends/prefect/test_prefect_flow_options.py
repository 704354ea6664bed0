"""Options of Prefect's flows: each has the effect that it has in a plain Prefect flow."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest
from prefect_cases import Case, Sides, double, failing
from prefect_helpers import PATIENCE, flow_run, make

from functionfuse import workflow

prefect = pytest.importorskip("prefect")

if TYPE_CHECKING:
    from collections.abc import Callable


def noting_flow(said: list[Any], word: str) -> Callable[..., None]:
    """A hook of a flow that notes all that it gets."""

    def hook(flow: Any, run: Any, state: Any) -> None:
        result = state.result(raise_on_failure=False) if state.is_final() else None
        shown = result if isinstance(result, int) else type(result)
        said.append((word, flow.name, run.name, state.name, shown))

    return hook


FLOW_HOOKS: Final = ("on_running", "on_completion", "on_failure", "on_crashed", "on_cancellation")


def cancel_run() -> int:
    """A node that cancels its flow run on the server."""
    from prefect.states import Cancelling

    with prefect.get_client(sync_client=True) as client:
        run = prefect.context.TaskRunContext.get().task_run.flow_run_id
        client.set_flow_run_state(run, Cancelling())
    return 20


class TestFlowOptions:
    """An option of the flow has the effect of the same option of a plain flow."""

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

    @pytest.mark.timeout(0)  # Prefect's timeout in the main thread needs the same signal, SIGALRM
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
        """on_cancellation is called when the run is cancelled, though a PrefectWorkflow ends as Cancelled and not Cancelling."""
        from prefect.exceptions import CancelledRun

        from functionfuse.backends.addons.prefectback.server import Cancellation

        monkeypatch.setattr(Cancellation, "interval", 0)  # look after each node
        said: list[Any] = []

        async def later(flow: Any, run: Any, state: Any) -> None:
            said.append(("later", flow.name))

        def bad(*_: Any) -> None:
            raise RuntimeError

        options = {
            "name": "options-cancelled",
            "flow_run_name": "run",
            **self.hooks(said),
            "on_cancellation": [bad, noting_flow(said, "on_cancellation"), later],
        }

        def by_hand() -> Any:
            return prefect.task(double).submit(prefect.task(cancel_run).submit()).result()

        assert 40 == prefect.flow(**options)(by_hand)()
        hand = said.copy()
        said.clear()
        ours = make(workflow(double)(workflow(cancel_run)()), workflow_name="options-cancelled")
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
