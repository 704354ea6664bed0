"""Damage tests of storages: damaged files are detected, and never used to compute results."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import CorruptResult, DamagedResultWarning, ResultNotFound, StorageError
from functionfuse.storage.kinds import FileStorage
from functionfuse.testing.storage.suite import StorageSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import Make, RawAccess

__all__ = ["DamageTests"]

SMALL: Final = {"rows": [1, "two", None], "array": np.arange(3)}
LARGE: Final = (
    3_000_000  # numbers of 8 bytes: more than the 16 MiB that are verified in the background
)
VERIFY: Final = ["lazy", "always", "never"]


def flipped(data: bytes, position: int, bits: int = 0xFF) -> bytes:
    """Change one byte of the data."""
    changed = bytearray(data)
    changed[position] ^= bits
    return bytes(changed)


DAMAGE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "nothing left": lambda _: b"",
    "cut": lambda data: data[:-1],
    "cut in the header": lambda data: data[:60],
    "longer": lambda data: data + b"\0",
    "changed": lambda data: flipped(data, -1),
    "changed header": lambda data: flipped(data, 100),
    "something else": lambda _: b"no result at all, but a text that is not short either" * 10,
    "zeros": lambda data: bytes(len(data)),
}


@workflow
def first() -> str:
    """The first of two nodes."""
    return "first"


@workflow
def second(before: str) -> str:
    """The second of two nodes."""
    return f"{before} second"


@workflow
def large() -> Any:
    """Ones."""
    return np.ones(LARGE)


@workflow
def total(array: Any) -> float:
    """A small number computed from a large array."""
    return float(array.sum())


def targets() -> tuple[Any, Any]:
    """Two nodes, the second of which depends on the first."""
    one = first().set_name("first")
    return one, second(one).set_name("second")


def run(storage: Any, *nodes: Any) -> Any:
    """Run a new workflow called `w`."""
    made = LocalWorkflow(*nodes, workflow_name="w")
    made.set_storage(storage)
    return made.run()


class DamageTests(StorageSuite):
    """Damage to files of a storage."""

    def test_every_changed_byte_is_found(self, storage: Storage, raw_access: RawAccess) -> None:
        """A change of any byte of a small result is detected, also in padding."""
        storage.save("w", "node", SMALL)
        whole = raw_access.read("w", "node")
        ways = [(position, bits) for position in range(len(whole)) for bits in (0x01, 0x80, 0xFF)]
        for position, bits in self.chosen(ways):
            raw_access.write("w", "node", flipped(whole, position, bits))
            with pytest.raises(CorruptResult, match="w/node"):
                storage.read_task("w", "node")

    def test_every_cut_is_found(self, storage: Storage, raw_access: RawAccess) -> None:
        """A truncated or extended file is never read as a result."""
        storage.save("w", "node", SMALL)
        whole = raw_access.read("w", "node")
        for length in self.chosen(range(len(whole))):
            raw_access.write("w", "node", whole[:length])
            with pytest.raises(CorruptResult, match="cannot read w/node"):
                storage.read_task("w", "node")
        raw_access.write("w", "node", whole + b"\0")
        with pytest.raises(CorruptResult, match="w/node"):
            storage.read_task("w", "node")

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_damage_of_a_mapped_result(
        self, storage: Storage, raw_access: RawAccess, damage: Callable[[bytes], bytes]
    ) -> None:
        """A result that is large enough to be mapped is verified too."""
        storage.save("w", "node", np.arange(200_000))
        raw_access.write("w", "node", damage(raw_access.read("w", "node")))
        with pytest.raises(CorruptResult, match="w/node"):
            storage.read_task("w", "node")

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_a_workflow_computes_damaged_results_again(
        self, storage: Storage, raw_access: RawAccess, damage: Callable[[bytes], bytes]
    ) -> None:
        """A run warns of a damaged result that it needs, and replaces it."""
        run(storage, *targets())
        for name in ("first", "second"):
            raw_access.write("w", name, damage(raw_access.read("w", name)))
        with pytest.warns(DamagedResultWarning) as caught:
            assert ["first", "first second"] == run(storage, *targets())
        assert 2 == len([each for each in caught if each.category is DamagedResultWarning])
        assert "first" == storage.read_task("w", "first")
        assert ["first", "first second"] == run(storage, *targets())

    def test_damage_is_in_the_way_of_nothing(self, storage: Storage, raw_access: RawAccess) -> None:
        """A damaged result is listed, replaced and removed like others."""
        for name in ("replaced", "removed"):
            storage.save("w", name, SMALL)
            raw_access.write("w", name, b"")
        assert ["removed", "replaced"] == storage.list_tasks("w")
        storage.save("w", "replaced", 2)
        storage.remove_task("w", "removed")
        assert ["replaced"] == storage.list_tasks("w")
        assert 2 == storage.read_task("w", "replaced")

    def test_a_result_whose_file_is_removed(self, storage: Storage, raw_access: RawAccess) -> None:
        """A result whose file was removed is missing in every method."""
        run(storage, *targets())
        assert storage.file_exists("w", "second")
        raw_access.remove("w", "second")
        assert not storage.file_exists("w", "second")
        assert ["first"] == storage.list_tasks("w")
        for method in (storage.read_task, storage.info):
            with pytest.raises(ResultNotFound):
                method("w", "second")
        assert "first second" == run(storage, targets()[1])

    def test_a_result_that_is_put_back(self, storage: Storage, raw_access: RawAccess) -> None:
        """A result file that was copied and restored is the earlier result."""
        storage.save("w", "node", "earlier")
        earlier = raw_access.read("w", "node")
        storage.save("w", "node", "later")
        assert "later" == storage.read_task("w", "node")
        raw_access.write("w", "node", earlier)
        assert "earlier" == storage.read_task("w", "node")

    # ---- large results, which are verified in the background ----

    def spoil(self, storage: Storage, raw_access: RawAccess) -> bytes:
        """Store a large result and change its last number; returns the original value."""
        storage.save("w", "large", np.ones(LARGE))
        whole = raw_access.read("w", "large")
        raw_access.write("w", "large", flipped(whole, -1))
        return whole

    @pytest.mark.parametrize("verify", VERIFY)
    def test_an_intact_large_result(self, make: Make, verify: str) -> None:
        """An intact result is returned without an error for every value of `verify`."""
        storage: Storage = make(verify=verify)
        storage.save("w", "large", np.ones(LARGE))
        assert LARGE == storage.read_task("w", "large").sum()
        storage.wait_verified()
        storage.save("w", "after", 1)
        assert ["after", "large"] == storage.list_tasks("w")

    @pytest.mark.parametrize("verify", ["lazy", "always"])
    def test_wait_verified_finds_damage(
        self, make: Make, raw_access: RawAccess, verify: str
    ) -> None:
        """wait_verified() names a damaged result that was read; then it counts as not stored."""
        storage = make(verify=verify)
        self.spoil(storage, raw_access)
        with pytest.raises(CorruptResult, match="w/large"):
            _read_and_wait(storage)
        with pytest.raises((CorruptResult, ResultNotFound)):
            storage.read_task("w", "large")
        storage.wait_verified()  # reported already

    def test_changed_bytes_of_a_large_result_are_found(
        self, make: Make, raw_access: RawAccess, storage: Storage
    ) -> None:
        """Damage at any position is detected before results computed from it are stored."""
        storage.save(
            "w", "large", {"one": np.ones(LARGE), "odd": np.ones(LARGE + 1, dtype=np.int8)}
        )
        whole = raw_access.read("w", "large")
        half = len(whole) // 2
        for position in self.chosen(
            [0, 10, 20, 60, 100, 400, 700, half, half + 64, -4_000_000, -1]
        ):
            raw_access.write("w", "large", flipped(whole, position))
            with pytest.raises(CorruptResult, match="w/large"):
                _read_and_wait(make())

    def test_always_finds_damage_on_reading(self, make: Make, raw_access: RawAccess) -> None:
        """With verify="always" a damaged value is not returned."""
        storage = make(verify="always")
        self.spoil(storage, raw_access)
        with pytest.raises(CorruptResult, match="w/large"):
            storage.read_task("w", "large")

    def test_never_checks_no_arrays(self, make: Make, raw_access: RawAccess) -> None:
        """With verify="never" arrays are not verified, but pickle stream and header are."""
        storage = make(verify="never")
        whole = self.spoil(storage, raw_access)
        assert LARGE == len(storage.read_task("w", "large"))
        storage.wait_verified()
        for damage in ("nothing left", "cut", "cut in the header", "changed header", "zeros"):
            raw_access.write("w", "large", DAMAGE[damage](whole))
            with pytest.raises(CorruptResult, match="w/large"):
                storage.read_task("w", "large")
        stream = whole.index(b"numpy") - 20
        for position in self.chosen(range(stream, stream + 100)):
            raw_access.write("w", "large", flipped(whole, position))
            with pytest.raises(CorruptResult, match="w/large"):
                storage.read_task("w", "large")

    def test_nothing_is_stored_from_damaged_data_of_another_storage(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        """A value from a damaged file is not saved, in any storage and by any save."""
        other = FileStorage(tmp_path / "other")
        other.save("w", "large", np.ones(LARGE))
        with (tmp_path / "other" / "w" / "large").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\0")
        value = other.read_task("w", "large")
        with pytest.raises(CorruptResult, match="other/w/large"):
            storage.save("w", "sum", value.sum())
        assert [] == storage.list_tasks("w")
        assert LARGE == run(storage, total(np.ones(LARGE)).set_name("total"))  # reported already

    def test_nothing_is_stored_from_damaged_data(
        self, storage: Storage, raw_access: RawAccess
    ) -> None:
        """A save after the read of a damaged result stores nothing and names the cause."""
        storage.save("w", "sum", "earlier")
        self.spoil(storage, raw_access)
        # a storage that verifies on reading has raised already
        with pytest.raises(CorruptResult, match="w/large"):
            storage.save("w", "sum", storage.read_task("w", "large").sum())
        assert "earlier" == storage.read_task("w", "sum")
        with contextlib.suppress(CorruptResult):
            storage.wait_verified()

    def test_a_workflow_never_gives_what_was_made_of_damaged_data(
        self, storage: Storage, raw_access: RawAccess
    ) -> None:
        """The first run fails, or computes the result again; the next one is correct in any case."""
        node = large().set_name("large")
        self.spoil(storage, raw_access)
        with contextlib.suppress(CorruptResult), _warnings_of_damage():
            assert LARGE == run(storage, total(node).set_name("total"))
        with _warnings_of_damage():
            assert LARGE == run(storage, total(node).set_name("total"))
        assert LARGE == storage.read_task("w", "total")
        assert LARGE == storage.read_task("w", "large").sum()
        storage.wait_verified()

    def test_a_damaged_target_is_never_given(self, storage: Storage, raw_access: RawAccess) -> None:
        """A run that only loads a damaged result fails, or computes it again."""
        self.spoil(storage, raw_access)
        for _ in range(2):
            with contextlib.suppress(CorruptResult), _warnings_of_damage():
                assert LARGE == run(storage, large().set_name("large")).sum()
        assert LARGE == run(storage, large().set_name("large")).sum()

    def test_unknown_way_to_verify(self, make: Make) -> None:
        """The error names the valid values."""
        with pytest.raises((ValueError, StorageError), match="lazy"):
            make(verify="sometimes")


def _read_and_wait(storage: Storage) -> None:
    storage.read_task("w", "large")
    storage.wait_verified()


def _warnings_of_damage() -> contextlib.AbstractContextManager[object]:
    """Allow warnings, which depend on when damage is detected."""
    import warnings

    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore", DamagedResultWarning)
    return stack
