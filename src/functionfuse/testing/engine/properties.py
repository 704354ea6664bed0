"""Property tests: random graphs have the same results as plain Python, also when a run is resumed from any stored part."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse.plan import Action
from functionfuse.storage import storage_factory
from functionfuse.testing.engine.suite import WORKFLOW, Suite
from functionfuse.testing.programs import Program, describe
from functionfuse.testing.strategies import graphs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functionfuse.backends.base import Workflow
    from functionfuse.storage.base import Storage

__all__ = ["PropertyTests", "listed", "numbered"]


class PropertyTests(Suite):
    """Properties of all graphs."""

    def test_graphs_give_what_python_gives(self) -> None:
        """A graph of random calls has the same results as plain Python, in each run."""

        @settings(max_examples=self.max_examples, deadline=None)
        @given(graphs())
        def check(program: Program) -> None:
            made = self.new_workflow(*program.nodes())
            expected = [describe(value) for value in program.values()]

            assert [describe(value) for value in listed(made.run(), program)] == expected
            assert [describe(value) for value in listed(made.run(), program)] == expected

        check()

    def test_any_part_may_be_stored(self, tmp_path: Path) -> None:
        """Whatever part of the results is stored: the results are the same, and the run follows its plan."""
        folders = numbered(tmp_path)

        @settings(max_examples=self.max_examples, deadline=None)
        @given(graphs(), st.data())
        def check(program: Program, data: st.DataObject) -> None:
            made, storage, _ = self._finished(program, next(folders))
            for name in storage.list_tasks(WORKFLOW):
                if data.draw(st.booleans(), f"remove {name!r}"):
                    storage.remove_task(WORKFLOW, name)
            plan, values = made.plan(), listed(made.run(), program)

            assert [describe(v) for v in values] == [describe(v) for v in program.values()]
            assert made.report is not None
            assert made.report.names("computed") == plan.names(Action.COMPUTE)
            assert made.report.names("loaded") == plan.names(Action.LOAD)

        check()

    # each damaged result that is read is a warning, which other tests check
    @pytest.mark.filterwarnings("ignore::functionfuse.errors.DamagedResultWarning")
    def test_any_part_may_be_damaged(self, tmp_path: Path) -> None:
        """Whatever results are missing or damaged: the results are the same, and detected damage is repaired."""
        folders = numbered(tmp_path)

        @settings(max_examples=self.max_examples, deadline=None)
        @given(graphs(), st.data())
        def check(program: Program, data: st.DataObject) -> None:
            made, storage, folder = self._finished(program, next(folders))
            fates = st.sampled_from(["stored", "missing", "damaged"])
            for name in storage.list_tasks(WORKFLOW):
                fate = data.draw(fates, f"fate of {name!r}")
                if fate == "missing":
                    storage.remove_task(WORKFLOW, name)
                elif fate == "damaged":
                    (folder / WORKFLOW / name).write_bytes(b"no result")
            values = listed(made.run(), program)

            assert [describe(v) for v in values] == [describe(v) for v in program.values()]
            assert made.report is not None
            for name in (*made.report.names("computed"), *made.report.names("loaded")):
                if storage.file_exists(WORKFLOW, name):  # constructors are not stored
                    storage.read_task(WORKFLOW, name)

        check()

    def _finished(self, program: Program, folder: Path) -> tuple[Workflow[Any], Storage, Path]:
        """A workflow that has run, with all its results in a storage."""
        storage = storage_factory({"kind": "file", "options": {"path": str(folder)}})
        made = self.stored(storage, *program.nodes())
        made.run()
        return made, storage, folder


def numbered(folder: Path) -> Iterator[Path]:
    """An unlimited number of new folders."""
    return (folder / f"storage {number}" for number in itertools.count())


def listed(result: Any, program: Program) -> list[Any]:
    """The results of a run, as a list also for one target."""
    return [result] if len(program.targets) == 1 else result
