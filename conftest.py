"""Runs the Python blocks of the README and of docs/, and gives the tests real servers.

Each page runs from top to bottom as one session.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
from doctest import ELLIPSIS
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from server_processes import free_port, prefect_server_in, runs_go_to
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.sybil import SybilCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect.client.orchestration import SyncPrefectClient
    from storage_servers import S3Server

pytest_plugins = [
    "engine_helpers",
    "storage_servers",
    "wheel_helpers",
    "quick_part",
    "skip_summary",
]
pytest.register_assert_rewrite(
    "prefect_cases", "prefect_helpers", "prefect_pipelines", "prefect_runners"
)
pytest.register_assert_rewrite("file_format_helpers", "trust_helpers", "unpickler_helpers")

# Ray looks at these when it is imported: it shall listen on the loopback interface alone,
# and use a token of its own instead of writing one to the user's folder
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex()
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Prefect looks at these when it is imported, which the collection of tests may do: not the user's own
_home = tempfile.TemporaryDirectory()
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

# a shell lets what it starts in the background ignore Ctrl-C, and the tests' own programs with it
signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a real Prefect server, started for this session, with a database of its own."""
    with prefect_server_in(tmp_path_factory.mktemp("prefect"), free_port()) as url:
        yield url
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all()  # else the last logs are sent to a server that is gone


@pytest.fixture
def server(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of the session's server, which runs in this test go to."""
    from prefect import get_client

    with runs_go_to(prefect_server), get_client(sync_client=True) as client:
        yield client


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
        # the workers', which take the library from where this process takes it
        tests = Path(__file__).parent / "tests"
        folders = [tests, *{path.parent for path in tests.rglob("*.py")}]
        environment.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)), prepend=os.pathsep)
        environment.setenv("PYTHONHASHSEED", "0")  # as docs/engines.md says for such a cluster
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
