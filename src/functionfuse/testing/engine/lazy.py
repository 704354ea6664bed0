"""Lazy damage tests: damage of a lazy result is detected in the node that uses it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse import workflow
from functionfuse.errors import CorruptResult, DamagedResultWarning
from functionfuse.serializers import FOLDER_PROTOCOL
from functionfuse.serializers.checksummed_files import read_file, write_file
from functionfuse.storage import storage_factory
from functionfuse.testing.engine.properties import numbered
from functionfuse.testing.engine.suite import WORKFLOW, Suite, notes_of

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from functionfuse.backends.base import Workflow
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["LazyDamageTests"]


class Text:
    """A value that is lazy after it was stored."""

    def __init__(self, content: str) -> None:
        self.content = content

    def read(self) -> str:
        """The content."""
        return self.content


class StoredText:
    """A text whose file is read when the content is used."""

    def __init__(self, folder: Any, source: Sequence[str]) -> None:
        self.folder, self.source = folder, source

    def read(self) -> str:
        """Read the file."""
        try:
            return read_file(self.folder, *self.source).decode()
        except CorruptResult as error:
            raise self.folder.corrupt(str(error)) from error


class TextSerializer:
    """Serializer of texts into files."""

    serializer_class = (Text, StoredText)
    name = "TextSerializer"
    lazy = True

    @classmethod
    def pickle(cls, obj: Any, protocols: MutableMapping[str, Any]) -> tuple[str, Any]:
        """Write a file."""
        return cls.name, write_file(protocols[FOLDER_PROTOCOL], "txt", obj.read().encode())

    @classmethod
    def unpickle(cls, pid: Any, protocols: MutableMapping[str, Any]) -> StoredText:
        """A text that reads the file later."""
        return StoredText(protocols[FOLDER_PROTOCOL], pid)

    @classmethod
    def remove(cls, pid: Any, protocols: MutableMapping[str, Any]) -> None:
        """Remove the file."""
        protocols[FOLDER_PROTOCOL].remove(pid[0])


class CodedError(Exception):
    """An exception that loses its attributes when it is pickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return CodedError, (self.code, self.reason)


@workflow
def text(journal: Journal, content: str, *needs: Any) -> Text:
    """Make a text."""
    journal.write(content)
    return Text(content)


@workflow
def handed_on(journal: Journal, value: Any) -> Any:
    """Return a text without reading it."""
    journal.write("handed on")
    return value


@workflow
def length(journal: Journal, *values: Any) -> int:
    """Read texts."""
    journal.write("used")
    return sum(len(value.read()) for value in values)


@workflow
def plus_one(number: int) -> int:
    """Add one."""
    return number + 1


@workflow
def broken() -> None:
    """Raise."""
    message = "broken"
    raise KeyError(message)


@workflow
def default_length(value: Any) -> int:
    """Read a text, and suppress any exception."""
    try:
        return len(value.read())
    except CorruptResult:
        return -1


@workflow
def always_damaged(folder: str, value: Any) -> int:
    """Damage the stored text, then read it."""
    damage(folder, "cells")
    return len(value.read())


@workflow
def length_or_other_error(kind: str, value: Any) -> int:
    """Read a text, and wrap any exception."""
    try:
        return len(value.read())
    except CorruptResult as error:
        if kind == "from":
            message = "wrapped"
            raise ValueError(message) from error
        if kind == "from None":
            message = "wrapped"
            raise ValueError(message) from None
        if kind == "group":
            message = "wrapped"
            raise ExceptionGroup(message, [OSError(), error]) from None
        raise CodedError(7, "wrapped") from error


@workflow
class Reader:
    """Counts before it reads."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.calls = journal, 0
        journal.write("made")

    def count(self) -> int:
        """Count."""
        self.calls += 1
        self.journal.write(f"call {self.calls}")
        return self.calls

    def read(self, value: Any) -> int:
        """Count, and read a text."""
        return self.count() * 100 + len(value.read())


@workflow
class Holder:
    """Holds a text."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def length(self) -> int:
        """Read it."""
        return len(self.value.read())


def mixed(*contents: str) -> str:
    """A short text that depends on all of some others."""
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:8]


@workflow
def mix(*values: Any) -> Text:
    """Read texts, and join them."""
    return Text(mixed(*[value.read() for value in values]))


@workflow
def contents(*values: Any) -> list[str]:
    """Read texts."""
    return [value.read() for value in values]


@workflow
def same(value: Any) -> Any:
    """Return a text without reading it."""
    return value


class PlainCollector:
    """Reads texts, the first one in its method."""

    def __init__(self, first: Any) -> None:
        self.first, self.content = first, "made"

    def add(self, value: Any) -> Text:
        """Add a text to the earlier ones."""
        self.content = mixed(self.content, self.first.read())
        self.content = mixed(self.content, value.read())
        return Text(self.content)


@workflow
class Collector(PlainCollector):
    """The class as a node."""


#: The kind of a node, which of those before it takes, whether it is stored.
Drafts = list[tuple[str, int, int, bool]]


def graph_of(drafts: Drafts, *, plain: bool) -> list[Any]:
    """The nodes of a random graph, or their values."""
    start = Text("start")
    made: list[Any] = [Text(mixed("start")) if plain else mix(start).set_name("start")]
    collectors: list[Any] = []
    for number, (kind, one, two, is_stored) in enumerate(drafts):
        first, second = made[one % len(made)], made[two % len(made)]
        if kind == "collector" or (kind == "add" and not collectors):
            new: Any = PlainCollector if plain else Collector
            collectors.append(new(first))
        if kind in {"add", "collector"}:
            node = collectors[one % len(collectors)].add(second)
        elif kind == "mix":
            node = Text(mixed(first.read(), second.read())) if plain else mix(first, second)
        else:
            node = first if plain else same(first)
        made.append(node if plain else node.set_name(f"{'' if is_stored else 'log '}{number}"))
    return made


def damage(folder: str, name: str) -> None:
    """Change all files that serializers wrote for a result."""
    for path in Path(folder, WORKFLOW, ".objects", name).rglob("*.txt"):
        path.write_bytes(b"damaged")


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
