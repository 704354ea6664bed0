"""Value tests of storages: values are unchanged after saving and reading."""

from __future__ import annotations

import datetime as dt
import decimal
import pathlib
import threading
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse.errors import UntrustedResult
from functionfuse.testing.child_processes import call_in_process
from functionfuse.testing.programs import Box, describe
from functionfuse.testing.storage.suite import StorageSuite, number_of, value_of

if TYPE_CHECKING:
    from functionfuse.testing.storage.suite import Make, RawAccess

__all__ = ["ArrayTests", "ValueTests"]

VALUES: dict[str, Any] = {
    "none": None,
    "false": False,
    "empty": [],
    "text": "é\ud800\0",
    "bytes": bytes(range(256)),
    "containers": {"a": [1, (2.5, {3})], ("b", None): frozenset("c")},
    "dates": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.timedelta(1)],
    "others": [decimal.Decimal("0.1"), uuid.UUID(int=7), pathlib.PurePosixPath("a/b")],
    "dataclass": Box([1, Box(2)]),
    "large integer": 1 << 5000,
}
ARRAYS: dict[str, Any] = {
    "vector": np.arange(10.0),
    "columns first": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "view": np.arange(20)[::3],
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "empty": np.empty((0, 3)),
    "scalar": np.array(3),
    "records": np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    "objects": np.array([1, "two", None], dtype=object),
    "big endian": np.arange(4, dtype=">i4"),
    "dates": np.array(["2026-01-01", "NaT"], dtype="datetime64[D]"),
    "just below a megabyte": np.arange((1 << 17) - 100, dtype=float),
    "more than a megabyte": np.arange((1 << 17) + 100, dtype=float),
}


class ValueTests(StorageSuite):
    """Values in any storage, also one that can only save and read."""

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    def test_values_come_back(self, storage: Any, value: Any) -> None:
        """A value keeps its type, order and content."""
        storage.save("w", "node", value)
        assert describe(value) == describe(storage.read_task("w", "node"))

    @pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
    def test_arrays_come_back_equal_and_writeable(self, storage: Any, array: Any) -> None:
        """An array is unchanged and writeable; writing does not change the stored result."""
        storage.save("w", "array", {"x": array})
        result = storage.read_task("w", "array")["x"]
        np.testing.assert_array_equal(array, result)
        assert (array.dtype, array.shape) == (result.dtype, result.shape)
        result[...] = np.zeros_like(result)
        np.testing.assert_array_equal(array, storage.read_task("w", "array")["x"])

    def test_the_last_value_counts(self, storage: Any) -> None:
        """A saved value replaces the earlier one, whether larger or smaller."""
        for number, size in enumerate([100_000, 10, 300_000, 0]):
            storage.save("w", "node", value_of(number, size))
            assert number == number_of(storage.read_task("w", "node"))

    def test_workflows_have_separate_results(self, storage: Any) -> None:
        """Each workflow has its own results."""
        storage.save("one", "node", 1)
        storage.save("other", "node", 2)
        storage.save("one", "other", 3)
        found = [storage.read_task(*where) for where in (("one", "node"), ("other", "node"))]
        assert [1, 2] == found

    def test_what_is_read_is_the_readers_own(self, storage: Any) -> None:
        """Changes of a saved or read value do not change the stored result."""
        numbers, array = [1], np.zeros(10)
        storage.save("w", "node", {"list": numbers, "array": array})
        numbers.append(2)
        array[:] = 1
        read = storage.read_task("w", "node")
        assert ([1], 0) == (read["list"], read["array"].sum())
        read["list"].append(2)
        assert [1] == storage.read_task("w", "node")["list"]

    def test_missing_result(self, storage: Any) -> None:
        """Reading a result that was never saved is an error that differs from damage."""
        with pytest.raises((LookupError, FileNotFoundError)):
            storage.read_task("w", "node")

    def test_what_cannot_be_stored_changes_nothing(self, storage: Any) -> None:
        """The earlier result stays when a value cannot be saved."""
        storage.save("w", "node", 1)
        with pytest.raises(Exception, match=r"(?i)pickle"):
            storage.save("w", "node", [np.zeros(1_000), threading.Lock()])
        assert 1 == storage.read_task("w", "node")


class ArrayTests(StorageSuite):
    """Large arrays in storages of the library."""

    def test_writing_to_an_array_changes_no_file(self, storage: Any, raw_access: RawAccess) -> None:
        """Writing into an array changes neither the stored result nor arrays of other readers."""
        storage.save("w", "large", value_of(7, 500_000))
        before, other = raw_access.files(), storage.read_task("w", "large")
        mine = storage.read_task("w", "large")
        mine["array"][:] = 8
        assert before == raw_access.files()
        assert 7 == number_of(other)
        assert 7 == number_of(storage.read_task("w", "large"))

    def test_an_array_outlives_its_file(self, make: Make) -> None:
        """A read value is unchanged when the result is replaced or removed."""
        storage = make()
        storage.save("w", "large", value_of(1, 3_000_000))
        first = storage.read_task("w", "large")
        make().save("w", "large", value_of(2, 3_000_000))
        second = storage.read_task("w", "large")
        make().remove_workflow("w")
        assert [1, 2] == [number_of(first), number_of(second)]
        storage.wait_verified()

    def test_always_read_is_an_option(self, make: Make) -> None:
        """always_read may be set at creation or later."""
        assert [False, True] == [make().always_read, make(always_read=True).always_read]

    def test_the_safe_mode_reads_plain_data_and_arrays(self, make: Make) -> None:
        """With `allowed_types`, values of these types are the same as without it."""
        make().save("w", "node", {"values": VALUES, "arrays": ARRAYS})
        expected = make().read_task("w", "node")
        result = make(allowed_types=[Box]).read_task("w", "node")
        assert describe(expected["values"]) == describe(result["values"])
        for name, array in expected["arrays"].items():
            np.testing.assert_array_equal(array, result["arrays"][name], strict=True)
            assert array.flags.writeable == result["arrays"][name].flags.writeable

    def test_the_safe_mode_refuses_other_types(self, make: Make) -> None:
        """A type that is not allowed is named in the error, and not created."""
        make().save("w", "node", [1, Box(2)])
        with pytest.raises(UntrustedResult, match="Box', which is not among the allowed types"):
            make(allowed_types=[]).read_task("w", "node")

    def test_an_array_is_read_elsewhere(self, shared_storage: Any) -> None:
        """Large results are exchanged between processes in both directions."""
        call_in_process(save_value, shared_storage, 3, 500_000)
        assert 3 == number_of(shared_storage.read_task("w", "node"))
        assert 3 == call_in_process(read_number, shared_storage)


def save_value(storage: Any, number: int, size: int = 20_000) -> None:
    """Save a value with a number."""
    storage.save("w", "node", value_of(number, size))


def read_number(storage: Any) -> int:
    """The number of the value that is stored."""
    return number_of(storage.read_task("w", "node"))
