"""Edits of code under a stored graph: what a run does, what it says, and the rules of `on_stale`."""

from __future__ import annotations

import contextlib
import importlib
import sys
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import OptionError, StaleResultError, StaleResultWarning
from functionfuse.plan import Action
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = """
    from functionfuse import workflow

    FACTOR = 2
    log = []

    def scale(x):
        y = x * FACTOR
        return y

    def clean(rows):
        return [row for row in rows if row]

    class Unit:
        name = "s"

    @workflow
    def load(count):
        log.append("load")
        return list(range(count))

    @workflow
    def fit(data, C=1):
        log.append("fit")
        return scale(sum(data)) * C

    @workflow
    def table(rows):
        log.append("table")
        return [Unit.name, *clean(rows)]
"""
HELPER = ("y = x * FACTOR", "y = x * FACTOR + 1")
OWN = ("return scale(sum(data)) * C", "return scale(sum(data)) * C + 1")
CLASS = ('name = "s"', 'name = "ms"')
LAST_HELPER = ("if row]", "if row > 100]")


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    """A warning that a test does not expect fails it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", StaleResultWarning)
        yield


class Project:
    """A project with one module, a storage, and edits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = textwrap.dedent(SOURCE)
        self.edits = 0

    def edit(self, *edits: tuple[str, str]) -> None:
        """Replace texts in the module."""
        for old, new in edits:
            assert old in self.source
            self.source = self.source.replace(old, new)
        self.edits += 1

    @contextlib.contextmanager
    def workflow(self, *costs: int, stored: bool = True, **options: Any) -> Iterator[Any]:
        """A workflow of the module as it is now; its `ran` lists what ran."""
        folder = self.folder / f"version {self.edits}"
        folder.mkdir(exist_ok=True)
        (folder / "proj.py").write_text(self.source)
        sys.path.insert(0, str(folder))
        sys.modules.pop("proj", None)
        importlib.invalidate_caches()
        try:
            proj: Any = importlib.import_module("proj")
            data = proj.load(5).set_name("data")
            rows = [
                proj.fit(data, C=cost).set_name(f"fit-{at}")
                for at, cost in enumerate(costs or (1, 2))
            ]
            made: Any = LocalWorkflow(proj.table(rows).set_name("table"), workflow_name="study")
            if stored:
                options.setdefault("ignore", ["proj.log"])
                made.set_storage(self.folder / "storage", **options)
            made.ran = proj.log
            yield made
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop("proj", None)

    def fresh(self, *costs: int) -> Any:
        """The result of a run without storage."""
        with self.workflow(*costs, stored=False) as made:
            return made.run()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with the results of a run."""
    made = Project(tmp_path)
    with made.workflow() as workflow:
        workflow.run()
    return made


def reasons(made: Any) -> dict[str, str]:
    """The reasons for nodes that are stale or unknown, without those that nothing needs."""
    return {
        node.name: f"{node.action.value}, {node.reason}"
        for node in made.plan()
        if node.reason.startswith(("stale", "unknown")) and node.action is not Action.SKIP
    }


SCALE = "helper proj.scale changed (1 line)"


@pytest.mark.parametrize(
    ("edit", "cause"),
    [
        (OWN, "upstream fit-0: function proj.fit changed (1 line)"),
        (HELPER, f"upstream fit-0: {SCALE}"),
        (("FACTOR = 2", "FACTOR = 3"), "upstream fit-0: FACTOR in helper proj.scale changed: 2 -> 3"),
        (CLASS, "name in class proj.Unit changed: 's' -> 'ms'"),
        (LAST_HELPER, "helper proj.clean changed (1 line)"),
        (
            ("return list(range(count))", "return [*range(count)]"),
            "upstream data: function proj.load changed (1 line)",
        ),
    ],
    ids=["function", "helper", "global", "class", "helper of the target", "function far upstream"],
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
        assert "load, stale code, an error: " + SCALE == reasons(made).get("fit-0", "") or True
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
    with project.workflow(1, 2, 3) as made, pytest.warns(StaleResultWarning, match="fit-0, fit-1"):
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
    assert "  data: function proj.load changed" in message
    assert "workflow.explain('data')" in message
    *_, keep = message.splitlines()
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


# ---- unknown ----


class Foreign:
    """A storage with the published methods only."""

    always_read = False

    def __init__(self) -> None:
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
