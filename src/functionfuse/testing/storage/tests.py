"""Conformance suite of storages."""

from __future__ import annotations

from functionfuse.testing.storage.concurrency import ProcessTests, ThreadTests
from functionfuse.testing.storage.damage import DamageTests
from functionfuse.testing.storage.failures import FailureTests
from functionfuse.testing.storage.headers import HeaderTests
from functionfuse.testing.storage.mapping import DictTests
from functionfuse.testing.storage.provenance import ProvenanceTests
from functionfuse.testing.storage.remote import ConnectionTests, RequestTests
from functionfuse.testing.storage.runs import RunTests
from functionfuse.testing.storage.secrets import SecretTests
from functionfuse.testing.storage.sidecars import SidecarTests
from functionfuse.testing.storage.values import ArrayTests, ValueTests

__all__ = ["MinimalStorageTests", "RemoteTests", "StorageTests"]


class MinimalStorageTests(ValueTests, RunTests):
    """All tests for a storage with only `save`, `read_task` and `always_read`.

    Derive from it in a test file, with a fixture that creates a storage::

        class TestMyStorage(MinimalStorageTests):
            @pytest.fixture
            def make(self, tmp_path):
                return lambda: MyStorage(tmp_path)
    """


class StorageTests(
    ValueTests,
    RunTests,
    ArrayTests,
    DictTests,
    DamageTests,
    HeaderTests,
    FailureTests,
    ThreadTests,
    ProcessTests,
    SidecarTests,
    ProvenanceTests,
):
    """All tests for a storage that has every method of `functionfuse.storage.base.Storage`.

    Derive from it in a test file, with a fixture that creates storages that share their results.
    Tests of damage need direct access to their files::

        class TestMyStorage(StorageTests):
            max_examples = 10

            @pytest.fixture
            def make(self, tmp_path):
                return lambda **options: MyStorage(tmp_path, **options)

            @pytest.fixture
            def raw_access(self, tmp_path):
                return RawAccess(fsspec.filesystem("file"), str(tmp_path))

    A storage in a local folder derives from `FolderTests` too, and a remote one from `RemoteTests`.
    """


class RemoteTests(ConnectionTests, RequestTests, SecretTests):
    """Tests in addition to `StorageTests` for a remote storage.

    They need the fixtures `connection`, `requests` and `secrets`.
    """
