"""Failure tests: exceptions of nodes, the nodes that still run, and the exception that the caller gets."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.errors import OptionError
from functionfuse.events import Event, NodeFailed
from functionfuse.testing.engine.suite import WORKFLOW, Latch, Suite, here, notes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functionfuse.backends.base import Workflow
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["ErrorTests"]


class Refused(Exception):
    """Takes two arguments and passes one to its base class, so that default pickling fails."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


@workflow
def fail(message: str, *needs: Any) -> int:
    """Raise."""
    raise ValueError(message)


@workflow
def raise_this(kind: type[Exception], *args: Any) -> None:
    """Raise an exception of the given type."""
    raise kind(*args)


@workflow
async def fail_later() -> None:
    """Raise in a coroutine."""
    message = "in a coroutine"
    raise ValueError(message)


@workflow
def yield_and_fail() -> Iterator[int]:
    """Raise in a generator."""
    yield 1
    message = "in a generator"
    raise ValueError(message)


@workflow
def fail_unless(path: str, journal: Journal, *needs: Any) -> str:
    """Raise if a file is missing."""
    journal.write("tried")
    if not Path(path).exists():
        message = "not there"
        raise FileNotFoundError(message)
    return "there"


@workflow
def run_within(message: str) -> None:
    """Run another workflow, whose second node fails."""
    from functionfuse.backends.builtin.localback import LocalWorkflow

    LocalWorkflow(fail(message, same(1)), workflow_name="within").run()


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def noted(journal: Journal, name: str, *needs: Any) -> str:
    """Write a line and return it."""
    journal.write(name)
    return name


@workflow
def hold(latch: Latch, journal: Journal) -> str:
    """Wait at a latch."""
    journal.write("held")
    latch.wait()
    return "held"


@workflow
def hold_and_fail(latch: Latch, journal: Journal) -> None:
    """Wait at a latch, and raise."""
    journal.write("held")
    latch.wait()
    message = "late"
    raise ValueError(message)


@contextmanager
def open_on_failure(latch: Latch, made: Workflow[Any]) -> Iterator[None]:
    """Keep a latch closed until a node of a workflow has failed."""
    with latch.closed() as open_gate:

        def see(event: Event) -> None:
            if isinstance(event, NodeFailed):
                open_gate()

        made.add_observer(see)
        yield


@workflow
class Fragile:
    """A class whose constructor and method may raise."""

    def __init__(self, journal: Journal, *, whole: bool = True) -> None:
        self.journal = journal
        if not whole:
            message = "not made"
            raise ValueError(message)

    def touch(self, word: str, *, gently: bool = True) -> str:
        """Write a word, or raise."""
        if not gently:
            message = "broken"
            raise ValueError(message)
        self.journal.write(word)
        return word


