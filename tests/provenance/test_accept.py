"""Accept and forget stored results, with what is downstream of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from edited_study import HELPER, LAST_HELPER, OWN, SCALE, Project, reasons
from study import load, model, study_workflow, sweep

from functionfuse.errors import NoMatchWarning, OptionError, StaleResultWarning
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from pathlib import Path

LOAD = ("return list(range(count))", "return [*range(count)]")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with the results of a run."""
    return Project.stored_in(tmp_path)


def is_quiet(made: Any) -> bool:
    """Tell whether a run computes nothing and says nothing."""
    made.ran.clear()
    made.run()
    return not made.ran and {} == reasons(made)


def test_accepted_results_count_as_fresh_and_so_do_their_dependents(project: Project) -> None:
    """The table is stale because of the fits only."""
    project.edit(HELPER)
    with project.workflow() as made:
        assert ["fit-0", "fit-1", "table"] == made.accept("fit-.*")
        assert is_quiet(made)
        assert [] == made.accept("fit-.*")
    with project.workflow(on_stale="recompute") as made:
        assert is_quiet(made)


def test_a_dependent_that_differs_itself_stays_stale(project: Project) -> None:
    """Only what was accepted is accepted."""
    project.edit(HELPER, LAST_HELPER)
    with project.workflow() as made:
        assert ["fit-0", "fit-1"] == made.accept("fit-.*")
        assert {"table": "load, stale code, loaded: helper proj.clean changed (1 line)"} == reasons(
            made
        )


def test_a_dependent_with_another_stale_input_stays_stale(project: Project) -> None:
    """One of two fits is accepted."""
    project.edit(HELPER)
    with project.workflow() as made:
        assert ["fit-0", "table"] == made.accept("fit-0")
        assert {"table": f"load, stale code, loaded: upstream fit-1: {SCALE}"} == reasons(made)
        assert ["fit-1", "table"] == made.accept("fit-1")
        assert is_quiet(made)


def test_a_cause_is_accepted_alone(project: Project) -> None:
    """What has other causes, too, stays stale by them."""
    project.edit(HELPER, LAST_HELPER)
    with project.workflow() as made:
        assert ["fit-0", "fit-1"] == made.accept(None, cause="proj.scale")
        assert ["table"] == made.accept(None, cause="proj.clean")
        assert is_quiet(made)
    project.edit(("y = x * FACTOR + 1", "y = x * FACTOR + 2"), OWN)
    with project.workflow() as made:
        with pytest.raises(
            OptionError, match=r"unknown cause: 'proj\.fitt'; did you mean 'proj\.fit'"
        ):
            made.accept(None, cause="proj.fitt")
        assert [] == made.accept(None, cause="proj.scale")
        own = "load, stale code, loaded: upstream fit-0: function proj.fit changed (1 line)"
        assert {"table": own} == reasons(made)
        assert ["fit-0", "fit-1", "table"] == made.accept("fit-.*", cause="proj.fit")
        assert is_quiet(made)


def test_a_change_that_is_taken_back_leaves_what_was_accepted(project: Project) -> None:
    """Of two changes one was accepted, and the other is gone."""
    project.edit(HELPER, OWN)
    with project.workflow() as made:
        assert [] == made.accept(None, cause="proj.scale")
    project.edit(OWN[::-1])
    with project.workflow() as made:
        assert is_quiet(made)
    project.edit(HELPER[::-1])
    with project.workflow() as made:
        assert {"table": f"load, stale code, loaded: upstream fit-0: {SCALE}"} == reasons(made)


def test_a_cause_upstream_of_other_changes(project: Project) -> None:
    """Fits whose data is still stale are accepted for their own change only."""
    project.edit(HELPER, LOAD)
    with project.workflow() as made:
        assert ["fit-0", "fit-1", "table"] == made.accept(None, cause="proj.scale")
        expected = "load, stale code, loaded: upstream data: function proj.load changed (1 line)"
        assert {"table": expected} == reasons(made)
        assert ["data", "fit-0", "fit-1", "table"] == made.accept("data")
        assert is_quiet(made)


