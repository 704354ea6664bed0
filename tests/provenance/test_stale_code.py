"""Edits of code under a stored graph: what a run does, what it says, and the rules of `on_stale`."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
from edited_study import CLASS, HELPER, LAST_HELPER, OWN, SCALE, Project, reasons

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import OptionError, StaleResultError, StaleResultWarning
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with the results of a run."""
    return Project.stored_in(tmp_path)


@pytest.mark.parametrize(
    ("edit", "cause"),
    [
        (OWN, "upstream fit-0: function proj.fit changed (1 line)"),
        (HELPER, f"upstream fit-0: {SCALE}"),
        (
            ("FACTOR = 2", "FACTOR = 3"),
            "upstream fit-0: FACTOR in helper proj.scale changed: 2 -> 3",
        ),
        (CLASS, "name in class proj.Unit changed: 's' -> 'ms'"),
        (LAST_HELPER, "helper proj.clean changed (1 line)"),
        (("C=1):", "C=3):"), "upstream fit-0: default C of proj.fit changed: 1 -> 3"),
        (
            ("return list(range(count))", "return [*range(count)]"),
            "upstream data: function proj.load changed (1 line)",
        ),
    ],
    ids=[
        "function",
        "helper",
        "global",
        "class",
        "helper of the target",
        "default",
        "function far upstream",
    ],
)
def test_a_result_of_other_code_is_loaded_with_a_warning(
    project: Project, edit: tuple[str, str], cause: str
) -> None:
    """By default nothing is computed, and the run says what changed."""
    project.edit(edit)
    with project.workflow() as made:
        assert {"table": f"load, stale code, loaded: {cause}"} == reasons(made)
        with pytest.warns(StaleResultWarning) as warned:
            made.run()
        assert 1 == len(warned)
        assert cause.rpartition(": ")[2] in str(warned[0].message)
        assert __file__ == warned[0].filename
        assert [] == made.ran


@pytest.mark.parametrize("edit", [OWN, HELPER, CLASS, LAST_HELPER])
def test_a_result_of_other_code_is_computed_if_you_say_so(
    project: Project, edit: tuple[str, str]
) -> None:
    """With `recompute` the value is that of a fresh run, and the next run computes nothing."""
    project.edit(edit)
    fresh = project.fresh()
    for on_stale in ("recompute", {"code": "recompute"}):
        with project.workflow(on_stale=on_stale) as made:
            assert fresh == made.run()
    assert [] == made.ran
    with project.workflow() as made:
        assert {} == reasons(made)


def test_only_what_differs_is_computed(project: Project) -> None:
    """Data is loaded; the table is kept if the fits have the same values."""
    project.edit(("y = x * FACTOR", "y = FACTOR * x"))
    with project.workflow(on_stale="recompute") as made:
        assert {
            "fit-0": f"compute, stale: {SCALE}",
            "fit-1": f"compute, stale: {SCALE}",
            "table": f"maybe, stale: upstream fit-0: {SCALE}; "
            "kept if 'fit-0' and 'fit-1' get the same value again",
        } == reasons(made)
        made.run()
        assert ["fit", "fit"] == made.ran
    with project.workflow() as made:
        assert {} == reasons(made)


def test_ignore_is_silent(project: Project) -> None:
    """Loaded without a word; the plan says it all the same."""
    project.edit(HELPER)
    with project.workflow(on_stale={"code": "ignore"}) as made:
        assert {"table": f"load, stale code, loaded: upstream fit-0: {SCALE}"} == reasons(made)
        made.run()
        assert [] == made.ran


