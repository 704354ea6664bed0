"""Pytest plugin: mark tests that start a server or a cluster `integration`, and tests that take seconds `slow`.

`make test-quick` deselects both.
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
#: Parameters with which a test requests one of these fixtures while it runs.
_PARAMETERS: Final = frozenset({"prefect", "ray", "dask", "S3"})
#: Pages, folders and files whose tests start an engine themselves.
_ENGINES: Final = re.compile(
    r"^(README|docs/|tests/backends/(dask|prefect|ray)/)"
    r"|/test_(ray_storage|storage_engines|serializers_engines)"
)
#: Files with tests that kill, time out, draw examples for seconds each, or measure.
_SLOW: Final = re.compile(
    r"/test_(benchmarks|development|examples|typing|growth|storage_conformance|local_worker|script_types|writing_a_backend)"
)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their fixtures, parameters and paths."""
    for item in items:
        path = item.nodeid.partition("::")[0]
        if _ENGINES.search(path) or _needs_a_server(item):
            item.add_marker(pytest.mark.integration)
        elif _SLOW.search(path):
            item.add_marker(pytest.mark.slow)


def _needs_a_server(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    parts = (part for each in parameters for part in (each if type(each) is tuple else (each,)))
    return not _SERVERS.isdisjoint(item.fixturenames) or any(
        type(part) is str and part in _PARAMETERS for part in parts
    )
