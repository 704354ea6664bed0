"""Server processes of the tests: started on a free port, awaited, and stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["START", "free_port", "listens", "prefect_server_in", "running", "runs_go_to", "until"]

#: Seconds that a program may take to come up: the first Prefect server migrates a database.
START: Final = 120


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Tell whether a server accepts connections at a port of the loopback interface."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs as long as the block; its output is in a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
    try:
        yield process
    finally:
        process.kill()  # everything is in memory: there is nothing to save
        process.wait()


def until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until a program is ready; fail if it ends before, or takes too long."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return
        time.sleep(0.05)  # servers do not signal that they are ready
    pytest.fail(f"{process.args!r} did not come up within {START} seconds")


@contextmanager
def prefect_server_in(home: Path, port: int) -> Iterator[str]:
    """The API address of a Prefect server as long as the block lasts; its database stays in a folder."""
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": url,
        # the pages are written with the address in them: not into what is installed
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        # schedules are looked at each minute otherwise
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (home / "server.log").open("a") as log:
        server = subprocess.Popen(  # noqa: S603
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        until(lambda: _answers(f"{url}/health"), server)
        yield url
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def runs_go_to(url: str) -> Iterator[None]:
    """Let what Prefect runs in the block go to a server."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, temporary_settings

    # threads and processes that Prefect starts read the environment and the global settings alone
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_API_URL", url)
        refresh_global_settings_context()
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    refresh_global_settings_context()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return True
    except OSError:
        return False
