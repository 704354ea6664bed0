"""Damage tests: damaged results that are needed are computed again, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.errors import CorruptResult, DamagedResultWarning
from functionfuse.events import Event, NodeFinished, RunStarted
from functionfuse.testing.engine.storage import Noted, chain, fail_unless, noted, noted_value
from functionfuse.testing.engine.suite import WORKFLOW, Latch, Suite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["DamageTests", "Damaged"]


@dataclass
class Damaged:
    """A storage in which one result is damaged, after a callback."""

    storage: Storage
    name: str
    before: Callable[[], object]
    always_read: bool = False

    def save(self, workflow_name: str, task_name: str, obj: Any) -> None:
        """Store a result."""
        self.storage.save(workflow_name, task_name, obj)

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Return a result, except the damaged one."""
        if task_name == self.name:
            self.before()
            message = "damaged"
            raise CorruptResult(message)
        return self.storage.read_task(workflow_name, task_name)

    def file_exists(self, workflow_name: str, task_name: str) -> bool:
        """Whether a result is stored."""
        return task_name == self.name or self.storage.file_exists(workflow_name, task_name)


@workflow
class Filled:
    """A class with methods that return arrays."""

    def __init__(self) -> None:
        """Begin."""
        self.count = 0

    def more(self) -> np.ndarray:
        """An array with the number of calls."""
        self.count += 1
        return np.full(2, self.count)


def damage(tmp_path: Path, name: str) -> None:
    """Change the last byte of a stored result, which unpickling alone would not notice."""
    path = tmp_path / "storage" / WORKFLOW / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)


