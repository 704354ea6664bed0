"""Storages of every kind for the tests of serializers, with access to their files."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import fsspec
import pytest
from storage_servers import BUCKET

from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from storage_servers import S3Server

__all__ = ["Kept", "in_another_process", "in_memory", "kept", "local", "on_s3"]


@dataclass
class Kept:
    """A storage for serializers, and the files that it makes."""

    options: dict[str, Any]
    filesystem: Any
    root: str
    secrets: tuple[str, ...] = ()

    def storage(self, *serializers: Any, **more: Any) -> Any:
        """The storage, with serializers."""
        options = self.options["options"] | more
        made: Any = storage_factory({**self.options, "options": options})
        made.register_persistent_serializers(*serializers)
        made.new_workflow("w")
        return made

    def files(self, part: str = "") -> list[str]:
        """The paths of all files that have `part` in them."""
        self.filesystem.invalidate_cache()
        return sorted(path for path in self.filesystem.find(self.root) if part in path)

    def objects(self) -> list[str]:
        """The sidecar files."""
        return self.files("/.objects/")

    def result(self, name: str = "node") -> bytes:
        """The bytes of a result file."""
        data: bytes = self.filesystem.cat_file(f"{self.root}/w/{name}")
        return data

    def round_trip(self, value: Any, *serializers: Any) -> Any:
        """A value, saved and read."""
        storage = self.storage(*serializers)
        storage.save("w", "node", value)
        return storage.read_task("w", "node")


def in_another_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new interpreter."""
    code = "import sys, pickle; f, a = pickle.load(sys.stdin.buffer); pickle.dump(f(*a), sys.stdout.buffer)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        input=cloudpickle.dumps((function, arguments)),
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert not done.returncode, done.stderr.decode()
    return cloudpickle.loads(done.stdout)


@pytest.fixture
def local(tmp_path: Path) -> Kept:
    """Files in a folder."""
    options = {"kind": "file", "options": {"path": tmp_path / "kept"}}
    return Kept(options, fsspec.filesystem("file"), str(tmp_path / "kept"))


def in_memory() -> Kept:
    """The memory of this process."""
    name = f"test-{uuid.uuid4()}"
    options = {"kind": "memory", "options": {"name": name}}
    filesystem = fsspec.filesystem("memory")
    storage_factory(options).save("w", "probe", 0)
    (root,) = [path.removesuffix("/w/probe") for path in filesystem.find("") if name in path]
    storage_factory(options).remove_task("w", "probe")
    return Kept(options, filesystem, root)


def on_s3(server: S3Server) -> Kept:
    """A folder in a bucket."""
    path = f"{BUCKET}/{uuid.uuid4()}"
    options = {"kind": "S3", "options": {"path": path, "s3fs": server.options()}}
    filesystem = fsspec.filesystem(
        "s3", **server.options(), use_listings_cache=False, skip_instance_cache=True
    )
    return Kept(options, filesystem, path, (server.key, server.secret))


@pytest.fixture(params=["file", "memory", "S3"])
def kept(request: pytest.FixtureRequest) -> Kept:
    """A storage of each kind."""
    match request.param:
        case "file":
            found: Kept = request.getfixturevalue("local")
            return found
        case "memory":
            return in_memory()
        case _:
            return on_s3(request.getfixturevalue("moto_server"))
