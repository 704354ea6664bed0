"""Runs the Python blocks of the README and of docs/, and gives the tests real servers.

Each page runs from top to bottom as one session.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from doctest import ELLIPSIS
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from server_processes import free_port
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.sybil import SybilCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect.client.orchestration import SyncPrefectClient
    from storage_servers import S3Server

pytest_plugins = ["storage_servers"]

# Ray looks at these when it is imported: it shall listen on the loopback interface alone,
# and use a token of its own instead of writing one to the user's folder
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex()
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Prefect looks at these when it is imported, which the collection of tests may do: not the user's own
_home = tempfile.TemporaryDirectory()
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

_undo: list[Callable[[], object]] = []


def _enter(namespace: dict[str, Any]) -> None:
    """Start a page in an empty folder, and in a module that cannot be imported, as a notebook does."""
    folder, before = tempfile.TemporaryDirectory(), os.getcwd()
    _undo.extend((folder.cleanup, lambda: os.chdir(before)))
    os.chdir(folder.name)
    namespace["__name__"] = "__main__"


def _leave(_: dict[str, Any]) -> None:
    while _undo:
        _undo.pop()()


def pytest_unconfigure() -> None:
    """Keep Prefect's temporary server from saying that it stops, when pytest has closed the stream."""
    logging.getLogger("prefect").setLevel(logging.WARNING)


def _pages(patterns: list[str], excludes: list[str], fixtures: list[str]) -> Sybil:
    return Sybil(
        parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)],
        patterns=patterns,
        excludes=excludes,
        setup=_enter,
        teardown=_leave,
        fixtures=fixtures,
    )


_WITH_S3, _WITH_RAY = ["docs/storage.md"], ["docs/ray.md"]
pytest_collect_file = SybilCollection(
    [
        _pages(["README.md", "docs/*.md"], excludes=_WITH_S3 + _WITH_RAY, fixtures=[]),
        _pages(_WITH_S3, excludes=[], fixtures=["s3_for_a_page"]),
        _pages(_WITH_RAY, excludes=[], fixtures=["ray_cluster"]),
    ]
).pytest()


@pytest.fixture
def s3_for_a_page(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a bucket `results`, and what it takes to get there in the environment."""
    if not moto_server.filesystem.exists("results"):
        moto_server.filesystem.mkdir("results")
    options = moto_server.options()
    monkeypatch.setenv("S3_KEY", options["key"])
    monkeypatch.setenv("S3_SECRET", options["secret"])
    monkeypatch.setenv("S3_SERVER", options["endpoint_url"])


START = 120  # seconds: the first start migrates a database


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a real Prefect server, started for this session, with a database of its own."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": url,
        # the pages are written with the address in them: not into what is installed
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
    }
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(  # noqa: S603
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        _wait_until_up(f"{url}/health", server)
        yield url
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all()  # else the last logs are sent to a server that is gone
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def server(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:
    """A client of the session's server, which runs in this test go to."""
    from prefect import get_client
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, temporary_settings

    # threads and processes that Prefect starts look at the environment and the global settings alone
    with monkeypatch.context() as environment:
        environment.setenv("PREFECT_API_URL", prefect_server)
        refresh_global_settings_context()
        with (
            temporary_settings({PREFECT_API_URL: prefect_server}),
            get_client(sync_client=True) as client,
        ):
            yield client
    refresh_global_settings_context()


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.2)  # nothing tells when a server has come up
    pytest.fail(f"the Prefect server did not come up within {START} seconds")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of three CPUs that this process is connected to."""
    import ray

    with (
        tempfile.TemporaryDirectory(
            prefix="r"
        ) as folder,  # short: the paths of sockets are limited
        pytest.MonkeyPatch.context() as environment,
    ):
        tests = str(Path(__file__).parent / "tests")
        environment.setenv("PYTHONPATH", tests, prepend=os.pathsep)  # the workers'
        ray.init(
            address="local",
            num_cpus=3,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        yield
        ray.shutdown()
