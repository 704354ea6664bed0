"""Fusion tests: task groups change the number of units and nothing else."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse import workflow
from functionfuse.errors import DamagedResultWarning
from functionfuse.storage import storage_factory
from functionfuse.testing.engine.damage import Damaged
from functionfuse.testing.engine.properties import listed, numbered
from functionfuse.testing.engine.suite import WORKFLOW, Latch, Suite, notes_of
from functionfuse.testing.programs import Program, describe
from functionfuse.testing.strategies import graphs

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.backends.base import Workflow
    from functionfuse.events import Event
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["FuseTests"]


@workflow
def step(journal: Journal, name: str, *needs: Any) -> str:
    """Record the call."""
    journal.write(name)
    return name


@workflow
def broken(*needs: Any) -> str:
    """Raise."""
    message = "broken"
    raise ValueError(message)


@workflow
def plus_one(number: int) -> int:
    """Add one."""
    return number + 1


@workflow
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@workflow
def drawn() -> float:
    """Draw a number."""
    return random.random()  # noqa: S311


@workflow
def pass_gate(latch: Latch) -> int:
    """Wait at the latch."""
    latch.wait()
    return 1


class FuseTests(Suite):
    """`query(pattern).fuse()`."""

    def fused(self, pattern: str, *nodes: Any) -> Workflow[Any]:
        """A workflow with fused nodes."""
        made = self.new_workflow(*nodes)
        made.query(pattern).fuse()
        return made

    def prepared(self, journal: Journal) -> Any:
        """A chain of two nodes and a third one, and a node that depends on both."""
        first = step(journal, "a").set_name("prep_a")
        second = step(journal, "b", first).set_name("prep_b")
        third = step(journal, "c").set_name("prep_c")
        return step(journal, "use", second, third).set_name("use")

    def test_fused_nodes_keep_everything(self, journal: Journal, storage: Storage) -> None:
        """Each node of a group has its own stored result, its own row in the report, and its own events."""
        made = self.fused("prep_.*", self.prepared(journal))
        made.set_storage(storage)
        events: list[Event] = []
        made.add_observer(events.append)

        assert made.run() == "use"
        assert sorted(journal.lines()) == ["a", "b", "c", "use"]
        assert storage.list_tasks(WORKFLOW) == ["prep_a", "prep_b", "prep_c", "use"]
        assert made.report is not None
        assert made.report.names("computed") == ["prep_a", "prep_b", "prep_c", "use"]
        finished = [type(event).__name__ for event in events]
        assert finished.count("NodeSubmitted") == 4
        assert finished.count("NodeFinished") == 4

    def test_plan_shows_groups(self, journal: Journal) -> None:
        """The plan names the nodes of each group."""
        made = self.fused("prep_.*", self.prepared(journal))

        assert made.graph.groups == ()
        assert "with prep_a" in str(made.plan())

    def test_a_group_never_waits_for_itself(self, journal: Journal) -> None:
        """A matched node that depends on an unmatched one, which depends on a matched one, runs in a second group."""
        first = step(journal, "1").set_name("in_1")
        outside = step(journal, "2", first).set_name("out_2")
        last = [step(journal, f"{i}", outside).set_name(f"in_{i}") for i in (3, 4)]

        assert self.fused("in_.*", *last).run() == ["3", "4"]
        assert journal.lines() == ["1", "2", "3", "4"]

    def test_stored_parts_are_not_run(self, journal: Journal, storage: Storage) -> None:
        """A group runs only those of its nodes that are not stored."""
        target = self.prepared(journal)
        self.stored(storage, target).run()
        for name in ("prep_b", "use"):
            storage.remove_task(WORKFLOW, name)
        made = self.fused("prep_.*", target)
        made.set_storage(storage)

        with journal.added() as ran:
            assert made.run() == "use"
        assert ran == ["b", "use"]

    def test_failure_names_the_node(self, journal: Journal, storage: Storage) -> None:
        """A failure in a group is a failure of its node; earlier nodes are stored and reported."""
        first = step(journal, "a").set_name("prep_a")
        bad = broken(first).set_name("prep_bad")
        last = step(journal, "z", bad).set_name("prep_z")
        made = self.fused("prep_.*", last)
        made.set_storage(storage)

        with pytest.raises(ValueError, match="broken") as raised:
            made.run()
        places = [note for note in notes_of(raised.value) if note.startswith("in node")]
        assert len(places) == 1
        assert places[0].startswith("in node 'prep_bad' (broken at fusion.py:")
        assert made.report is not None
        assert made.report.names("computed") == ["prep_a"]
        assert made.report.names("failed") == ["prep_bad"]
        assert journal.lines() == ["a"]
        assert storage.list_tasks(WORKFLOW) == ["prep_a"]

    def test_nothing_is_fused_to_continue(self, journal: Journal) -> None:
        """With on_error="continue" the other nodes of a failed group are computed."""
        good = step(journal, "good").set_name("prep_good")
        bad = broken().set_name("prep_bad")
        made = self.fused("prep_.*", step(journal, "after", good).set_name("after"), bad)

        with pytest.raises(ValueError, match="broken"):
            made.run(on_error="continue")
        assert journal.lines() == ["good", "after"]

    def test_seeds_are_the_same(self) -> None:
        """Each node of a group runs with its own plugin."""
        from functionfuse.backends.plugins import RandomStatePlugin

        values = []
        for fused in (False, True):
            made = self.new_workflow(drawn().set_name("a"), drawn().set_name("b"))
            made.set_plugin(None, RandomStatePlugin(0, 100, 7, random.seed))
            if fused:
                made.query().fuse()
            values.append(made.run())
        assert values[0] == values[1]
        assert values[0][0] != values[0][1]

    def test_damage_that_needs_a_part_in_flight(self, storage: Storage, tmp_path: Path) -> None:
        """Recovery from damage that a group detects may need a value that only the group used."""
        latch = Latch(str(tmp_path / "gate"))
        first = pass_gate(latch).set_name("in_first")
        second = plus_one(first).set_name("in_second")
        late = add(first, second).set_name("late")
        made = self.fused("in_.*", second, late)
        made.set_storage(Damaged(storage, "late", latch.open))

        if not self.runs_side_by_side:
            pytest.skip("nothing else runs while a group does")
        with latch.closed(), pytest.warns(DamagedResultWarning, match="'late'"):
            assert made.run() == [2, 3]

    # each damaged result that is read is a warning, which other tests check
    @pytest.mark.filterwarnings("ignore::functionfuse.errors.DamagedResultWarning")
    def test_fusing_never_changes_a_result(self, tmp_path: Path) -> None:
        """Whatever nodes are fused, and whatever results are stored or damaged: the results are the same."""
        folders = numbered(tmp_path)

        @settings(max_examples=self.max_examples, deadline=None)
        @given(graphs(), st.data())
        def check(program: Program, data: st.DataObject) -> None:
            folder = next(folders)
            storage = storage_factory({"kind": "file", "options": {"path": str(folder)}})
            made = self.stored(storage, *program.nodes())
            made.run()
            fates = st.sampled_from(["stored", "missing", "missing", "damaged"])
            for name in storage.list_tasks(WORKFLOW):
                fate = data.draw(fates, f"fate of {name!r}")
                if fate == "missing":
                    storage.remove_task(WORKFLOW, name)
                elif fate == "damaged":
                    (folder / WORKFLOW / name).write_bytes(b"no result")
            names = [
                name for name in made.find_nodes() if data.draw(st.booleans(), f"fuse {name!r}")
            ]
            for name in names:
                made.query(re.escape(name)).fuse()

            assert [describe(v) for v in listed(made.run(), program)] == [
                describe(value) for value in program.values()
            ]

        check()
