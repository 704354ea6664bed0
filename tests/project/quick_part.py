"""Pytest plugin: mark the tests that need a server or a cluster, and those that take long.

`make test-quick` leaves both out.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

__all__ = ["pytest_collection_modifyitems"]

#: Fixtures that start a server or a cluster.
_SERVERS: Final = frozenset(
    {"server", "prefect_server", "ray_cluster", "dask_client", "moto_server", "ceph_server"}
)
#: Parameters with which a test asks for one of these while it runs.
_PARAMETERS: Final = frozenset({"prefect", "ray", "dask", "S3"})
#: Files and pages that start engines of their own.
_ENGINES: Final = re.compile(
    r"test_(prefect|ray|dask|storages_engines|serializers_engines)|README|docs"
)
#: Files with tests that kill, time out or draw for seconds each, and what is measured.
_SLOW: Final = re.compile(
    r"test_(benchmarks|development|examples|typing|growth|storage_conformance|local_workers|writing_a_backend)"
)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures, parameters and files that they come from."""
    for item in items:
        place = item.nodeid.partition("::")[0]
        if _ENGINES.search(place) or _needs_a_server(item):
            item.add_marker(pytest.mark.integration)
        elif _SLOW.search(place):
            item.add_marker(pytest.mark.slow)


def _needs_a_server(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    parts = (part for each in parameters for part in (each if type(each) is tuple else (each,)))
    return not _SERVERS.isdisjoint(item.fixturenames) or any(
        type(part) is str and part in _PARAMETERS for part in parts
    )
