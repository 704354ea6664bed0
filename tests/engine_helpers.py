"""Run one graph on all engines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ENGINES", "OTHER_PROCESSES", "QUIET", "dask_client", "make_workflow"]

#: For Dask's clusters: on the loopback interface, on any port, without a dashboard.
QUIET: Final[dict[str, Any]] = {
    "threads_per_worker": 1,
    "host": "127.0.0.1",
    "dashboard_address": None,
    "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
}
#: Where nodes run in other processes than the caller of `run()`.
OTHER_PROCESSES: Final = ("processes", "ray", "dask")
ENGINES: Final = ("serial", "threads", *OTHER_PROCESSES, "prefect")


@pytest.fixture(scope="session")
def dask_client() -> Iterator[Any]:
    """A client of a Dask cluster with two processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, **QUIET) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=ENGINES)
def make_workflow(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes workflows of one engine."""
    match request.param:
        case "serial":
            return LocalWorkflow
        case "threads" | "processes":
            return partial(LocalWorkflow, workers=2, kind=request.param)
        case "ray":
            pytest.importorskip("ray")
            request.getfixturevalue("ray_cluster")
            from functionfuse.backends.builtin.rayback import RayWorkflow

            return RayWorkflow
        case "dask":
            client = request.getfixturevalue("dask_client")
            from functionfuse.backends.builtin.daskback import DaskWorkflow

            return partial(DaskWorkflow, client=client)
        case _:
            pytest.importorskip("prefect")
            request.getfixturevalue("server")
            from functionfuse.backends.addons.prefectback import PrefectWorkflow

            return PrefectWorkflow
