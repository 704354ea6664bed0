"""Ray and Dask, each with two processes on this machine, as users write for them and as we use them."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from measuring import available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class OnDask:
    """A cluster of two processes."""

    name = "dask"

    def __init__(self) -> None:
        """Start it."""
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        )
        self._client = Client(self._cluster, set_as_default=False)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Calls in Dask's words."""
        return lambda *given: self._client.submit(function, *given, pure=False)

    def results(self, calls: list[Any]) -> list[Any]:
        """What calls gave."""
        return list(self._client.gather(calls))

    def ours(self, *nodes: Any) -> Any:
        """A workflow of ours."""
        from functionfuse.backends.builtin.daskback import DaskWorkflow

        return DaskWorkflow(*nodes, workflow_name="bench", client=self._client)

    def close(self) -> None:
        """Stop it."""
        self._client.close()
        self._cluster.close()


class OnRay:
    """A cluster of two CPUs."""

    name = "ray"

    def __init__(self) -> None:
        """Start it, on the loopback interface alone."""
        os.environ |= {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_TOKEN": secrets.token_hex(),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        import ray

        self._ray = ray
        self._folder = tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True)
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=self._folder.name,
        )

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Calls in Ray's words."""
        remote: Callable[..., Any] = self._ray.remote(function).remote
        return remote

    def results(self, calls: list[Any]) -> list[Any]:
        """What calls gave."""
        return list(self._ray.get(calls))

    def ours(self, *nodes: Any, **options: Any) -> Any:
        """A workflow of ours."""
        from functionfuse.backends.builtin.rayback import RayWorkflow

        return RayWorkflow(*nodes, workflow_name="bench", **options)

    def close(self) -> None:
        """Stop it."""
        self._ray.shutdown()
        self._folder.cleanup()


LIBRARIES: Final = {"dask": "distributed", "ray": "ray"}
CLUSTERS: Final[dict[str, Callable[[], Any]]] = {"dask": OnDask, "ray": OnRay}


@contextmanager
def running(name: str) -> Iterator[Any]:
    """A cluster as long as the block lasts."""
    cluster = CLUSTERS[name]()
    try:
        yield cluster
    finally:
        cluster.close()


def installed() -> list[str]:
    """The clusters that can be started."""
    return [name for name, library in LIBRARIES.items() if available(library)]
