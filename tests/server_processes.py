"""Programs that tests start: on a free port, waited for, and ended by the one who started them."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["START", "free_port", "listens", "running", "until"]

START: Final = 60  # seconds that a program may take to come up


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Tell whether somebody takes connections at a port of the loopback interface."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program as long as the block lasts; what it says is in a file."""
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
        time.sleep(0.05)  # nothing tells when a server has come up
    pytest.fail(f"{process.args!r} did not come up within {START} seconds")
