"""DaskWorkflow on a cluster of processes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("distributed")

from distributed import Client, LocalCluster

from functionfuse.backends.builtin.daskback import DaskWorkflow
from functionfuse.testing import EngineTests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of a cluster with two processes, one node at a time in each."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class TestDask(EngineTests):
    """The conformance suite on Dask."""

    runs_in_other_processes = True
    max_examples = 10

    @pytest.fixture(autouse=True)
    def _on(self, client: Client) -> None:
        self._client = client

    def make_workflow(self, *nodes: Any, workflow_name: str) -> DaskWorkflow:
        """A workflow on the cluster."""
        return DaskWorkflow(*nodes, workflow_name=workflow_name, client=self._client)
