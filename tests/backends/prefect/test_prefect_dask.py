"""PrefectWorkflow with Prefect's task runner for Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("prefect_dask")

import dask
from distributed import LocalCluster
from prefect_runners import FULL, ClusterTests, with_runner

from functionfuse.testing import EngineTests
from functionfuse.testing.engine.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class OnDask(Suite):
    """How workflows are made here."""

    runs_in_other_processes = True
    # Dask holds the death of a worker against all that was assigned to it
    isolates_crashes = False

    @pytest.fixture(autouse=True)
    def _on(self, address: str) -> None:
        self._address = address

    def make_workflow(self, *nodes: Any, workflow_name: str) -> PrefectWorkflow:
        """A workflow whose nodes run on the cluster."""
        from prefect_dask.task_runners import DaskTaskRunner

        runner = DaskTaskRunner(address=self._address)
        return with_runner(runner, *nodes, workflow_name=workflow_name)


class TestPrefectDask(OnDask, ClusterTests):
    """The tests of each runner, on Dask."""


@pytest.mark.usefixtures("server")
class TestAllOnPrefectDask(OnDask, EngineTests):
    """The conformance suite, with FUNCTIONFUSE_FULL=1."""

    __test__ = FULL
    max_examples = 3
