"""Storage tests: saved, loaded and recomputed results of a run."""

from __future__ import annotations

import pickle
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.errors import DamagedResultWarning, OptionError, StorageError
from functionfuse.storage import storage_factory
from functionfuse.testing.engine.suite import WORKFLOW, Suite, notes_of

if TYPE_CHECKING:
    from functionfuse._graph.nodes import Node
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["StorageTests"]


class MarkingStorage:
    """Storage that marks values on reading, so that loaded ones are recognized."""

    always_read = True

    def __init__(self, path: Path) -> None:
        self.inner = storage_factory({"kind": "file", "options": {"path": str(path)}})

    def save(self, workflow_name: str, task_name: str, obj: Any) -> None:
        """Save as files."""
        self.inner.save(workflow_name, task_name, obj)

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Read a value and mark it."""
        return ("read", self.inner.read_task(workflow_name, task_name))

    def file_exists(self, workflow_name: str, task_name: str) -> bool:
        """Whether a result is stored."""
        return self.inner.file_exists(workflow_name, task_name)


class MinimalStorage:
    """Storage with only the required methods."""

    always_read = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()

    def save(self, workflow_name: str, task_name: str, obj: Any) -> None:
        """Pickle to a file."""
        (self.folder / f"{workflow_name} {task_name}").write_bytes(pickle.dumps(obj))

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Read the file, or raise FileNotFoundError."""
        return pickle.loads((self.folder / f"{workflow_name} {task_name}").read_bytes())


@workflow
def noted(journal: Journal, name: str, *needs: Any) -> str:
    """Write a line and return it."""
    journal.write(name)
    return name


@workflow
def noted_value(journal: Journal, value: Any) -> Any:
    """Write a line and return the argument."""
    journal.write(repr(value))
    return value


@workflow
def fail_unless(path: str, journal: Journal, *needs: Any) -> str:
    """Raise if a file is missing."""
    journal.write("tried")
    if not Path(path).exists():
        message = "not there"
        raise FileNotFoundError(message)
    return "there"


@workflow
def unstorable() -> Any:
    """Return a value that cannot be pickled."""
    return {"lock": threading.Lock()}


@workflow
class Noted:
    """Records its calls; the results differ from call to call."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.words = journal, list[str]()
        self.journal.write("made")

    def step(self, word: str) -> str:
        """Write a word; returns it with a unique value."""
        self.journal.write(word)
        self.words.append(word)
        return f"{' '.join(self.words)} {uuid.uuid4()}"


def chain(journal: Journal) -> list[Node[str]]:
    """A chain of three nodes, a to c."""
    first = noted(journal, "a").set_name("a")
    second = noted(journal, "b", first).set_name("b")
    return [first, second, noted(journal, "c", second).set_name("c")]


def _result_files(folder: Path) -> list[Path]:
    """All files in a folder, except the texts of the code that results were computed with."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".sources"]