class ErrorTests(Suite):
    """Failures."""

    # ---- exceptions that reach the caller ----

    def test_type_and_message(self) -> None:
        """An exception of a function reaches the caller of run() with its own type and message."""
        with pytest.raises(ValueError, match="bad input") as caught:
            self.compute(same(fail("bad input")))

        assert (type(caught.value), caught.value.args) == (ValueError, ("bad input",))

    def test_note_names_the_node(self) -> None:
        """One note on the exception names the failed node, its location and the workflow."""
        node, line = fail("bad").set_name("the node"), here()

        with pytest.raises(ValueError, match="bad") as caught:
            self.new_workflow(same(node), workflow_name="flow").run()

        note = f"in node 'the node' (fail at errors.py:{line}) of workflow 'flow'"
        assert [each for each in notes_of(caught.value) if "in node" in each] == [note]

    @pytest.mark.parametrize(
        ("kind", "args"),
        [(KeyError, ("key",)), (StopIteration, (1,)), (OSError, (2, "gone", "file"))],
    )
    def test_builtin_exceptions(self, kind: type[Exception], args: tuple[Any, ...]) -> None:
        """Exceptions with a special meaning in Python arrive unchanged."""
        with pytest.raises(kind) as caught:
            self.compute(raise_this(kind, *args))

        expected = kind(*args)
        assert type(caught.value) is type(expected)
        assert (caught.value.args, str(caught.value)) == (expected.args, str(expected))

    def test_exception_with_two_arguments(self) -> None:
        """An exception whose __init__ passes other arguments to its base class arrives complete."""
        with pytest.raises(Refused, match=r"no \(7\)") as caught:
            self.compute(raise_this(Refused, 7, "no").set_name("x"))

        assert (str(caught.value), caught.value.code) == ("no (7)", 7)
        assert any("in node 'x'" in note for note in notes_of(caught.value))

    def test_local_exception_class(self) -> None:
        """An exception class that is defined in a function keeps its type."""

        class LocalError(Exception):
            pass

        with pytest.raises(LocalError, match="here"):
            self.compute(raise_this(LocalError, "here"))

    @pytest.mark.parametrize("function", [fail_later, yield_and_fail])
    def test_coroutines_and_generators(self, function: Any) -> None:
        """An exception in a coroutine or generator is a failure of its node."""
        with pytest.raises(ValueError, match=r"in a (coroutine|generator)") as caught:
            self.compute(same(function().set_name("x")))

        assert any("in node 'x'" in note for note in notes_of(caught.value))

    # ---- the node that fails ----

    @pytest.mark.parametrize(("key", "kind"), [("absent", TypeError), (9, IndexError)])
    def test_item_errors(self, key: Any, kind: type[Exception], journal: Journal) -> None:
        """A missing item fails the node that uses it, which does not run."""
        parent = same([1, 2]).set_name("parent")

        with pytest.raises(kind) as caught:
            self.compute(noted(journal, "user", {"in": [parent[key]]}).set_name("user"))

        assert f"taking item parent[{key!r}] of a list" in notes_of(caught.value)
        assert any("in node 'user'" in note for note in notes_of(caught.value))
        assert journal.lines() == []

    def test_item_error_of_a_target(self) -> None:
        """A missing item as a target is an error that names the item."""
        node = same({"key": [0]}).set_name("node")

        with pytest.raises(KeyError, match="absent") as caught:
            self.compute(node["absent"]["deeper"])

        assert "taking item node['absent'] of a dict" in notes_of(caught.value)

    def test_unhashable_result_as_key(self) -> None:
        """An unhashable result in place of a dict key fails the node that uses it."""
        with pytest.raises(TypeError, match="unhashable") as caught:
            self.compute(same({same([1]): 1}).set_name("user"))

        assert any("in node 'user'" in note for note in notes_of(caught.value))

    def test_constructor_fails(self, journal: Journal) -> None:
        """An exception of a constructor reaches the caller, and no method runs."""
        fragile: Any = Fragile(journal, whole=False)
        fragile.set_name("object")

        with pytest.raises(ValueError, match="not made") as caught:
            self.compute(fragile.touch("method"))

        assert any("in node 'object' (Fragile at" in note for note in notes_of(caught.value))
        assert journal.lines() == []

    def test_workflow_within_a_node_fails(self, storage: Storage) -> None:
        """A failure of an inner workflow is a failure of the node that runs it; the report has no inner nodes."""
        run: Any = run_within("inside").set_name("outer")
        for kept in (None, storage):
            made = self.stored(kept, same(0).set_name("other"), run, same(run).set_name("after"))
            with pytest.raises(ValueError, match="inside") as caught:
                made.run()
            assert any("in node 'outer'" in note for note in notes_of(caught.value))
            assert made.report is not None
            assert made.report.names("failed") == ["outer"]
            assert {"other", "outer"} >= set(made.report.records)

    def test_method_fails(self, journal: Journal) -> None:
        """An exception of a method reaches the caller, and later calls on that instance do not run."""
        fragile: Any = Fragile(journal)
        fragile.touch("before")
        fragile.touch("broken", gently=False).set_name("breaks")

        with pytest.raises(ValueError, match="broken") as caught:
            self.compute(fragile.touch("after"))

        assert any("in node 'breaks' (Fragile.touch" in note for note in notes_of(caught.value))
        assert journal.lines() == ["before"]

    # ---- nodes that still run ----

    def test_dependants_never_run(self, journal: Journal) -> None:
        """No direct or indirect dependent of a failed node runs."""
        failed = fail("bad")
        child = noted(journal, "child", [failed])

        with pytest.raises(ValueError, match="bad"):
            self.compute(noted(journal, "grandchild", child), child)

        assert journal.lines() == []

    def test_nothing_new_starts(self, journal: Journal, storage: Storage, tmp_path: Path) -> None:
        """After a failure no node is started; running nodes end, and are stored and reported."""
        latch = Latch(str(tmp_path / "gate"))
        failed = fail("bad")
        running = hold(latch, journal).set_name("running")
        made = self.stored(storage, failed, noted(journal, "new", running))

        with open_on_failure(latch, made), pytest.raises(ValueError, match="bad"):
            made.run()

        assert set(journal.lines()) <= {"held"}
        # an engine that runs one node after the other has not even started it
        ran = "held" in journal.lines()
        assert ran == storage.file_exists(WORKFLOW, "running")
        assert made.report is not None
        assert made.report.names("computed") == ["running"] * ran

    def test_continue_on_error(self, journal: Journal) -> None:
        """With on_error="continue" all nodes that do not depend on the failed one run, then the failure is raised."""
        failed = fail("bad")
        child = noted(journal, "child", failed)
        branch = noted(journal, "second", noted(journal, "first"))
        made = self.new_workflow(child, branch, noted(journal, "both", child, branch))

        with pytest.raises(ValueError, match="bad"):
            made.run(on_error="continue")

        assert journal.lines() == ["first", "second"]

    def test_only_what_failed_is_blamed(self, journal: Journal, tmp_path: Path) -> None:
        """A node that is still running is not reported as failed because its consumers have another failed dependency."""
        latch = Latch(str(tmp_path / "gate"))
        failed, running = fail("bad").set_name("failed"), hold(latch, journal).set_name("running")
        child = noted(journal, "child", failed, running)
        made = self.new_workflow(noted(journal, "grandchild", child, running))

        with open_on_failure(latch, made), pytest.raises(ValueError, match="bad"):
            made.run(on_error="continue")

        assert journal.lines() == ["held"]
        assert made.report is not None
        assert made.report.names("failed") == ["failed"]
        assert made.report.names("computed") == ["running"]

    @pytest.mark.parametrize("on_error", ["raise", "continue"])
    def test_failure_after_failure(self, on_error: Any, journal: Journal, tmp_path: Path) -> None:
        """A node whose only consumer cannot run any more may fail itself, with an error of its own."""
        latch = Latch(str(tmp_path / "gate"))
        first, second = fail("bad").set_name("first"), hold_and_fail(latch, journal)
        made = self.new_workflow(noted(journal, "both", first, second.set_name("second")))

        with open_on_failure(latch, made), pytest.raises(ValueError, match="bad") as caught:
            made.run(on_error=on_error)

        ran = "held" in journal.lines()
        assert ran or on_error == "raise"
        assert made.report is not None
        assert made.report.names("failed") == ["first"] + ["second"] * ran
        assert any("'second'" in note for note in notes_of(caught.value)) == ran

    def test_several_failures(self) -> None:
        """One of several failures is raised, and a note on it has the nodes and messages of the others."""
        made = self.new_workflow(fail("a").set_name("a"), fail("b").set_name("b"))

        with pytest.raises(ValueError, match=r"[ab]") as caught:
            made.run(on_error="continue")

        other = {"a": "b", "b": "a"}[str(caught.value)]
        expected = f"other nodes failed as well:\n  '{other}': ValueError: {other}"
        assert expected in notes_of(caught.value)

    def test_on_error_is_checked(self) -> None:
        """An invalid value of on_error is refused, with the valid ones."""
        made = self.new_workflow(same(1))

        with pytest.raises(OptionError, match="continue"):
            made.run(on_error="contineu")  # type: ignore[arg-type]

    def test_run_again_after_failure(self, journal: Journal, tmp_path: Path) -> None:
        """A workflow whose run failed can run again."""
        made = self.new_workflow(same(fail_unless(str(tmp_path / "file"), journal)))

        with pytest.raises(FileNotFoundError, match="not there"):
            made.run()
        (tmp_path / "file").touch()

        assert made.run() == "there"
        assert journal.lines() == ["tried", "tried"]
