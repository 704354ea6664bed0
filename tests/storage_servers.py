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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ceph_gateway
import pytest
from server_processes import free_port, listens, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUCKET", "S3Server", "ceph_server", "moto_server"]

BUCKET: Final = "functionfuse-tests"


@dataclass(frozen=True)
class S3Server:
    """A running server that has a bucket, and who may use it."""

    port: int
    key: str = field(default_factory=lambda: f"key-{uuid.uuid4().hex}")
    secret: str = field(default_factory=lambda: f"secret-{uuid.uuid4().hex}", repr=False)

    def options(self, **more: Any) -> dict[str, Any]:
        """What s3fs needs to know; another `port` may lead here."""
        port = more.pop("port", self.port)
        endpoint = f"http://127.0.0.1:{port}"
        return {"key": self.key, "secret": self.secret, "endpoint_url": endpoint, **more}

    def filesystem(self) -> Any:
        """The server as s3fs sees it, with nothing remembered from earlier."""
        import fsspec

        return fsspec.filesystem(
            "s3", **self.options(), use_listings_cache=False, skip_instance_cache=True
        )


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Moto's S3 server, in a process of its own; it lets everybody in."""
    _needed("moto and s3fs", _importable("moto") and _importable("s3fs"))
    server = S3Server(free_port())
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)]
    with running(command, tmp_path_factory.mktemp("moto") / "log") as process:
        until(lambda: listens(server.port), process)
        server.filesystem().mkdir(BUCKET)
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
        server.filesystem().mkdir(BUCKET)
        yield server


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _needed(what: str, there: bool) -> None:  # noqa: FBT001
    """Skip on a laptop, fail on CI."""
    if not there:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} are not installed")
