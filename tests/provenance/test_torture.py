"""Edits to code and the reasons of the plan for them: what a user reads after each edit of the torture set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import test_code_digests
import test_code_digests_classes
import test_code_digests_imports
from edited_projects import Edit, imported, write_project

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.plan import Action, PlannedNode
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from pathlib import Path

FRESH = [*test_code_digests.FRESH, *test_code_digests_imports.DOES_NOT_COUNT]
STALE = [
    edit
    for edits in (
        test_code_digests.STALE,
        test_code_digests_classes.MEMBERS,
        test_code_digests_classes.KINDS,
        test_code_digests_imports.COUNTS,
    )
    for edit in edits
    if edit.name != "decorated class"  # its instances are not stored
]


def planned(folder: Path, source: str, storage: Any, *, store: bool = False) -> PlannedNode:
    """The plan for `study.fit` of a project; with `store`, a result of it is stored then."""
    write_project(folder, source)
    with imported(folder) as study:
        made = LocalWorkflow(workflow(study.fit)(1).set_name("fit"), workflow_name="study")
        made.set_storage(storage)
        plan = made.plan()
        if store:  # not by a run: most of these functions are written to be read
            assert plan.provenance is not None
            metadata = {"fingerprint": plan.provenance.stamp(0)}
            storage.save("study", "fit", "a result", metadata=metadata)
        return plan["fit"]


def planned_after(edit: Edit, folder: Path) -> PlannedNode:
    """The plan after an edit of the project whose result is stored."""
    storage = storage_factory(folder / "results")
    project = folder / "project"
    planned(project, edit.source, storage, store=True)
    assert edit.old in edit.source
    return planned(project, edit.source.replace(edit.old, edit.new), storage)


@pytest.mark.parametrize("edit", FRESH, ids=str)
def test_a_result_stays_fresh(edit: Edit, tmp_path: Path) -> None:
    """An edit that changes no value is not mentioned."""
    node = planned_after(edit, tmp_path)
    assert (Action.LOAD, "stored; a target") == (node.action, node.reason)


@pytest.mark.parametrize("edit", STALE, ids=str)
def test_a_result_is_loaded_and_the_reason_names_what_changed(edit: Edit, tmp_path: Path) -> None:
    """Code alone never throws a result away, and never changes in silence."""
    node = planned_after(edit, tmp_path)
    assert Action.LOAD is node.action
    assert node.reason.startswith("stale code, loaded: ")
    names = [part.partition(" (")[0].rpartition(".")[2] for part in edit.changed]
    assert any(name in node.reason for name in names), (edit.changed, node.reason)


def test_the_set_is_large() -> None:
    """It has more edits than the forty that were asked for."""
    assert len(FRESH) + len(STALE) > 100
