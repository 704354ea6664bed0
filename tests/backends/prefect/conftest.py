"""Fixtures of the tests on a Prefect server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prefect_pipelines import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect_cases import Sides


@pytest.fixture(scope="module")
def module_server(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of the session's server for all tests of a module: a change of settings takes a quarter of a second."""
    from prefect import get_client
    from prefect.context import refresh_global_settings_context
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_API_URL", prefect_server)
        refresh_global_settings_context()
        # without the second that each plain flow waits for its heartbeats
        settings = {PREFECT_API_URL: prefect_server, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        with temporary_settings(settings), get_client(sync_client=True) as client:
            yield client
    refresh_global_settings_context()


@pytest.fixture(scope="module")
def sides(module_server: SyncPrefectClient) -> Sides:
    """Both ways of writing a graph: a plain flow and a PrefectWorkflow."""
    from prefect_cases import Sides

    return Sides(module_server)


@pytest.fixture
def pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> Pipeline:
    """A file with a workflow that has the name of the test."""
    return Pipeline(tmp_path, request.node.name)
