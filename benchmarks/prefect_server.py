"""A Prefect server for benchmarks, on the loopback interface, and what it uses."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storage_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET: Final = 0.05  # seconds of a half that a server may use when it has nothing to do


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    home: str
    url: str
    process: int


def environment_of(server: Server) -> dict[str, str]:
    """The environment of processes that run flows there."""
    return client(server.home) | {"PREFECT_API_URL": server.url}


def client(home: str) -> dict[str, str]:
    """The environment of processes that start a server of their own when they need one."""
    inherited = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    return inherited | {
        "PREFECT_HOME": home,
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


@contextmanager
def running_server() -> Iterator[Server]:
    """A started server, with a database of its own, as long as the block lasts."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        port = free_port()
        started = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            env=client(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = Server(home, f"http://127.0.0.1:{port}/api", started.pid)
        try:
            while not _is_up(server.url):
                assert started.poll() is None, "the Prefect server did not start"
                time.sleep(0.2)  # nothing tells when it has come up
            yield server
        finally:
            started.terminate()
            started.wait()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
            return True
    except OSError:
        return False


def settled(process: int) -> float:
    """The seconds that a server has used, once it has dealt with what was sent to it."""
    used, before = cpu_seconds(process), -1.0
    while used - before > QUIET:
        before = used
        time.sleep(0.5)
        used = cpu_seconds(process)
    return used


def child() -> int:
    """The server that this process has started."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    (started,) = [int(each) for file in listed for each in file.read_text().split()]
    return started


def cpu_seconds(process: int) -> float:
    """What a process has used so far."""
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
