"""The storage suite: what every storage must do, wherever its results are."""

from __future__ import annotations

from functionfuse.testing.storage.concurrency import ProcessTests, ThreadTests
from functionfuse.testing.storage.damage import DamageTests
from functionfuse.testing.storage.failures import FailureTests
from functionfuse.testing.storage.headers import HeaderTests
from functionfuse.testing.storage.mapping import DictTests
from functionfuse.testing.storage.remote import ConnectionTests, RequestTests
from functionfuse.testing.storage.runs import RunTests
from functionfuse.testing.storage.secrets import SecretTests
from functionfuse.testing.storage.sidecars import SidecarTests
from functionfuse.testing.storage.values import ArrayTests, ValueTests

__all__ = ["MinimalStorageTests", "RemoteTests", "StorageTests"]


class MinimalStorageTests(ValueTests, RunTests):
    """All tests for a storage that has no more than `save`, `read_task` and `always_read`.

    Derive from it in a test file, and say how a storage is made::

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
):
    """All tests for a storage that has every method of `functionfuse.storage.base.Storage`.

    Derive from it in a test file, and say how storages of one place are made.
    What is done behind their back needs a door::

        class TestMyStorage(StorageTests):
            max_examples = 10

            @pytest.fixture
            def make(self, tmp_path):
                return lambda **options: MyStorage(tmp_path, **options)

            @pytest.fixture
            def door(self, tmp_path):
                return RawAccess(fsspec.filesystem("file"), str(tmp_path))

    A storage in a folder of this machine derives from `FolderTests` as well,
    one that is reached by a connection from `RemoteTests`.
    """


class RemoteTests(ConnectionTests, RequestTests, SecretTests):
    """To be added to `StorageTests` by a storage that is reached by a connection.

    The fixtures `connection`, `requests` and `secrets` say what may break,
    what goes through it, and what must not be told.
    """
