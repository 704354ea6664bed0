"""S3 servers for the tests: moto's, and Ceph's gateway where it is installed.

Both listen on the loopback interface alone, keep everything in memory, and end with the session.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import uuid
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ceph_gateway
import pytest
from forwarder import Forwarder
from server_processes import free_port, listens, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUCKET", "S3Server", "ceph_server", "moto_server"]

BUCKET: Final = "functionfuse-tests"


class S3Server:
    """A running server that has a bucket, and the credentials of its user."""

    def __init__(self, port: int) -> None:
        """Take a port of the loopback interface, and make up a user."""
        self.port = port
        self.key = f"key-{uuid.uuid4().hex}"
        self.secret = f"secret-{uuid.uuid4().hex}"

    def options(self, *, breakable: bool = False, **more: Any) -> dict[str, Any]:
        """The options of s3fs.

        Args:
            breakable: Whether to go through the connection that can be broken.
            **more: Other options of s3fs.
        """
        port = self.connection.port if breakable else self.port
        endpoint = f"http://127.0.0.1:{port}"
        return {"key": self.key, "secret": self.secret, "endpoint_url": endpoint, **more}

    @cached_property
    def connection(self) -> Forwarder:
        """Another way to the server, which can be broken, and sees the requests."""
        return Forwarder(self.port)

    @cached_property
    def filesystem(self) -> Any:
        """The server as s3fs sees it, which remembers no listing."""
        import fsspec

        own = {"use_listings_cache": False, "skip_instance_cache": True}
        return fsspec.filesystem("s3", **self.options(), **own)

    def empty(self, folder: str) -> str:
        """The path of a folder in the bucket that has nothing in it."""
        path = f"{BUCKET}/{folder}"
        if self.filesystem.find(path):
            self.filesystem.rm(path, recursive=True)
        return path


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Moto's S3 server, in a process of its own; it lets everybody in."""
    _needed("moto and s3fs", _importable("moto") and _importable("s3fs"))
    server = S3Server(free_port())
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)]
    with running(command, tmp_path_factory.mktemp("moto") / "log") as process:
        until(lambda: listens(server.port), process)
        server.filesystem.mkdir(BUCKET)
        yield server


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[S3Server]:
    """Ceph's S3 gateway, which knows one user."""
    _needed("Ceph's programs and s3fs", ceph_gateway.can_start() and _importable("s3fs"))
    with ExitStack() as stack:
        # not a folder of pytest's: the path of a socket must be short
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ceph-"))
        gateway = ceph_gateway.Gateway(Path(folder), stack)
        server = S3Server(gateway.port)
        gateway.add_user(server.key, server.secret)
        server.filesystem.mkdir(BUCKET)
        yield server


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _needed(what: str, there: bool) -> None:  # noqa: FBT001
    """Skip on a laptop, fail on CI."""
    if not there:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} are not installed")