class DamageTests(Suite):
    """Damaged results."""

    def test_damaged_result(self, storage: Storage, journal: Journal, tmp_path: Path) -> None:
        """A damaged result that is needed is computed again, with a warning, and stored."""
        self.stored(storage, chain(journal)[-1]).run()
        damage(tmp_path, "c")

        with journal.added() as lines, pytest.warns(DamagedResultWarning, match="'c'"):
            assert self.stored(storage, chain(journal)[-1]).run() == "c"
        assert lines == ["c"]
        assert storage.read_task(WORKFLOW, "c") == "c"

    def test_damaged_result_that_nobody_needs(
        self, storage: Storage, journal: Journal, tmp_path: Path
    ) -> None:
        """A damaged result that is not needed is not read."""
        self.stored(storage, chain(journal)[-1]).run()
        damage(tmp_path, "b")

        with journal.added() as lines:
            assert self.stored(storage, chain(journal)[-1]).run() == "c"
        assert lines == []

    def test_damaged_result_with_missing_ancestors(
        self, storage: Storage, journal: Journal, tmp_path: Path
    ) -> None:
        """Dependencies of a damaged result that are not stored are computed too."""
        self.stored(storage, chain(journal)[-1]).run()
        storage.remove_task(WORKFLOW, pattern="[ac]")
        damage(tmp_path, "b")

        with journal.added() as lines, pytest.warns(DamagedResultWarning, match="'b'"):
            assert self.stored(storage, chain(journal)[-1]).run() == "c"
        assert lines == ["a", "b", "c"]

    def test_several_damaged_results(
        self, storage: Storage, journal: Journal, tmp_path: Path
    ) -> None:
        """Damaged results that depend on each other are each computed once, in order."""
        self.stored(storage, *chain(journal)).run()
        for name in "abc":
            damage(tmp_path, name)

        with journal.added() as lines, pytest.warns(DamagedResultWarning) as caught:
            assert self.stored(storage, *chain(journal)).run() == ["a", "b", "c"]
        assert lines == ["a", "b", "c"]
        assert len([each for each in caught if each.category is DamagedResultWarning]) == 3

    def test_damaged_result_of_a_method(
        self, storage: Storage, journal: Journal, tmp_path: Path
    ) -> None:
        """For a damaged result of a method the instance is created again, while other stored results are kept."""

        def make() -> Any:
            instance: Any = Noted(journal)
            first = instance.step("one").set_name("first")
            return self.stored(storage, first, instance.step("two").set_name("second"))

        first, _ = make().run()
        damage(tmp_path, "second")

        with journal.added() as lines, pytest.warns(DamagedResultWarning, match="'second'"):
            again, second = make().run()
        assert lines == ["made", "one", "two"]
        assert first == again
        assert second.startswith("one two ")

    def test_damaged_result_of_a_method_with_arrays(self, storage: Storage, tmp_path: Path) -> None:
        """Stored results of methods are kept also if they cannot be compared with `==`."""

        def make() -> Any:
            instance: Any = Filled()
            first = instance.more().set_name("first")
            return self.stored(storage, first, instance.more().set_name("second"))

        make().run()
        damage(tmp_path, "second")

        with pytest.warns(DamagedResultWarning, match="'second'"):
            first, second = make().run()
        assert [first.tolist(), second.tolist()] == [[1, 1], [2, 2]]

    def test_damage_after_the_calls_before(
        self, storage: Storage, journal: Journal, tmp_path: Path
    ) -> None:
        """An instance has the state after earlier calls, also if damage is detected after these were released."""
        latch = Latch(str(tmp_path / "gate"))
        instance: Any = Noted(journal)
        first = instance.step("one").set_name("first")
        user = noted_value(journal, instance.step("two")).set_name("user")
        third = instance.step("three").set_name("third")
        made = self.stored(Damaged(storage, "third", latch.wait), first, user, third)
        with latch.closed() as open_gate:

            def open_when_used(event: Event) -> None:
                if isinstance(event, NodeFinished) and event.record.name == "user":
                    open_gate()

            made.add_observer(open_when_used)
            with pytest.warns(DamagedResultWarning, match="'third'"):
                values = made.run()

        assert [value.rpartition(" ")[0] for value in values] == ["one", "one two", "one two three"]

    def test_damaged_result_of_a_failure(
        self, storage: Storage, journal: Journal, tmp_path: Path
    ) -> None:
        """A failed node is not run again for a damaged result that depends on it."""
        tried = fail_unless(str(tmp_path / "file"), journal).set_name("tried")
        made = self.stored(storage, tried, noted(journal, "after", tried).set_name("after"))
        (tmp_path / "file").touch()
        made.run()
        (tmp_path / "file").unlink()
        storage.remove_task(WORKFLOW, "tried")
        damage(tmp_path, "after")

        with (
            journal.added() as lines,
            pytest.warns(DamagedResultWarning, match="'after'"),
            pytest.raises(FileNotFoundError, match="not there"),
        ):
            made.run(on_error="continue")
        assert lines == ["tried"]

    def test_truncated_result(self, storage: Storage, journal: Journal, tmp_path: Path) -> None:
        """An empty file is a damaged result."""
        self.stored(storage, noted(journal, "x").set_name("x")).run()
        (tmp_path / "storage" / WORKFLOW / "x").write_bytes(b"")

        with pytest.warns(DamagedResultWarning, match="'x'"):
            assert self.stored(storage, noted(journal, "x").set_name("x")).run() == "x"
        assert journal.lines() == ["x", "x"]

    def test_result_deleted_after_the_plan(self, storage: Storage, journal: Journal) -> None:
        """A result that is deleted between planning and reading is computed, with its dependencies."""
        self.stored(storage, chain(journal)[-1]).run()
        storage.remove_task(WORKFLOW, "b")
        made = self.stored(storage, chain(journal)[-1])

        def delete(event: Event) -> None:
            if isinstance(event, RunStarted):
                storage.remove_task(WORKFLOW, "c")

        made.add_observer(delete)
        with journal.added() as lines, pytest.warns(DamagedResultWarning, match="'c'"):
            assert made.run() == "c"
        assert lines == ["b", "c"]

    def test_result_stored_after_the_plan(self, storage: Storage, journal: Journal) -> None:
        """A result that another run stores after planning is loaded instead of computed."""
        made = self.stored(storage, noted(journal, "x").set_name("x"))

        def save(event: Event) -> None:
            if isinstance(event, RunStarted):
                storage.save(WORKFLOW, "x", "from elsewhere")

        made.add_observer(save)

        assert made.run() == "from elsewhere"
        assert journal.lines() == []
