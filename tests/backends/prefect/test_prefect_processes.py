"""PrefectWorkflow on Prefect's pool of processes, which are started for each flow run: some seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("prefect")

from prefect_helpers import EDGES, EDGES_RESULT, edges, edges_targets, log_messages, task_runs
from prefect_runners import FULL, RunnerTests, with_runner

from functionfuse import workflow
from functionfuse.testing import EngineTests

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from functionfuse.backends.addons.prefectback import PrefectWorkflow


def on_processes(*nodes: Any, workflow_name: str) -> PrefectWorkflow:
    """A workflow whose nodes run in two other processes."""
    from prefect.task_runners import ProcessPoolTaskRunner

    runner = ProcessPoolTaskRunner(max_workers=2)
    return with_runner(runner, *nodes, workflow_name=workflow_name)


@workflow
def speak() -> None:
    """Say something."""
    print("printed words")  # noqa: T201


class TestPrefectProcesses(RunnerTests):
    """The tests of each runner, in a pool of processes."""

    make_workflow = staticmethod(on_processes)
    refusal = r"node 'lock'.*cannot pickle.*must be picklable"

    def test_edges(self, server: SyncPrefectClient) -> None:
        """Prefect knows the same dependencies as on threads, though its pool loses them, and has what nodes print."""
        name = self.named("edges")
        made = on_processes(*edges_targets(), speak().set_name("speaker"), workflow_name=name)
        made.set_prefect_flow_options({**made._flow_options, "log_prints": True})  # noqa: SLF001 - adds to those of `make_workflow`

        assert [*EDGES_RESULT, None] == made.run()
        runs = task_runs(server, name, len(EDGES) + 1)
        assert {**EDGES, "speaker": {}} == edges(runs)
        assert "printed words" in log_messages(server, runs["speaker"], 2)


@pytest.mark.usefixtures("server")
class TestAllOnPrefectProcesses(EngineTests):
    """The conformance suite, with FUNCTIONFUSE_FULL=1."""

    __test__ = FULL
    isolates_crashes = False  # a process that dies breaks the pool
    runs_in_other_processes = True
    max_examples = 3
    make_workflow = staticmethod(on_processes)
