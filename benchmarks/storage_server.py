"""An S3 server for `storage.py`: moto's, in a process of its own, whose log tells what was asked."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START = 60  # seconds that the server may take to come up
METHODS = ('"GET ', '"HEAD ', '"PUT ', '"POST ', '"DELETE ')  # in lines of its log


class Server:
    """A server that runs, with a bucket."""

    bucket = "benchmark"

    def __init__(self, port: int, log: Path) -> None:
        """Take the port of a server, and the file of its log."""
        self._options = {
            "key": "benchmark",
            "secret": "benchmark",
            "endpoint_url": f"http://127.0.0.1:{port}",
        }
        self._log = log

    def storage(self) -> Any:
        """Results in the bucket."""
        return storage_factory(
            {"kind": "S3", "options": {"path": self.bucket, "s3fs": self._options}}
        )

    def filesystem(self) -> Any:
        """The bucket without us."""
        import fsspec

        return fsspec.filesystem("s3", **self._options, use_listings_cache=False)

    def requests(self, work: Callable[[], object]) -> list[str]:
        """What some work asks of the server when it is done a second time."""
        work()
        before = len(self._requests())
        work()
        return self._requests()[before:]

    def _requests(self) -> list[str]:
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if any(method in line for method in METHODS)]


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """A server as long as the block lasts."""
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
    try:
        wait_for(port)
        server = Server(port, log)
        server.filesystem().mkdir(server.bucket)
        yield server
    finally:
        process.kill()  # everything is in memory: there is nothing to save
        process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    """Wait until somebody takes connections at a port."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # nothing tells when a server has come up
    message = f"the server did not come up within {START} seconds"
    raise TimeoutError(message)
