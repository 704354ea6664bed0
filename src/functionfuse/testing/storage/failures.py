"""Failure tests of storages: a failed save changes no result and leaves no file in listings."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from functionfuse.errors import StorageError
from functionfuse.testing.storage.suite import StorageSuite

if TYPE_CHECKING:
    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import RawAccess

__all__ = ["FailureTests"]


class Raises:
    """Cannot be pickled, with an exception of its own."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        message = "no pickle"
        raise self.error(message)


class Scattered:
    """Has a buffer that is not contiguous, which cannot be written without a copy."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return bytes, (pickle.PickleBuffer(memoryview(bytearray(100))[::2]),)


UNSTORABLE: Final[dict[str, Any]] = {
    "lock": threading.Lock(),
    "generator": (number for number in range(3)),
    "ValueError": Raises(ValueError),
    "OSError": Raises(OSError),
    "FileNotFoundError": Raises(FileNotFoundError),
    "RecursionError": Raises(RecursionError),
    "buffer": Scattered(),
}
INTERRUPTED: Final = {**UNSTORABLE, "KeyboardInterrupt": Raises(KeyboardInterrupt)}


class FailureTests(StorageSuite):
    """Failed saves."""

    @pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
    def test_what_cannot_be_pickled(self, storage: Storage, value: Any) -> None:
        """The error names the result; an earlier one stays, and no new one is stored."""
        for name in ("earlier", "new"):
            storage.save("w", "earlier", 1)
            with pytest.raises(StorageError, match=f"cannot save w/{name} in .*cannot be pickled"):
                storage.save("w", name, [np.zeros(200_000), {"deep": [value]}])
            assert 1 == storage.read_task("w", "earlier")
            assert ["earlier"] == storage.list_tasks("w")

    @pytest.mark.parametrize("value", INTERRUPTED.values(), ids=INTERRUPTED)
    def test_a_failed_save_leaves_no_file(
        self, storage: Storage, raw_access: RawAccess, value: Any
    ) -> None:
        """A save that fails or is interrupted halfway changes no file and leaves none."""
        storage.save("w", "node", 1)
        before = raw_access.files()
        for name in ("node", "new"):
            with pytest.raises((StorageError, KeyboardInterrupt)):
                storage.save("w", name, [np.zeros(200_000), value])
        assert before == raw_access.files()

    def test_an_interrupt_goes_through(self, storage: Storage) -> None:
        """KeyboardInterrupt is not converted to an error of the storage."""
        with pytest.raises(KeyboardInterrupt):
            storage.save("w", "node", [np.zeros(1_000), Raises(KeyboardInterrupt)])
        assert [] == storage.list_tasks("w")
