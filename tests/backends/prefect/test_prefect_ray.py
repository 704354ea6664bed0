"""PrefectWorkflow with Prefect's task runner for Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("prefect_ray")

from prefect_runners import FULL, ClusterTests, with_runner

from functionfuse.testing import EngineTests

if TYPE_CHECKING:
    from functionfuse.backends.addons.prefectback import PrefectWorkflow


def on_ray(*nodes: Any, workflow_name: str) -> PrefectWorkflow:
    """A workflow whose nodes run on the Ray cluster of the session."""
    from prefect_ray.task_runners import RayTaskRunner

    return with_runner(RayTaskRunner(), *nodes, workflow_name=workflow_name)


@pytest.mark.usefixtures("ray_cluster")
class TestPrefectRay(ClusterTests):
    """The tests of each runner, on Ray."""

    make_workflow = staticmethod(on_ray)


@pytest.mark.usefixtures("server", "ray_cluster")
class TestAllOnPrefectRay(EngineTests):
    """The conformance suite, with FUNCTIONFUSE_FULL=1."""

    __test__ = FULL
    runs_in_other_processes = True
    max_examples = 3
    make_workflow = staticmethod(on_ray)
