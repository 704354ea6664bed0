"""The storage suite on every storage that there is, and on one that is not ours."""

from __future__ import annotations

import contextlib
import os
import pickle
import uuid
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from storage_servers import BUCKET

from functionfuse.errors import CorruptResult, ResultNotFound, StorageError
from functionfuse.storage import storage_factory
from functionfuse.storage.backends.file_names import file_name
from functionfuse.testing import (
    FolderTests,
    MinimalStorageTests,
    RawAccess,
    RemoteTests,
    StorageTests,
)
from functionfuse.testing.child_processes import call_in_process
from functionfuse.testing.storage.secrets import error_of, leaks, texts_of
from functionfuse.testing.storage.values import read_number, save_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forwarder import Forwarder
    from storage_servers import S3Server

    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import Make, Requests


def of_kind(kind: str, **options: Any) -> Any:
    """A storage from its configuration."""
    return storage_factory({"kind": kind, "options": options})


def without(variables: Sequence[str], storage: Any) -> object:
    """Use a storage in a process that has not got some variables of the environment."""
    for name in variables:
        os.environ.pop(name, None)
    return storage.read_task("w", "node")


def local_door(folder: Path) -> RawAccess:
    """A door to a folder of this machine."""
    return RawAccess(fsspec.filesystem("file", skip_instance_cache=True), str(folder))


def memory_door(root: str) -> Iterator[RawAccess]:
    """A door to a folder in memory, which is empty in the end."""
    raw_access = RawAccess(fsspec.filesystem("memory"), root)
    yield raw_access
    with contextlib.suppress(FileNotFoundError):
        raw_access.filesystem.rm(root, recursive=True)


class TestFileStorage(FolderTests, StorageTests):
    """Files in a folder."""

    make_in = staticmethod(lambda folder, **options: of_kind("file", path=str(folder), **options))

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """Storages in one folder."""
        return lambda **options: of_kind("file", path=tmp_path / "storage", **options)

    @pytest.fixture
    def raw_access(self, tmp_path: Path) -> RawAccess:
        """The folder itself."""
        return local_door(tmp_path / "storage")


class TestDurableFileStorage(TestFileStorage):
    """Files that are on the disk before a save returns."""

    max_examples = 5
    kills = 20
    damages = 20

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """Storages in one folder."""
        return lambda **options: of_kind("file", path=tmp_path / "storage", fsync=True, **options)


class TestSignedFileStorage(StorageTests):
    """Files that are signed."""

    max_examples = 5
    kills = 20
    damages = 200

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """Storages in one folder, with one key."""
        key = tmp_path / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(32))
        options = {"path": tmp_path / "storage", "signing_key": f"file:{key}"}
        return lambda **more: of_kind("file", **options, **more)

    @pytest.fixture
    def raw_access(self, tmp_path: Path) -> RawAccess:
        """The folder itself."""
        return local_door(tmp_path / "storage")

    def test_never_checks_no_arrays(self, make: Make, raw_access: RawAccess) -> None:
        """Signed results are always verified."""
        storage = make(verify="never")
        self.spoil(storage, raw_access)
        with pytest.raises(CorruptResult, match="w/large"):
            storage.read_task("w", "large")


class TestLocalUrlStorage(FolderTests, StorageTests):
    """The same by an address."""

    max_examples = 10
    kills = 50
    damages = 100
    make_in = staticmethod(
        lambda folder, **options: of_kind("fsspec", url=f"file://{folder}", **options)
    )

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """Storages in one folder."""
        return lambda **options: of_kind("fsspec", url=f"file://{tmp_path}/storage", **options)

    @pytest.fixture
    def raw_access(self, tmp_path: Path) -> RawAccess:
        """The folder itself."""
        return local_door(tmp_path / "storage")


class TestMemoryStorage(StorageTests):
    """The memory of this process."""

    shared = False

    @pytest.fixture
    def name(self) -> str:
        """A name that no other test uses."""
        return f"test-{uuid.uuid4()}"

    @pytest.fixture
    def make(self, name: str) -> Make:
        """Storages of one name."""
        return lambda **options: of_kind("memory", name=name, **options)

    @pytest.fixture
    def raw_access(self, name: str) -> Iterator[RawAccess]:
        """The file system that is in the memory."""
        yield from memory_door(f"/{name}")

    def test_elsewhere(self, storage: Storage) -> None:
        """In another process the storage says that it is not there, rather than empty."""
        storage.save("w", "node", 1)
        for function in (read_number, save_value):
            with pytest.raises(StorageError, match="memory of another process"):
                call_in_process(function, storage, *((1,) if function is save_value else ()))
        calls: dict[str, Any] = {
            "info_many": ["node"],
            "stamp": {"node": {}},
            "save_sources": {"digest": "text"},
            "read_source": "digest",
        }
        for method, argument in calls.items():
            with pytest.raises(StorageError, match="memory of another process"):
                call_in_process(getattr(storage, method), "w", argument)


class TestMemoryUrlStorage(StorageTests):
    """A file system of fsspec that is in the memory of this process."""

    shared = False
    max_examples = 10

    @pytest.fixture
    def name(self) -> str:
        """A name that no other test uses."""
        return f"test-{uuid.uuid4()}"

    @pytest.fixture
    def make(self, name: str) -> Make:
        """Storages at one address."""
        return lambda **options: of_kind("fsspec", url=f"memory://{name}", **options)

    @pytest.fixture
    def raw_access(self, name: str) -> Iterator[RawAccess]:
        """The file system."""
        yield from memory_door(f"/{name}")