def test_error_fails_before_anything_runs(project: Project) -> None:
    """The error names the nodes, the cause and what to type; the plan can be read."""
    project.edit(HELPER)
    with project.workflow(1, 2, 3, on_stale="error") as made:
        assert "load, stale, an error: rows has 3 items instead of 2" == reasons(made)["table"]
        with pytest.raises(StaleResultError, match="rows has 3 items instead of 2"):
            made.run()
        assert [] == made.ran
    with project.workflow(on_stale={"code": "error"}) as made:
        with pytest.raises(StaleResultError, match=r"accept\(None, cause='proj.scale'\)"):
            made.run()
        assert [] == made.ran


def test_rules_of_a_query_win_and_later_ones_over_earlier_ones(project: Project) -> None:
    """The rule of a node decides for this node; what is computed by a rule counts for its dependents."""
    project.edit(HELPER)
    with project.workflow() as made:
        made.query("fit-.*").set_on_stale("error")
        made.query("fit-.*").set_on_stale({"code": "recompute"})
        made.query("fit-1").set_on_stale({"code": "ignore"})
        assert {"fit-0", "table"} == reasons(made).keys()
        made.run()
        assert ["fit", "table"] == made.ran


def test_a_result_is_stamped_with_what_was_used(project: Project) -> None:
    """A table of an old fit and a new one is stale as long as the old fit is."""
    project.edit(HELPER)
    with project.workflow(1, 2, 3) as made:
        with pytest.warns(StaleResultWarning, match="fit-0, fit-1"):
            mixed = made.run()
        assert ["fit", "table"] == made.ran
    assert project.fresh(1, 2, 3) != mixed
    with project.workflow(1, 2, 3) as made:
        assert {"table": f"load, stale code, loaded: upstream fit-0: {SCALE}"} == reasons(made)
        with pytest.warns(StaleResultWarning):
            assert mixed == made.run()
        assert [] == made.ran
    with project.workflow(1, 2, 3, on_stale="recompute") as made:
        assert project.fresh(1, 2, 3) == made.run()
    assert ["fit", "fit", "table"] == made.ran


@pytest.mark.parametrize(
    ("cost", "ran"), [(7, ["fit", "table"]), (True, ["fit"])], ids=["computed", "kept"]
)
def test_stale_code_is_reported_where_a_node_waits_for_another_change(
    project: Project, cost: int, ran: list[str]
) -> None:
    """The table waits for the value of fit-0, and holds fit-1 of the earlier code in both cases."""
    project.edit(("* C", "* C + (C == 2)"))
    with project.workflow(cost, 2, on_stale={"code": "error"}) as made:
        assert "maybe" == made.plan()["table"].action.value
        with pytest.raises(StaleResultError, match=r"fit-1: function proj.fit changed"):
            made.run()
        assert [] == made.ran
    with project.workflow(cost, 2) as made:
        with pytest.warns(StaleResultWarning, match=r"fit-1: function proj.fit changed"):
            mixed = made.run()
        assert ran == made.ran
    assert project.fresh(cost, 2) != mixed


def test_stale_code_is_reported_where_a_damaged_result_is_computed_again(project: Project) -> None:
    """The plan cannot read the fingerprint of the table, so the run finds the stale fits late."""
    project.edit(HELPER)
    (file,) = (project.folder / "storage" / "study").glob("table*")
    file.write_bytes(b"damaged")
    with project.workflow() as made, pytest.warns() as warned:
        assert project.fresh() != made.run()
    assert any(f"fit-0, fit-1: {SCALE}" in str(each.message) for each in warned)


def test_the_warning_names_a_stored_node_to_explain(project: Project) -> None:
    """Nodes that are never stored have nothing to compare."""
    with project.workflow() as made:
        made.always_run("fit-.*")
        made.run()
    project.edit(OWN)
    with project.workflow() as made:
        made.always_run("fit-.*")
        with pytest.warns(StaleResultWarning, match=r"workflow\.explain\('table'\)"):
            made.run()
        assert "table: load, stale code" in str(made.explain("table"))


