"""Explanations: what a result was made of, what differs, and the text of changed code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import study
from edited_study import HELPER, SCALE, Project
from study import describe_type, fit, load, model, study_workflow, sweep

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import GraphError, OptionError, StaleResultWarning
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from pathlib import Path


def lines(made: Any, name: str) -> list[str]:
    """The lines of an explanation, without indentation."""
    explanation = made.explain(name)
    assert str(explanation) == repr(explanation)
    return [line.strip() for line in str(explanation).splitlines()]


def test_a_result_that_is_fresh(tmp_path: Path) -> None:
    """When it was stored, that nothing differs, and what it depends on."""
    study_workflow(sweep(10, 1), tmp_path).run()
    told = lines(study_workflow(sweep(10, 1), tmp_path), "fit-0")
    assert "fit-0: skip, stored; nothing that is computed needs it" == told[0]
    assert told[1].startswith("Stored: ")
    assert told[1].endswith("engine local.")
    assert told[2].startswith("Nothing differs")
    assert {"function study.fit", "argument C = 10", "argument data = data", "results of data"} <= {
        *told
    }


def test_changed_arguments(tmp_path: Path) -> None:
    """Each difference of a node, and those of its inputs."""
    study_workflow(sweep(10, 1), tmp_path).run()
    made = study_workflow(sweep(0.001, 1, count=6), tmp_path)
    told = lines(made, "fit-0")
    assert "fit-0: compute, stale: argument C changed: 10 -> 0.001" == told[0]
    assert "argument C changed: 10 -> 0.001" in told
    assert "input data is stale: argument count changed: 5 -> 6" in told
    assert "argument C = 0.001  (differs)" in told
    told = lines(made, "table")
    assert "input fit-0 is stale: argument C changed: 10 -> 0.001" in told
    assert "input fit-1 is stale: upstream data: argument count changed: 5 -> 6" in told


def test_changed_code_as_a_diff(tmp_path: Path) -> None:
    """The texts of the code are kept in the storage: the file may be another one by now."""
    project = Project.stored_in(tmp_path)
    project.edit(HELPER)
    with project.workflow() as made:
        told = lines(made, "fit-0")
        assert SCALE in told
        before, now = "-    y = x * FACTOR", "+    y = x * FACTOR + 1"
        assert told.index("--- proj.scale (stored)") < told.index(before) < told.index(now)
        assert "code of proj.scale" in told
        told = lines(made, "table")
        assert f"input fit-0 is stale: {SCALE}" in told
        assert before not in told


def test_a_changed_global_value_without_a_short_text(tmp_path: Path) -> None:
    """It is named as a value: of an array or object, the stored text has only type and digest."""
    project = Project(tmp_path)
    project.edit(("FACTOR = 2", "import numpy\nFACTOR = numpy.array(2)"))
    with project.workflow() as made:
        made.run()
    project.edit(("numpy.array(2)", "numpy.array(3)"))
    with project.workflow() as made:
        told = lines(made, "fit-0")
    assert "value proj.FACTOR changed" in told
    (code,) = [line for line in told if line.startswith("code of ")]
    assert "code of proj.FACTOR, proj.scale" == code


def test_what_was_loaded_although_it_is_stale(tmp_path: Path) -> None:
    """The new result says of which old one it was made."""
    project = Project.stored_in(tmp_path)
    project.edit(HELPER)
    with project.workflow(1, 2, 3) as made:
        with pytest.warns(StaleResultWarning):
            made.run()
        told = lines(made, "table")
    assert f"table: load, stale code, loaded: upstream fit-0: {SCALE}" == told[0]
    assert f"input fit-1 is stale: {SCALE}" in told
    assert "input fit-2 is stale" not in " ".join(told)


def test_an_accepted_result(tmp_path: Path) -> None:
    """The explanation says when it was accepted."""
    project = Project.stored_in(tmp_path)
    project.edit(HELPER)
    with project.workflow() as made:
        made.accept("fit-0")
        told = lines(made, "fit-0")
    assert any(line.startswith("Accepted: ") for line in told)
    assert any(line.startswith("Nothing differs") for line in told)


def test_what_is_not_stored(tmp_path: Path) -> None:
    """Nodes that did not run, and instances, are explained, too."""
    made = study_workflow(model(1, 2), tmp_path)
    assert "No result is stored, or its header cannot be read." in lines(made, "total")
    made.run()
    assert "argument scale = 1" in lines(made, "model")
    assert "argument self = instance see-0" in lines(made, "total")


def test_a_result_without_fingerprint(tmp_path: Path) -> None:
    """Nothing can be compared, and the explanation says what to do."""
    storage_factory(tmp_path).save("study", "fit", 3)
    made = study_workflow(fit(load(3).set_name("data")).set_name("fit"), tmp_path)
    told = lines(made, "fit")
    assert "fit: load, unknown: stored before fingerprints" == told[0]
    assert "accept()" in " ".join(told)


def test_a_source_that_was_changed_since_it_was_imported(tmp_path: Path) -> None:
    """The code that runs counts, and the reason says that the file is another one."""
    project = Project.stored_in(tmp_path)
    with project.workflow() as made:
        project.overwrite(HELPER)
        changed = "proj.scale: its source has changed since it was imported"
        assert changed in lines(made, "fit-0")
        assert changed in lines(made, "fit-0")[0]


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    """The place of the value, also for what is upstream."""
    with (tmp_path / "file").open("w") as file:
        graph = fit(describe_type(file).set_name("data")).set_name("fit")
        study_workflow(graph, tmp_path / "storage").run()
        made = study_workflow(graph, tmp_path / "storage")
        assert {"fit"} == study.reasons(made).keys()
        reason = study.reasons(made)["fit"]
        assert reason.startswith("load, unknown: upstream data: argument value: ")
        assert any(line.startswith("not compared: argument value") for line in lines(made, "data"))
        for name in ("data", "fit"):
            assert "Nothing that can be compared differs." in lines(made, name)


def test_another_input(tmp_path: Path) -> None:
    """The node in the place of another one is named."""
    study_workflow(fit(load(3).set_name("a")).set_name("fit"), tmp_path).run()
    made = study_workflow(fit(load(4).set_name("b")).set_name("fit"), tmp_path)
    assert "input b is in the place of a" in lines(made, "fit")
    assert {"fit": "compute, stale: data is b instead of a"} == study.reasons(made)


def test_notebooks_show_it_as_text(tmp_path: Path) -> None:
    """What HTML would read is escaped."""
    made = study_workflow(load(3).set_name("<data>"), tmp_path)
    html = made.explain("<data>")._repr_html_()
    assert html.startswith("<pre>&lt;data&gt;: compute")


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    """Without a storage, and for a name that no node has."""
    made = LocalWorkflow(load(3).set_name("data"), workflow_name="study")
    with pytest.raises(OptionError, match=r"explain\(\) is about stored results: call set_storage"):
        made.explain("data")
    made.set_storage(tmp_path)
    with pytest.raises(GraphError, match="there is no node 'date'"):
        made.explain("date")


# ---- unnamed nodes ----


def test_a_hint_names_expensive_nodes_whose_numbers_shifted(tmp_path: Path) -> None:
    """They are computed again instead of wrong; the hint says what they cost."""
    first, second = load(1), load(2)
    study_workflow((first, second), tmp_path).run()
    storage, made = storage_factory(tmp_path), study_workflow((load(5), load(1), load(2)), tmp_path)
    for name in ("load_0000", "load_0001"):
        header = storage.info("study", name)
        storage.save(
            "study", name, storage.read_task("study", name), metadata={**header, "seconds": 40}
        )
    with pytest.warns(
        StaleResultWarning, match="load_0000, load_0001 .* took 80 s.*set_name"
    ) as told:
        assert [[0, 1, 2, 3, 4], [0], [0, 1]] == made.run()
    assert 1 == len(told)


def test_no_hint_where_arguments_were_edited(tmp_path: Path) -> None:
    """The numbers are those of the same calls."""
    study_workflow(load(1), tmp_path).run()
    storage = storage_factory(tmp_path)
    header = storage.info("study", "load_0000")
    storage.save("study", "load_0000", [0], metadata={**header, "seconds": 40})
    assert [0, 1] == study_workflow(load(2), tmp_path).run()
