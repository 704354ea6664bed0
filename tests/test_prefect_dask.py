"""PrefectWorkflow with Prefect's task runner for Dask.

A task run costs some hundred milliseconds there, and the conformance suite has hundreds of runs.
So here run those of its tests in which something crosses the border of a process in its own way.
All of the suite runs with

    FUNCTIONFUSE_FULL=1 pytest tests/test_prefect_dask.py
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("prefect_dask")

import dask
from distributed import LocalCluster
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
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient

    from functionfuse.backends.addons.prefectback import PrefectWorkflow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a Dask cluster with two processes."""
    quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs=quiet,
        ) as cluster,
    ):
        yield cluster.scheduler_address


def on_dask(*nodes: Any, workflow_name: str, address: str) -> PrefectWorkflow:
    """A workflow whose nodes run on a Dask cluster."""
    from prefect_dask.task_runners import DaskTaskRunner

    made = make(*nodes, workflow_name=workflow_name)
    runner: Any = DaskTaskRunner(address=address)
    made.set_prefect_flow_options({"task_runner": runner})
    return made


class OnDask(Suite):
    """How workflows are made here."""

    runs_in_other_processes = True
    # Dask holds the death of a worker against all that was assigned to it
    isolates_crashes = False

    @pytest.fixture(autouse=True)
    def _on(self, address: str) -> None:
        self._address = address

    def make_workflow(self, *nodes: Any, workflow_name: str) -> PrefectWorkflow:
        """A workflow on the cluster."""
        return on_dask(*nodes, workflow_name=workflow_name, address=self._address)


@pytest.mark.usefixtures("server")
class TestPrefectDask(OnDask):
    """Tests of the conformance suite that cross the border of a process in ways of their own."""

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
class TestAllOnPrefectDask(OnDask, EngineTests):
    """The conformance suite, when it is asked for."""

    __test__ = bool(os.environ.get("FUNCTIONFUSE_FULL"))
    max_examples = 3


def test_edges(server: SyncPrefectClient, address: str) -> None:
    """Prefect knows the same dependencies as on threads."""
    made = on_dask(*edges_targets(), workflow_name="dask-edges", address=address)

    assert EDGES_RESULT == made.run()
    assert EDGES == edges(task_runs(server, "dask-edges", len(EDGES)))


@pytest.mark.usefixtures("server")
def test_caches(address: str) -> None:
    """Nodes of one function with the same inputs share an entry of Prefect's cache, also from run to run."""
    first, second = add(20, 22).set_name("first"), add(1, 1).set_name("second")
    made = on_dask(add(first, 0), second, workflow_name="dask-caches", address=address)
    made.query().set_task_args({"cache_policy": INPUTS})

    assert [made.run(), made.run()] == [[42, 2], [42, 2]]
    assert made.report is not None
    assert made.report.names("cached") == ["first", "second", "add_0000"]


@pytest.mark.usefixtures("server")
def test_what_cannot_be_sent(address: str) -> None:
    """A result that cannot be pickled is an error of its node, which says so."""
    made = on_dask(add(lock().set_name("lock"), 1), workflow_name="dask-lock", address=address)

    with pytest.raises(EngineError, match=r"(?s)node 'lock'.*cannot pickle"):
        made.run()


@pytest.mark.usefixtures("server")
def test_error_that_cannot_be_sent(address: str) -> None:
    """An error with parts that cannot be pickled arrives as itself, with those parts described."""
    made = on_dask(
        fail_guarded().set_name("guarded"), workflow_name="dask-guarded", address=address
    )

    with pytest.raises(Guarded, match="keep out") as raised:
        made.run()

    assert "lock object" in raised.value.lock
    assert any("in node 'guarded'" in note for note in raised.value.__notes__)