class StorageTests(Suite):
    """Runs with a storage."""

    # ---- saving and reading ----

    def test_each_result_is_saved(self, storage: Storage, journal: Journal) -> None:
        """Each result is saved under the names of workflow and node, including intermediate ones."""
        *_, last = chain(journal)

        self.stored(storage, last, workflow_name="first").run()

        assert storage.list_tasks("first") == ["a", "b", "c"]
        assert storage.read_task("first", "b") == "b"

    def test_second_workflow_computes_nothing(self, storage: Storage, journal: Journal) -> None:
        """A new workflow with the same name and equal calls loads instead of computing."""
        self.stored(storage, *chain(journal)).run()

        with journal.added() as lines:
            assert self.stored(storage, *chain(journal)).run() == ["a", "b", "c"]
        assert lines == []

    def test_workflows_do_not_share_results(self, storage: Storage, journal: Journal) -> None:
        """Results of a workflow with another name are not used."""
        self.stored(storage, *chain(journal)).run()

        with journal.added() as lines:
            self.stored(storage, *chain(journal), workflow_name="other").run()
        assert lines == ["a", "b", "c"]

    def test_unnamed_nodes_find_their_results(self, storage: Storage, journal: Journal) -> None:
        """Nodes without explicit names are found again if the calls are repeated."""

        def make() -> Any:
            return noted(journal, "second", noted(journal, "first"))

        self.stored(storage, make()).run()

        with journal.added() as lines:
            assert self.stored(storage, make()).run() == "second"
        assert lines == []
        assert storage.list_tasks(WORKFLOW) == ["noted_0000", "noted_0001"]

    @pytest.mark.parametrize("value", [None, 0, [], {"key": (1, {2})}])
    def test_any_value_is_stored(self, storage: Storage, journal: Journal, value: Any) -> None:
        """Stored results count as stored, also if they are None, false or empty."""
        self.stored(storage, noted_value(journal, value)).run()

        assert self.stored(storage, noted_value(journal, value)).run() == value
        assert journal.lines() == [repr(value)]

    def test_children_get_what_was_read_back(self, tmp_path: Path, journal: Journal) -> None:
        """With always_read, all consumers get the value that is read back instead of the saved one, in each run."""

        def make() -> Any:
            inner = noted_value(journal, 1).set_name("inner")
            return self.stored(MarkingStorage(tmp_path / "marked"), noted_value(journal, [inner]))

        expected = ("read", [("read", 1)])
        assert make().run() == expected
        assert make().run() == expected
        assert journal.lines() == ["1", "[('read', 1)]"]

    def test_any_object_is_a_storage(self, tmp_path: Path, journal: Journal) -> None:
        """An object with only save, read_task and always_read is sufficient to resume."""
        storage = MinimalStorage(tmp_path / "minimal")
        self.stored(storage, *chain(journal)).run()
        (tmp_path / "minimal" / f"{WORKFLOW} b").unlink()

        with journal.added() as lines:
            assert self.stored(storage, *chain(journal)).run() == ["a", "b", "c"]
        assert lines == ["b"]

    def test_foreign_storage_that_fails_to_read(self, tmp_path: Path, journal: Journal) -> None:
        """Any exception of a foreign storage on reading is a warning, and the result is computed."""
        storage = MinimalStorage(tmp_path / "minimal")
        self.stored(storage, *chain(journal)).run()
        (tmp_path / "minimal" / f"{WORKFLOW} c").write_bytes(b"no pickle")

        with journal.added() as lines, pytest.warns(DamagedResultWarning, match="'c'"):
            assert self.stored(storage, chain(journal)[-1]).run() == "c"
        assert lines == ["c"]

    def test_what_is_no_storage_is_refused(self) -> None:
        """An object without save or read_task is refused when it is set."""
        made = self.new_workflow(workflow(int)(1))

        with pytest.raises(OptionError, match="read_task"):
            made.set_storage(object())

    def test_storage_can_be_removed(self, storage: Storage, journal: Journal) -> None:
        """A workflow whose storage is set to None neither reads nor saves."""
        made = self.stored(storage, noted(journal, "x"))
        made.set_storage(None)

        made.run()
        made.run()

        assert journal.lines() == ["x", "x"]
        assert storage.list_tasks(WORKFLOW) == []

    # ---- resuming ----

    def test_only_needed_results_are_read(self, storage: Storage, journal: Journal) -> None:
        """Results without dependents to compute may be deleted: a finished run is resumed from its targets alone."""
        self.stored(storage, chain(journal)[-1]).run()
        storage.remove_task(WORKFLOW, "a")
        storage.remove_task(WORKFLOW, "b")
        made = self.stored(storage, chain(journal)[-1])

        with journal.added() as lines:
            assert made.run() == "c"
        assert lines == []
        assert [record.name for record in made.report or ()] == ["c"]

    def test_missing_result_takes_its_parents_from_storage(
        self, storage: Storage, journal: Journal
    ) -> None:
        """A result that was deleted is computed from its stored parents."""
        self.stored(storage, chain(journal)[-1]).run()
        storage.remove_task(WORKFLOW, pattern="[ac]")

        with journal.added() as lines:
            assert self.stored(storage, chain(journal)[-1]).run() == "c"
        assert lines == ["c"]

    def test_resume_after_failure(self, storage: Storage, journal: Journal, tmp_path: Path) -> None:
        """After a failure, computed results are stored, and the next run computes only the rest."""

        def make() -> Any:
            *_, last = chain(journal)
            tried = fail_unless(str(tmp_path / "file"), journal, last)
            return self.stored(storage, noted(journal, "after", tried))

        with pytest.raises(FileNotFoundError, match="not there"):
            make().run()
        (tmp_path / "file").touch()

        with journal.added() as lines:
            assert make().run() == "after"
        assert lines == ["tried", "after"]

    def test_failures_are_not_stored(
        self, storage: Storage, tmp_path: Path, journal: Journal
    ) -> None:
        """A failed node has no stored result."""
        made = self.stored(storage, fail_unless(str(tmp_path / "file"), journal))

        for _ in range(2):
            with pytest.raises(FileNotFoundError, match="not there"):
                made.run()

        assert storage.list_tasks(WORKFLOW) == []
        assert journal.lines() == ["tried", "tried"]

    # ---- what cannot be stored, and what is not ----

    def test_unstorable_result(self, storage: Storage, tmp_path: Path) -> None:
        """A result that cannot be stored is a StorageError with node and advice; no file stays."""
        node = unstorable().set_name("locked")

        with pytest.raises(StorageError, match=r"'locked'.*always_run\('locked'\)") as caught:
            self.stored(storage, node).run()

        assert any("in node 'locked'" in note for note in notes_of(caught.value))
        assert _result_files(tmp_path / "storage") == []

    def test_nodes_that_always_run(self, storage: Storage, journal: Journal) -> None:
        """Nodes of always_run run in each run, after their dependencies, and are never stored."""

        def make() -> Any:
            first = noted_value(journal, "first").set_name("first")
            shown = noted_value(journal, [first]).set_name("print_first")
            made = self.stored(storage, noted(journal, "last", shown).set_name("last"))
            made.always_run("^print_.*$")
            return made

        assert make().run() == "last"
        with journal.added() as lines:
            assert make().run() == "last"
        assert lines == ["['first']"]
        assert storage.list_tasks(WORKFLOW) == ["first", "last"]

        storage.remove_task(WORKFLOW, "first")
        with journal.added() as lines:
            assert make().run() == "last"
        assert lines == ["'first'", "['first']"]

    # ---- objects ----

    def test_results_of_methods_are_stored(self, storage: Storage, journal: Journal) -> None:
        """Results of methods are loaded like others, without creating the instance."""

        def make() -> Any:
            instance: Any = Noted(journal)
            instance.step("one").set_name("first")
            return self.stored(storage, instance.step("two").set_name("second"))

        value = make().run()
        with journal.added() as lines:
            assert make().run() == value
        assert lines == []
        assert storage.list_tasks(WORKFLOW) == ["first", "second"]

    def test_instances_are_created_again(self, storage: Storage, journal: Journal) -> None:
        """If a later method must run, the constructor and earlier methods run again; stored results are kept."""
        instance: Any = Noted(journal)
        first = instance.step("one").set_name("first")
        value = self.stored(storage, first).run()
        second = instance.step("two").set_name("second")

        with journal.added() as lines:
            again, later = self.stored(storage, first, second).run()
        assert lines == ["made", "one", "two"]
        assert value == again
        assert later.startswith("one two ")
        assert storage.read_task(WORKFLOW, "first") == value

    # ---- names ----

    def test_any_name(self, storage: Storage, journal: Journal, tmp_path: Path) -> None:
        """Any name can be stored, found and listed, and none leaves the workflow's folder."""
        names = [
            "a/b", "..", "../up", ".hidden", "\\", "per%cent", "x" * 300, "x" * 300 + "y", "🐝 βeta",
            "new\nline", "case", "CASE", "*", "[ab]", "con", " ", "trailing ",
        ]  # fmt: skip

        def make() -> Any:
            nodes = [noted(journal, repr(name)[:20]).set_name(name) for name in names]
            return self.stored(storage, *nodes, workflow_name="../other/flow")

        values = make().run()
        with journal.added() as lines:
            assert make().run() == values
        assert lines == []
        assert storage.list_tasks("../other/flow") == sorted(names)
        (folder,) = {path.parent for path in _result_files(tmp_path) if path.name != "journal"}
        assert folder.parent == tmp_path / "storage"