def test_a_result_of_a_graph_that_was_ignored_does_not_become_fresh(project: Project) -> None:
    """Stamped with what was used, also if the file that was used is removed later."""
    with project.workflow(7, 2, 3, on_stale="ignore") as made:
        made.query("table").set_on_stale("recompute")
        made.run()
        assert ["fit", "table"] == made.ran  # of fit-2; fit-0 is the one of C=1
        made.forget("fit-0", downstream=False)
    with project.workflow(7, 2, 3) as made:
        assert "compute" == made.plan()["table"].action.value
        assert project.fresh(7, 2, 3) == made.run()


def test_the_warning_groups_causes_and_ends_with_what_to_type(project: Project) -> None:
    """One warning for a run; each way on works as it is written."""
    project.edit(HELPER, ('log.append("load")', 'log.append("load"); count = count'))
    with project.workflow(1, 2, 3) as made, pytest.warns(StaleResultWarning) as warned:
        made.run()
    (message,) = [str(each.message) for each in warned]
    assert f"  fit-0, fit-1: {SCALE}" in message
    assert "  data, fit-0, fit-1: function proj.load changed (1 line)" in message
    *_, show, again, keep = message.splitlines()
    assert "workflow.explain('data')" == show.partition(":")[2].strip()
    assert "workflow.forget('data|fit-0|fit-1')" == again.partition(":")[2].strip()
    call = keep.partition("workflow.")[2]
    with project.workflow(1, 2, 3) as made:
        assert {"data", "fit-0", "fit-1", "fit-2", "table"} == {*eval(f"made.{call}")}  # noqa: S307
        made.run()
        assert [] == made.ran


@pytest.mark.parametrize(
    ("on_stale", "message"),
    [
        ("never", "unknown value of on_stale: 'never'"),
        ({"graf": "warn"}, "did you mean 'graph'"),
        (3, "on_stale takes 'recompute', 'warn', 'ignore', 'error'"),
        ({"code": None}, "or a dict of them for 'graph' and 'code'"),
    ],
)
def test_wrong_options_are_errors(project: Project, on_stale: Any, message: str) -> None:
    """For the storage and for a query."""
    with project.workflow() as made:
        with pytest.raises(OptionError, match=message):
            made.set_storage(project.folder, on_stale=on_stale)
        with pytest.raises(OptionError, match=message):
            made.query("fit-.*").set_on_stale(on_stale)
        with pytest.raises(OptionError, match="code_roots takes a list of strings, not 'proj'"):
            made.set_storage(project.folder, code_roots="proj")
        with pytest.raises(OptionError, match="code_roots: 'nix' is neither a folder or file nor"):
            made.set_storage(project.folder, code_roots=["nix"])


def test_a_removed_result_between_passes_staleness_on(project: Project) -> None:
    """The table is stale by the data, although the fits are not stored."""
    with project.workflow() as made:
        made.forget("fit-.*", downstream=False)
    project.edit(("return list(range(count))", "return [*range(count)]"))
    cause = "upstream data: function proj.load changed (1 line)"
    with project.workflow() as made:
        assert {"table": f"load, stale code, loaded: {cause}"} == reasons(made)
        with pytest.warns(StaleResultWarning, match="table: function proj.load"):
            made.run()
        assert [] == made.ran


def test_ways_on_name_the_nodes_and_no_others(project: Project) -> None:
    """For many nodes by what their names have in common, if no other name has it."""
    with project.workflow(1, 2, 3, 4, 5) as made:
        made.run()
    project.edit(HELPER, OWN)
    with project.workflow(1, 2, 3, 4, 5) as made:
        made.forget("table")
        with pytest.warns(StaleResultWarning, match=r"forget\('fit-\.\*'\)"):
            made.run()
    with project.workflow(1, 2, 3, 4, 5, on_stale="ignore") as made:
        made.query("fit-[0-3]").set_on_stale("warn")
        made.forget("table")
        with pytest.warns(StaleResultWarning, match=r"forget\('fit-\(0\|1\|2\|3\)'\)"):
            made.run()