def test_the_target_alone_can_be_accepted(project: Project) -> None:
    """Upstream of it all stays stale, and is not needed."""
    project.edit(HELPER)
    with project.workflow() as made:
        assert ["table"] == made.accept("table")
        assert is_quiet(made)
    with project.workflow(1, 2, 3) as made:
        assert {"fit-0", "fit-1"} <= reasons(made).keys()


def test_a_difference_in_the_graph_can_be_accepted(project: Project) -> None:
    """The result of C=1 counts as that of C=7."""
    with project.workflow(7, 2) as made:
        assert ["fit-0", "table"] == made.accept("fit-0")
        assert is_quiet(made)
    with project.workflow() as made:
        assert "compute, stale: argument C changed: 7 -> 1" == reasons(made)["fit-0"]


def test_a_removed_intermediate_result_between_does_not_matter(project: Project) -> None:
    """It would be the same function of what was accepted."""
    with project.workflow() as made:
        made.forget("fit-.*", downstream=False)
    project.edit(LOAD)
    with project.workflow() as made:
        assert ["data", "table"] == made.accept("data")
        assert is_quiet(made)


def test_an_accepted_result_that_is_replaced_counts_by_itself(project: Project) -> None:
    """The stamp belongs to the file for which it was made."""
    project.edit(HELPER)
    with project.workflow() as made:
        made.accept("fit-0")
        made.forget("fit-0")
        with pytest.warns(StaleResultWarning, match="fit-1: helper"):
            made.run()
        assert ["fit", "table"] == made.ran
    with project.workflow(on_stale={"code": "recompute"}) as made:
        assert project.fresh() == made.run()
        assert ["fit", "table"] == made.ran


def test_methods_of_a_changed_class_can_be_accepted(tmp_path: Path) -> None:
    """Their instance is not stored: their own results are accepted."""
    study_workflow(model(1, 2, 3), tmp_path).run()
    made = study_workflow(model(4, 2, 3), tmp_path)
    assert ["see-0", "see-1", "total"] == made.accept(None)
    assert 5 == made.run()


# ---- forget ----


def test_results_are_forgotten_with_everything_downstream(tmp_path: Path) -> None:
    """The names of what was stored come back, in graph order."""
    made = study_workflow((sweep(10, 1), load(2).set_name("other")), tmp_path)
    assert [] == made.forget(None)
    made.run()
    assert ["fit-1", "table"] == made.forget("fit-1")
    assert [] == made.forget("fit-1|table")
    made.run()
    assert ["data"] == made.forget("data", downstream=False)
    assert ["fit-0", "fit-1", "table"] == made.forget("data")
    with pytest.warns(NoMatchWarning):
        assert [] == made.forget("nothing")
    assert ["other"] == made.forget(None)


def test_methods_are_forgotten_with_their_instance(tmp_path: Path) -> None:
    """A constructor is not stored; its calls are downstream of it."""
    made = study_workflow(model(1, 2), tmp_path)
    made.run()
    assert ["see-0", "total"] == made.forget("model")


def test_without_a_storage_there_is_nothing_to_accept_or_forget() -> None:
    """The error says what to do."""
    made = study_workflow(sweep(1), None)
    for method in (made.accept, made.forget):
        with pytest.raises(OptionError, match="call set_storage first"):
            method(None)


def test_a_storage_removes_what_is_downstream_in_a_workflow(tmp_path: Path) -> None:
    """By name and by pattern; the names of all removed results come back."""
    storage = storage_factory(tmp_path)
    made = study_workflow((sweep(10, 1), load(2).set_name("other")), storage)
    made.run()
    storage.save("study", "old", 1)  # of no node
    assert ["fit-1", "table"] == storage.remove_task("study", "fit-1", downstream=made)
    made.run()
    assert ["fit-0", "fit-1", "table"] == storage.remove_task(
        "study", pattern="fit-*", downstream=made
    )
    assert ["old"] == storage.remove_task("study", "old", downstream=made)
    assert ["data", "other"] == storage.list_tasks("study")
