"""PrefectWorkflow on Prefect's pool of processes, which starts anew for each flow run.

Each run waits for workers that import Prefect, some seconds, and the conformance suite has hundreds of runs.
So here run those of its tests in which something crosses the border of a process in its own way:
values, instances, items, errors, results that are saved there. All of the suite runs with

    FUNCTIONFUSE_FULL=1 pytest tests/test_prefect_processes.py
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("prefect")

from prefect_helpers import (
    EDGES,
    EDGES_RESULT,
    Guarded,
    add,
    edges,
    edges_targets,
    fail_guarded,
    lock,
    log_messages,
    make,
    task_runs,
)

from functionfuse import workflow
from functionfuse.errors import EngineError
from functionfuse.testing import EngineTests
from functionfuse.testing.engine_errors import ErrorTests
from functionfuse.testing.engine_options import OptionTests
from functionfuse.testing.engine_state import StateTests
from functionfuse.testing.engine_storage import StorageTests
from functionfuse.testing.engine_values import ValueTests
from functionfuse.testing.suite import Suite

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from functionfuse.backends.addons.prefectback import PrefectWorkflow


def on_processes(*nodes: Any, workflow_name: str) -> PrefectWorkflow:
    """A workflow whose nodes run in two other processes."""
    from prefect.task_runners import ProcessPoolTaskRunner

    made = make(*nodes, workflow_name=workflow_name)
    runner: Any = ProcessPoolTaskRunner(max_workers=2)
    made.set_prefect_flow_options({"task_runner": runner})
    return made


@pytest.mark.usefixtures("server")
class TestPrefectProcesses(Suite):
    """Tests of the conformance suite that cross the border of a process in ways of their own."""

    runs_in_other_processes = True
    make_workflow = staticmethod(on_processes)

    # values and items
    test_where_nodes_run = ValueTests.test_where_nodes_run
    test_nodes_in_containers = ValueTests.test_nodes_in_containers
    test_local_functions = ValueTests.test_local_functions
    # instances
    test_local_and_derived_classes = StateTests.test_local_and_derived_classes
    # errors
    test_note_names_the_node = ErrorTests.test_note_names_the_node
    test_exception_with_two_arguments = ErrorTests.test_exception_with_two_arguments
    test_local_exception_class = ErrorTests.test_local_exception_class
    # storage and plugins
    test_resume_after_failure = StorageTests.test_resume_after_failure
    test_unstorable_result = StorageTests.test_unstorable_result
    test_initializer_runs_before_the_function = (
        OptionTests.test_initializer_runs_before_the_function
    )


@pytest.mark.usefixtures("server")
class TestAllOnPrefectProcesses(EngineTests):
    """The conformance suite, when it is asked for."""

    __test__ = bool(os.environ.get("FUNCTIONFUSE_FULL"))
    runs_in_other_processes = True
    max_examples = 3
    make_workflow = staticmethod(on_processes)


@workflow
def speak() -> None:
    """Say something."""
    print("printed words")  # noqa: T201


def test_edges_and_logs(server: SyncPrefectClient) -> None:
    """Prefect knows the same dependencies as on threads, though its pool loses them, and has what nodes print."""
    made = on_processes(*edges_targets(), speak().set_name("speaker"), workflow_name="pool-edges")
    made.set_prefect_flow_options({**made._flow_options, "log_prints": True})
    assert [*EDGES_RESULT, None] == made.run()
    runs = task_runs(server, "pool-edges", len(EDGES) + 1)
    assert {**EDGES, "speaker": {}} == edges(runs)
    assert "printed words" in log_messages(server, runs["speaker"], 2)


def test_what_cannot_be_sent(server: SyncPrefectClient) -> None:
    """A result that cannot be pickled is an error of its node, which says so."""
    made = on_processes(add(lock().set_name("lock"), 1), workflow_name="pool-lock")
    with pytest.raises(EngineError, match=r"node 'lock'.*cannot pickle.*must be picklable"):
        made.run()


def test_error_that_cannot_be_sent(server: SyncPrefectClient) -> None:
    """An error with parts that cannot be pickled arrives as itself, with those parts described."""
    with pytest.raises(Guarded, match="keep out") as raised:
        on_processes(fail_guarded().set_name("guarded"), workflow_name="pool-guarded").run()
    assert "lock object" in raised.value.lock
    assert any("in node 'guarded'" in note for note in raised.value.__notes__)