def test_the_report_tells_what_is_stale(project: Project) -> None:
    """A column with reasons, and a number in the summary."""
    project.edit(HELPER)
    with project.workflow(1, 2, 3) as made:
        with pytest.warns(StaleResultWarning):
            made.run()
        assert str(made.report).splitlines()[2].endswith("why")
        told = {line.split()[0]: line for line in str(made.report).splitlines() if line}
    assert told["fit-0"].endswith(f"stale code, loaded: {SCALE}")
    assert told["table"].endswith("stale: rows has 3 items instead of 2")
    assert "workflow 'study': 2 computed, 3 loaded; 2 of the results are stale" in str(made.report)


# ---- unknown ----


class Foreign:
    """A storage with the published methods only."""

    always_read = False

    def __init__(self) -> None:
        """Begin without values."""
        self.values: dict[str, Any] = {}

    def save(self, workflow: str, name: str, value: Any) -> None:
        """Keep a value."""
        self.values[name] = value

    def read_task(self, workflow: str, name: str) -> Any:
        """A value that was kept."""
        return self.values[name]


def test_a_storage_without_fingerprints_works_by_name(project: Project) -> None:
    """Whatever differs, what is stored is loaded, and the plan says why."""
    storage = Foreign()
    with project.workflow(stored=False) as made:
        made.set_storage(storage)
        before = made.run()
    project.edit(OWN)
    with project.workflow(5, 6, stored=False) as made:
        made.set_storage(storage)
        assert {"table": "load, unknown: the storage keeps no fingerprints"} == reasons(made)
        assert before == made.run()
        for method in (made.accept, made.explain):
            with pytest.raises(OptionError, match="keeps none"):
                method("table")
        with pytest.raises(OptionError, match="cannot remove results"):
            made.forget("table")


def test_results_from_before_fingerprints_are_loaded(project: Project) -> None:
    """Also by nodes that are computed from them, which stay fresh until such a result is replaced."""
    storage = storage_factory(project.folder / "storage")
    with project.workflow() as made:
        made.forget(None)
        storage.save("study", "fit-0", 100)
        assert {"fit-0": "load, unknown: stored before fingerprints"} == reasons(made)
        first = made.run()
        assert ["s", 100, 40] == first
    with project.workflow() as made:
        assert {
            "table": "load, unknown: computed from fit-0, stored before fingerprints"
        } == reasons(made)
        assert first == made.run()
        assert ["fit-0", "table"] == made.accept("fit-0")
        assert {} == reasons(made)
        assert first == made.run()
        made.forget("fit-0", downstream=False)
        made.run()


CLASS_OF_INSTANCES = """
from functionfuse import workflow

@workflow
class Model:
    def __init__(self, start):
        self.start = start

    def see(self, value):
        return self.start + value

    def again(self, value):
        return self.start - value
"""


def test_what_to_type_names_methods_and_no_constructor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constructor is never stored: the first method of the instance is explained, forgotten and accepted."""

    def made(edit: str) -> Any:
        (tmp_path / "model.py").write_text(CLASS_OF_INSTANCES.replace("= start", edit))
        monkeypatch.delitem(sys.modules, "model", raising=False)
        model = importlib.import_module("model").Model(1).set_name("model")
        calls = [model.see(2).set_name("see"), model.again(3).set_name("again")]
        workflow = LocalWorkflow(*calls, workflow_name="methods")
        workflow.set_storage(tmp_path / "storage")
        return workflow

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # both versions are of one second
    made("= start").run()
    with pytest.warns(StaleResultWarning) as warned:
        assert [3, -2] == made("= start + 10").run()
    text = str(warned[0].message)
    assert "workflow.explain('see')" in text
    assert "workflow.forget('see')" in text
    assert ["again", "see"] == sorted(made("= start + 10").forget("see"))
    assert [13, 8] == made("= start + 10").run()