class S3Tests(RemoteTests, StorageTests):
    """Objects in a bucket, through a connection that can be broken, and that sees the requests."""

    max_examples = 4
    steps = 8
    kills = 10
    damages = 30

    @pytest.fixture
    def server(self) -> S3Server:
        """The server to be used."""
        raise NotImplementedError

    @pytest.fixture
    def raw_access(self, server: S3Server) -> RawAccess:
        """The same folder in each test: another one would need a new connection, which takes long."""
        return RawAccess(server.filesystem, server.empty("conformance"))

    @pytest.fixture
    def make(self, server: S3Server, raw_access: RawAccess, attempts: int) -> Make:
        """Storages in the folder, which is empty."""
        retries = {"retries": {"total_max_attempts": attempts}}
        options = server.options(breakable=True, config_kwargs=retries)
        return lambda **more: of_kind("S3", path=raw_access.root, s3fs=options, **more)

    @pytest.fixture
    def attempts(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
        """How often a request is made: once, and no waiting, where the connection will break."""
        if "connection" not in request.fixturenames:
            return 5  # also a server that answers can fail, which is not what we test
        monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
        return 1

    @pytest.fixture
    def connection(self, server: S3Server) -> Iterator[Forwarder]:
        """The part that may fail."""
        yield server.connection
        server.connection.mend()

    @pytest.fixture
    def secrets(self, server: S3Server) -> Sequence[str]:
        """The user of the server, and the credentials."""
        return server.key, server.secret

    @pytest.fixture
    def requests(self, server: S3Server) -> Requests:
        """The data that pass through the connection."""

        @contextlib.contextmanager
        def recorded() -> Iterator[list[str]]:
            made, before = list[str](), len(server.connection.requests)
            yield made
            made += [each.split()[0] for each in server.connection.requests[before:]]

        return recorded

    def test_a_bucket_that_is_not_there(self, server: S3Server) -> None:
        """The first use says so, rather than that nothing is stored."""
        storage = of_kind("S3", path="no-such-bucket/folder", s3fs=server.options())
        methods = ("save", "read_task", "list_tasks", "new_workflow", "file_exists", "info_many")
        for method in (*methods, "stamp", "save_sources"):
            arguments: dict[str, Any] = {
                "save": ("w", "node", 1),
                "info_many": ("w", ["node"]),
                "stamp": ("w", {"node": {}}),
                "save_sources": ("w", {"digest": "text"}),
                "read_task": ("w", "node"),
                "file_exists": ("w", "node"),
            }
            with pytest.raises(StorageError, match="no bucket 'no-such-bucket'") as caught:
                getattr(storage, method)(*arguments.get(method, ("w",)))
            assert not isinstance(caught.value, ResultNotFound)

    def test_secrets_of_the_environment(
        self, server: S3Server, raw_access: RawAccess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Secrets stay in the process: only the names of variables are pickled, and an error names a missing one."""
        monkeypatch.setenv("OUR_KEY", server.key)
        monkeypatch.setenv("OUR_SECRET", server.secret)
        options = server.options(key="env:OUR_KEY", secret="env:OUR_SECRET")  # noqa: S106
        storage = of_kind("S3", path=raw_access.root, s3fs=options)
        storage.save("w", "node", 1)
        error = error_of(lambda: storage.read_task("w", "nothing"))
        texts = [repr(storage), repr(pickle.dumps(storage)), *texts_of(error)]
        assert [] == leaks((server.key, server.secret), *texts)
        with pytest.raises(StorageError, match="environment variable OUR_"):
            call_in_process(without, ["OUR_KEY", "OUR_SECRET"], storage)


class TestMotoStorage(S3Tests):
    """Moto's server."""

    @pytest.fixture
    def server(self, moto_server: S3Server) -> S3Server:
        """Moto."""
        return moto_server


class TestCephStorage(S3Tests):
    """Ceph's gateway."""

    @pytest.fixture
    def server(self, ceph_server: S3Server) -> S3Server:
        """Ceph."""
        return ceph_server

    def test_wrong_credentials(self, server: S3Server) -> None:
        """The error without access says what to check, and no secret."""
        for wrong in ({"secret": "not-the-secret"}, {"key": "not-the-key"}):
            storage = of_kind("S3", path=BUCKET, s3fs=server.options() | wrong)
            for method, arguments in {"save": ("w", "node", 1), "list_tasks": ("w",)}.items():
                with pytest.raises(StorageError, match="check key and secret") as caught:
                    getattr(storage, method)(*arguments)
                assert "None" not in str(caught.value), "a server that gives no reason"
                assert [] == leaks(
                    (*wrong.values(), server.key, server.secret), *texts_of(caught.value)
                )


class PickleStorage:
    """A storage of a user: only the methods that a workflow requires."""

    always_read = False

    def __init__(self, folder: Path) -> None:
        """Keep pickles in a folder."""
        self.folder = folder

    def save(self, workflow_name: str, task_name: str, obj: object) -> None:
        """Write a pickle to a temporary file, and rename it."""
        data, path = pickle.dumps(obj, protocol=5), self._path(workflow_name, task_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(".new").write_bytes(data)
        path.with_name(".new").replace(path)

    def read_task(self, workflow_name: str, task_name: str) -> object:
        """Read a pickle."""
        return pickle.loads(self._path(workflow_name, task_name).read_bytes())

    def _path(self, workflow_name: str, task_name: str) -> Path:
        return self.folder / file_name(workflow_name) / file_name(task_name)


class TestForeignStorage(MinimalStorageTests):
    """A storage that has nothing to do with ours."""

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """Storages in one folder."""
        return lambda: PickleStorage(tmp_path / "storage")
