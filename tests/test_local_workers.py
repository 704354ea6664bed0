"""LocalWorkflow with workers: the conformance suite, and what is true of threads or processes of one machine only."""

from __future__ import annotations

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.testing import EngineTests
from typing import Any

def in_threads(*nodes: Any, workflow_name: str = "workers") -> LocalWorkflow:
    """A workflow whose nodes run in three threads."""
    return LocalWorkflow(*nodes, workflow_name=workflow_name, workers=3, kind="threads")


def in_processes(*nodes: Any, workflow_name: str = "workers") -> LocalWorkflow:
    """A workflow whose nodes run in two other processes."""
    return LocalWorkflow(*nodes, workflow_name=workflow_name, workers=2)


class TestLocalThreads(EngineTests):
    """The conformance suite in threads."""

    make_workflow = staticmethod(in_threads)


class TestLocalProcesses(EngineTests):
    """The conformance suite in processes."""

    runs_in_other_processes = True
    max_examples = 5
    make_workflow = staticmethod(in_processes)
