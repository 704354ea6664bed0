"""PrefectWorkflow with Prefect's task runner for Ray.

A task run costs some hundred milliseconds there, and the conformance suite has hundreds of runs.
So here run those of its tests in which something crosses the border of a process in its own way.
All of the suite runs with

    FUNCTIONFUSE_FULL=1 pytest tests/test_prefect_ray.py
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("prefect_ray")

from prefect.cache_policies import INPUTS
from prefect_helpers import (
    EDGES,
    EDGES_RESULT,
    Guarded,
    add,
    edges,
    edges_targets,
    fail_guarded,
    lock,
    make,
    task_runs,
)

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


def on_ray(*nodes: Any, workflow_name: str) -> PrefectWorkflow:
    """A workflow whose nodes run on the Ray cluster of the session."""
    from prefect_ray.task_runners import RayTaskRunner

    made = make(*nodes, workflow_name=workflow_name)
    runner: Any = RayTaskRunner()
    made.set_prefect_flow_options({"task_runner": runner})
    return made


@pytest.mark.usefixtures("server", "ray_cluster")
class TestPrefectRay(Suite):
    """Tests of the conformance suite that cross the border of a process in ways of their own."""

    runs_in_other_processes = True
    make_workflow = staticmethod(on_ray)

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


@pytest.mark.usefixtures("server", "ray_cluster")
class TestAllOnPrefectRay(EngineTests):
    """The conformance suite, when it is asked for."""

    __test__ = bool(os.environ.get("FUNCTIONFUSE_FULL"))
    runs_in_other_processes = True
    max_examples = 3
    make_workflow = staticmethod(on_ray)


@pytest.mark.usefixtures("ray_cluster")
def test_edges(server: SyncPrefectClient) -> None:
    """Prefect knows the same dependencies as on threads."""
    made = on_ray(*edges_targets(), workflow_name="ray-edges")

    assert EDGES_RESULT == made.run()
    assert EDGES == edges(task_runs(server, "ray-edges", len(EDGES)))


@pytest.mark.usefixtures("server", "ray_cluster")
def test_caches() -> None:
    """Nodes of one function with the same inputs share an entry of Prefect's cache, also from run to run."""
    first, second = add(20, 22).set_name("first"), add(1, 1).set_name("second")
    made = on_ray(add(first, 0), second, workflow_name="ray-caches")
    made.query().set_task_args({"cache_policy": INPUTS})

    assert [made.run(), made.run()] == [[42, 2], [42, 2]]
    assert made.report is not None
    assert made.report.names("cached") == ["first", "second", "add_0000"]


@pytest.mark.usefixtures("server", "ray_cluster")
def test_what_cannot_be_sent() -> None:
    """A result that cannot be pickled is an error of its node, which says so."""
    made = on_ray(add(lock().set_name("lock"), 1), workflow_name="ray-lock")

    with pytest.raises(EngineError, match=r"(?s)node 'lock'.*cannot pickle"):
        made.run()


@pytest.mark.usefixtures("server", "ray_cluster")
def test_error_that_cannot_be_sent() -> None:
    """An error with parts that cannot be pickled arrives as itself, with those parts described."""
    made = on_ray(fail_guarded().set_name("guarded"), workflow_name="ray-guarded")

    with pytest.raises(Guarded, match="keep out") as raised:
        made.run()

    assert "lock object" in raised.value.lock
    assert any("in node 'guarded'" in note for note in raised.value.__notes__)
