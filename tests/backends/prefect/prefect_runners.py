"""Tests for each of Prefect's task runners whose nodes run in other processes.

A task run costs some hundred milliseconds there, or workers that import Prefect, and the conformance suite
has hundreds of runs. So those of its tests run in which something crosses the border of a process in its
own way: values, instances, items, errors, results that are saved there. All of the suite runs with

    FUNCTIONFUSE_FULL=1 pytest tests/backends/prefect/test_prefect_dask.py
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
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
from functionfuse.testing.engine.errors import ErrorTests
from functionfuse.testing.engine.exceptions import ExceptionTests
from functionfuse.testing.engine.options import OptionTests
from functionfuse.testing.engine.state import StateTests
from functionfuse.testing.engine.storage import StorageTests
from functionfuse.testing.engine.suite import Suite
from functionfuse.testing.engine.surroundings import SurroundingTests
from functionfuse.testing.engine.transport import TransportTests
from functionfuse.testing.engine.values import ValueTests

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from functionfuse.backends.addons.prefectback import PrefectWorkflow

#: All of the suite is wanted.
FULL = bool(os.environ.get("FUNCTIONFUSE_FULL"))


def with_runner(runner: Any, *nodes: Any, workflow_name: str) -> PrefectWorkflow:
    """A workflow whose nodes run where a task runner runs them."""
    made = make(*nodes, workflow_name=workflow_name)
    made.set_prefect_flow_options({"task_runner": runner})
    return made


@pytest.mark.usefixtures("server")
class RunnerTests(Suite):
    """Tests of the conformance suite that cross the border of a process in ways of their own, and Prefect's view."""

    runs_in_other_processes = True
    #: What is said of a result that cannot be pickled.
    refusal: ClassVar[str] = r"(?s)node 'lock'.*cannot pickle"

    # values and items
    test_where_nodes_run = ValueTests.test_where_nodes_run
    test_nodes_in_containers = ValueTests.test_nodes_in_containers
    test_local_functions = ValueTests.test_local_functions
    test_default_that_is_known_by_its_identity = (
        TransportTests.test_default_that_is_known_by_its_identity
    )
    test_module_of_this_process = TransportTests.test_module_of_this_process
    # instances
    test_local_and_derived_classes = StateTests.test_local_and_derived_classes
    # surroundings
    caller = SurroundingTests.caller
    test_settings_of_the_caller = SurroundingTests.test_settings_of_the_caller
    test_messages_reach_the_caller = SurroundingTests.test_messages_reach_the_caller
    test_hashes = SurroundingTests.test_hashes
    test_things_of_main = SurroundingTests.test_things_of_main
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

    def named(self, name: str) -> str:
        """A name for a workflow that no other class has on the server."""
        return f"{type(self).__name__}-{name}"

    def test_edges(self, server: SyncPrefectClient) -> None:
        """Prefect knows the same dependencies as on threads."""
        name = self.named("edges")

        assert EDGES_RESULT == self.new_workflow(*edges_targets(), workflow_name=name).run()
        assert EDGES == edges(task_runs(server, name, len(EDGES)))

    def test_what_cannot_be_sent(self) -> None:
        """A result that cannot be pickled is an error of its node, which says so."""
        with pytest.raises(EngineError, match=self.refusal):
            self.compute(add(lock().set_name("lock"), 1))

    def test_error_that_cannot_be_sent(self) -> None:
        """An error with parts that cannot be pickled arrives as itself, with those parts described."""
        with pytest.raises(Guarded, match="keep out") as raised:
            self.compute(fail_guarded().set_name("guarded"))

        assert "lock object" in raised.value.lock
        assert any("in node 'guarded'" in note for note in raised.value.__notes__)


class ClusterTests(RunnerTests):
    """The same on a cluster, whose workers are there before a run and stay after it."""

    test_results_can_be_changed = TransportTests.test_results_can_be_changed
    test_large_arguments = TransportTests.test_large_arguments
    test_large_arguments_are_pickled_once = TransportTests.test_large_arguments_are_pickled_once
    _check_unsendable = TransportTests._check_unsendable  # noqa: SLF001 - called by the two tests below
    test_unsendable_function = TransportTests.test_unsendable_function
    test_unsendable_argument = TransportTests.test_unsendable_argument
    test_dataclasses = StateTests.test_dataclasses
    test_no_exceptions = ExceptionTests.test_no_exceptions
    test_unsendable_exception = ExceptionTests.test_unsendable_exception

    def test_caches(self) -> None:
        """Nodes of one function with the same inputs share an entry of Prefect's cache, also from run to run."""
        from prefect.cache_policies import INPUTS

        first, second = add(20, 22).set_name("first"), add(1, 1).set_name("second")
        made: Any = self.new_workflow(add(first, 0), second, workflow_name=self.named("caches"))
        made.query().set_task_args({"cache_policy": INPUTS})

        assert [made.run(), made.run()] == [[42, 2], [42, 2]]
        assert made.report.names("cached") == ["first", "second", "add_0000"]
