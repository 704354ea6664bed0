"""Lazy damage tests: damage of a lazy result is detected in the node that uses it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse.errors import CorruptResult, DamagedResultWarning
from functionfuse.storage import storage_factory
from functionfuse.testing.engine.lazy_nodes import (
    Drafts,
    Holder,
    Reader,
    TextSerializer,
    always_damaged,
    broken,
    contents,
    damage,
    default_length,
    graph_of,
    handed_on,
    length,
    length_or_other_error,
    plus_one,
    text,
)
from functionfuse.testing.engine.properties import numbered
from functionfuse.testing.engine.suite import WORKFLOW, Suite, notes_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functionfuse.backends.base import Workflow
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["LazyDamageTests"]


class LazyDamageTests(Suite):
    """Damaged lazy results."""

    @pytest.fixture
    def lazy(self, tmp_path: Path) -> Storage:
        """An empty storage for texts."""
        return self.new_storage(tmp_path)

    @staticmethod
    def new_storage(tmp_path: Path, **options: Any) -> Storage:
        """A storage for texts."""
        made = storage_factory(
            {"kind": "file", "options": {"path": str(tmp_path / "storage"), "grace": 0, **options}}
        )
        made.register_persistent_serializers(TextSerializer)
        return made

    @pytest.fixture
    def cells(self, lazy: Storage, journal: Journal, tmp_path: Path) -> Callable[[], Any]:
        """Creates the node `cells`, whose stored result is damaged."""

        def make() -> Any:
            return text(journal, "cells").set_name("cells")

        self.stored(lazy, make()).run()
        damage(str(tmp_path / "storage"), "cells")
        return make

    def recovered(self, made: Workflow[Any], *names: str) -> Any:
        """Run a workflow that warns once of each damaged result."""
        with pytest.warns(DamagedResultWarning) as caught:
            value = made.run()
        warned = [str(each.message) for each in caught if each.category is DamagedResultWarning]
        assert len(warned) == len(names)
        assert all(any(f"node {name!r}" in message for message in warned) for name in names)
        return value

    def test_damaged_lazy_result(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal, tmp_path: Path
    ) -> None:
        """Damage that is detected in a consuming node: both nodes are computed again, and the next run is clean."""
        with journal.added() as lines:
            made = self.stored(lazy, length(journal, cells()).set_name("first"))
            assert self.recovered(made, "cells") == 5
        assert lines == ["used", "cells", "used"]
        assert made.report is not None
        assert made.report.names("computed") == ["cells", "first"]

        with journal.added() as lines:
            assert self.stored(lazy, length(journal, cells()).set_name("second")).run() == 5
        assert lines == ["used"]
        files = [*(tmp_path / "storage" / WORKFLOW).rglob("*.txt")]
        assert [path.read_text() for path in files] == ["cells"]

    @pytest.mark.parametrize("kind", ["from", "from None", "group", "coded"])
    def test_damage_in_another_error(
        self, lazy: Storage, cells: Callable[[], Any], kind: str
    ) -> None:
        """Recovery also works if the node wraps the error in an exception of any class."""
        made = self.stored(lazy, length_or_other_error(kind, cells()).set_name("user"))
        assert self.recovered(made, "cells") == 5

    def test_damage_in_a_chain(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """Results that were computed from the damaged value and are not stored are computed again too."""
        value = handed_on(journal, cells()).set_name("log_handed")
        made = self.stored(lazy, plus_one(length(journal, value)).set_name("last"), value)
        made.always_run("log_.*")
        with journal.added() as lines:
            number, again = self.recovered(made, "cells")
        assert (number, again.read()) == (6, "cells")
        assert lines == ["handed on", "used", "cells", "handed on", "used"]

    def test_several_users_of_a_damaged_value(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """Nodes that use the damaged value concurrently, and their dependents, have correct results."""
        value = cells()
        users = [length(journal, value).set_name(f"user {n}") for n in range(6)]
        made = self.stored(lazy, *users, *[plus_one(plus_one(user)) for user in users])
        assert self.recovered(made, "cells") == [5] * 6 + [7] * 6
        assert journal.lines().count("cells") == 2

    def test_several_damaged_values(self, lazy: Storage, journal: Journal, tmp_path: Path) -> None:
        """A node that uses several damaged results runs until all of them were computed again."""

        def make() -> list[Any]:
            first = text(journal, "one").set_name("one")
            return [first, text(journal, "three", first).set_name("three")]

        self.stored(lazy, *make()).run()
        damage(str(tmp_path / "storage"), "one")
        damage(str(tmp_path / "storage"), "three")

        made = self.stored(lazy, length(journal, *make()).set_name("user"))
        assert self.recovered(made, "one", "three") == 8

    def test_damage_with_missing_ancestors(
        self, lazy: Storage, journal: Journal, tmp_path: Path
    ) -> None:
        """Dependencies of the damaged lazy result that are not stored are computed too."""

        def make() -> Any:
            return text(journal, "b", text(journal, "a").set_name("a")).set_name("b")

        self.stored(lazy, make()).run()
        lazy.remove_task(WORKFLOW, "a")
        damage(str(tmp_path / "storage"), "b")
        with journal.added() as lines:
            made = self.stored(lazy, length(journal, make()).set_name("user"))
            assert self.recovered(made, "b") == 1
        assert lines == ["used", "a", "b", "used"]

    def test_damage_in_a_group(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """Recovery also works in a task group: stored results of its other nodes are kept."""
        value = cells()
        first = text(journal, "first").set_name("in_first")
        second = length(journal, value, first).set_name("in_second")
        third = plus_one(second).set_name("in_third")
        made = self.stored(lazy, third, plus_one(third).set_name("after"))
        made.query("in_.*").fuse()
        with journal.added() as lines:
            assert self.recovered(made, "cells") == [11, 12]
        assert lines == ["first", "used", "cells", "used"]

    def test_damage_in_a_method(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """An instance whose method detected damage is created again, with the earlier calls."""
        reader: Any = Reader(journal)
        first = reader.count().set_name("first")
        second = reader.read(cells()).set_name("second")
        third = reader.count().set_name("third")
        with journal.added() as lines:
            made = self.stored(lazy, first, second, third)
            assert self.recovered(made, "cells") == [1, 205, 3]
        calls = [line for line in lines if line != "cells"]  # at the same time
        assert calls == ["made", "call 1", "call 2", "made", "call 1", "call 2", "call 3"]

    def test_damage_in_an_object(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """An instance that holds a damaged value is created again with the new value."""
        holder: Any = Holder(cells())
        made = self.stored(lazy, holder.length().set_name("user"))
        assert self.recovered(made, "cells") == 5

    def test_damage_and_failure(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """With on_error="continue" a run recovers from damage also when another node fails."""
        value = cells()
        made = self.stored(
            lazy, broken().set_name("broken"), length(journal, value).set_name("user")
        )
        with pytest.warns(DamagedResultWarning), pytest.raises(KeyError, match="broken"):
            made.run(on_error="continue")
        assert lazy.read_task(WORKFLOW, "user") == 5
        assert made.report is not None
        assert made.report.names("failed") == ["broken"]

    def test_damaged_again(self, tmp_path: Path, journal: Journal) -> None:
        """A result that is damaged again is not computed a third time: the error reports it, and the next run continues."""
        storage = self.new_storage(tmp_path, always_read=True)
        value = text(journal, "cells").set_name("cells")
        made = self.stored(storage, always_damaged(str(tmp_path / "storage"), value))
        with pytest.warns(DamagedResultWarning), pytest.raises(CorruptResult) as caught:
            made.run()
        assert any("'cells'" in note and "damaged again" in note for note in notes_of(caught.value))
        assert journal.lines() == ["cells", "cells"]

        made = self.stored(storage, length(journal, value).set_name("user"))
        assert self.recovered(made, "cells") == 5
        assert journal.lines() == ["cells", "cells", "cells", "used"]

    # each damaged result that is read is a warning, which other tests check
    @pytest.mark.filterwarnings("ignore::functionfuse.errors.DamagedResultWarning")
    def test_any_lazy_part_may_be_damaged(self, tmp_path: Path) -> None:
        """Whatever lazy results are missing or damaged, and whatever nodes are fused: the results are the same."""
        folders = numbered(tmp_path)
        kinds = st.sampled_from(["mix", "same", "add", "collector"])
        picks = st.integers(0, 9)
        drafts = st.lists(st.tuples(kinds, picks, picks, st.booleans()), min_size=1, max_size=8)

        @settings(max_examples=self.max_examples, deadline=None)
        @given(drafts, st.booleans(), st.data())
        def check(drafts: Drafts, always_read: bool, data: st.DataObject) -> None:  # noqa: FBT001
            folder = next(folders)
            storage = self.new_storage(folder, always_read=always_read)

            def make(end: str) -> Workflow[Any]:
                made = self.stored(storage, contents(*graph_of(drafts, plain=False)).set_name(end))
                made.always_run("log .*|end.*")
                return made

            expected = [value.read() for value in graph_of(drafts, plain=True)]
            assert make("end 1").run() == expected
            fates = st.sampled_from(["stored", "missing", "damaged", "damaged"])
            for name in storage.list_tasks(WORKFLOW):
                fate = data.draw(fates, f"fate of {name!r}")
                if fate == "missing":
                    storage.remove_task(WORKFLOW, name)
                elif fate == "damaged":
                    damage(str(folder / "storage"), name)
            made = make("end 2")
            for name in made.find_nodes():
                if data.draw(st.booleans(), f"fuse {name!r}"):
                    made.query(re.escape(name)).fuse()
            assert made.run() == expected
            assert make("end 3").run() == expected

        check()

    def test_damage_in_the_users_hands(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """A damaged target names its result when it is read, and the next run computes it again."""
        target = self.stored(lazy, cells()).run()
        with pytest.raises(CorruptResult, match=r"node 'cells'.*run the workflow again") as caught:
            target.read()
        assert (caught.value.workflow, caught.value.node) == (WORKFLOW, "cells")

        with journal.added() as lines:
            assert self.recovered(self.stored(lazy, cells()), "cells").read() == "cells"
        assert lines == ["cells"]

    def test_swallowed_damage(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """Damage that a node suppresses is not detected in its run; the next run computes the result again."""
        assert self.stored(lazy, default_length(cells()).set_name("default")).run() == -1
        with journal.added() as lines:
            made = self.stored(lazy, length(journal, cells()).set_name("user"))
            assert self.recovered(made, "cells") == 5
        assert lines == ["cells", "used"]

    def test_damage_of_another_workflow(
        self, lazy: Storage, cells: Callable[[], Any], journal: Journal
    ) -> None:
        """A damaged value of another workflow fails the run, which cannot compute it again."""
        value = self.stored(lazy, cells()).run()
        made = self.stored(lazy, length(journal, value), workflow_name="other")
        with pytest.raises(CorruptResult, match="workflow 'suite'"):
            made.run()
