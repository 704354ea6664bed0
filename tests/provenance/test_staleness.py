"""Edits of a small graph: the plan's reason for each node that differs, and the value that a fresh run gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import study
from study import (
    difference,
    fit,
    item_of,
    load,
    model,
    named,
    signs,
    study_workflow,
    sweep,
    train,
)

from functionfuse.errors import DamagedResultWarning
from functionfuse.plan import Action
from functionfuse.storage.kinds import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

COMPUTE, LOAD, MAYBE, SKIP = Action.COMPUTE, Action.LOAD, Action.MAYBE, Action.SKIP


@dataclass(frozen=True)
class Edit:
    """Two graphs, and what a run of the second does with what the first one stored."""

    name: str
    before: Callable[[], Any]
    after: Callable[[], Any]
    #: The plan of the nodes that are not skipped and not fresh: action and reason.
    plan: dict[str, tuple[Action, str]] = field(default_factory=dict)
    #: The functions that run.
    runs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


REPLACED = "function study.fit was replaced by study.train"
C_CHANGED = "argument C changed: 10 -> 0.001"
EDITS = [
    Edit("nothing", lambda: sweep(10, 1), lambda: sweep(10, 1)),
    Edit(
        "argument",
        lambda: sweep(10, 1),
        lambda: sweep(0.001, 1),
        {
            "fit-0": (COMPUTE, f"stale: {C_CHANGED}"),
            "table": (
                MAYBE,
                f"stale: upstream fit-0: {C_CHANGED}; kept if 'fit-0' gets the same value again",
            ),
        },
        ("fit(0.001,)", "table()"),
    ),
    Edit(
        "argument far upstream",
        lambda: sweep(1, count=5),
        lambda: sweep(1, count=6),
        {
            "data": (COMPUTE, "stale: argument count changed: 5 -> 6"),
            "fit-0": (
                MAYBE,
                "stale: upstream data: argument count changed: 5 -> 6; kept if 'data' gets the same value again",
            ),
            "table": (
                MAYBE,
                "stale: upstream data: argument count changed: 5 -> 6; kept if 'fit-0' gets the same value again",
            ),
        },
        ("load(6, 0)", "fit(1,)", "table()"),
    ),
    Edit(
        "one more node",
        lambda: sweep(10, 1),
        lambda: sweep(10, 1, 2),
        {
            "fit-2": (COMPUTE, "not stored; needed by 'table'"),
            "table": (COMPUTE, "stale: rows has 3 items instead of 2"),
        },
        ("fit(2,)", "table()"),
    ),
    Edit(
        "one node less",
        lambda: sweep(10, 1, 2),
        lambda: sweep(10, 1),
        {"table": (COMPUTE, "stale: rows has 2 items instead of 3")},
        ("table()",),
    ),
    Edit(
        "nodes in another order",
        lambda: difference("a", "b"),
        lambda: difference("b", "a"),
        {"difference": (COMPUTE, "stale: left is b instead of a; right is a instead of b")},
        ("subtract()",),
    ),
    Edit(
        "another input, which is stored",
        lambda: difference("a", "b"),
        lambda: difference("a", "a"),
        {"difference": (COMPUTE, "stale: right is a instead of b")},
        ("subtract()",),
    ),
    Edit(
        "item",
        lambda: item_of("even"),
        lambda: item_of("odd"),
        {"fit": (COMPUTE, "stale: data is parts['odd'] instead of parts['even']")},
        ("fit(1.0,)",),
    ),
    Edit(
        "container",
        lambda: sweep(10, 1),
        lambda: sweep(10, 1, container=tuple),
        {"table": (COMPUTE, "stale: argument rows changed")},
        ("table()",),
    ),
    Edit(
        "a new keyword",
        lambda: sweep(1),
        lambda: sweep(1, sort=True),
        {"table": (COMPUTE, "stale: argument sort is new: True")},
        ("table()",),
    ),
    Edit(
        "a keyword that is gone",
        lambda: sweep(1, sort=True),
        lambda: sweep(1),
        {"table": (COMPUTE, "stale: argument sort is no longer given; it was True")},
        ("table()",),
    ),
    Edit(
        "order of keywords",
        lambda: sweep(1, a=1, b=2),
        lambda: sweep(1, b=2, a=1),
        {"table": (COMPUTE, "stale: the order of arguments changed: rows, a, b -> rows, b, a")},
        ("table()",),
    ),
    Edit(
        "type of a literal",
        lambda: sweep(1),
        lambda: sweep(1.0),
        {
            "fit-0": (COMPUTE, "stale: argument C changed: 1 -> 1.0"),
            "table": (
                MAYBE,
                "stale: upstream fit-0: argument C changed: 1 -> 1.0; kept if 'fit-0' gets the same value again",
            ),
        },
        ("fit(1.0,)",),
    ),
    Edit(
        "another function",
        lambda: sweep(1),
        lambda: sweep(1, func=train),
        {
            "fit-0": (COMPUTE, f"stale: {REPLACED}"),
            "table": (
                MAYBE,
                f"stale: upstream fit-0: {REPLACED}; kept if 'fit-0' gets the same value again",
            ),
        },
        ("train(1,)", "table()"),
    ),
    Edit(
        "names are swapped",
        lambda: named("x", "y"),
        lambda: named("y", "x"),
        {
            "y": (
                COMPUTE,
                "stale: function study.train was replaced by study.fit; argument C changed: 3 -> 2",
            ),
            "x": (
                COMPUTE,
                "stale: function study.fit was replaced by study.train; argument C changed: 2 -> 3",
            ),
        },
        ("fit(2,)", "train(3,)"),
    ),
    Edit(
        "an input has another name",
        lambda: fit(load(4).set_name("data")).set_name("fit"),
        lambda: fit(load(4).set_name("raw")).set_name("fit"),
    ),
    Edit(
        "a node has another name",
        lambda: fit(load(4).set_name("data")).set_name("fit"),
        lambda: fit(load(4).set_name("data")).set_name("model"),
        {"model": (COMPUTE, "not stored; a target")},
        ("fit(1.0,)",),
    ),
    Edit(
        "argument of a constructor",
        lambda: model(1, 2, 3),
        lambda: model(2, 2, 3),
        {
            "model": (COMPUTE, "not stored; its instance is needed by 'see-0'"),
            "total": (COMPUTE, "stale: upstream model: its arguments or its class changed"),
        },
        ("Model(2,)", "see(2,)", "see(3,)", "total()"),
    ),
    Edit(
        "an earlier call of an instance",
        lambda: model(1, 2, 3),
        lambda: model(1, 5, 3),
        {"total": (COMPUTE, "stale: upstream see-0: argument value changed: 2 -> 5")},
        ("Model(1,)", "see(5,)", "see(3,)", "total()"),
    ),
    Edit(
        "one more call of an instance",
        lambda: model(1, 2),
        lambda: model(1, 2, 3),
        {"total": (COMPUTE, "stale: the call of its instance before it is see-1 instead of see-0")},
        ("Model(1,)", "see(2,)", "see(3,)", "total()"),
    ),
    Edit(
        "one call of an instance less",
        lambda: model(1, 2, 3),
        lambda: model(1, 2),
        {"total": (COMPUTE, "stale: the call of its instance before it is see-0 instead of see-1")},
        ("Model(1,)", "see(2,)", "total()"),
    ),
    Edit(
        "the same value upstream",
        lambda: signs(5),
        lambda: signs(6),
        {
            "data": (COMPUTE, "stale: argument count changed: 5 -> 6"),
            "sign": (
                MAYBE,
                "stale: upstream data: argument count changed: 5 -> 6; kept if 'data' gets the same value again",
            ),
            "fit": (
                MAYBE,
                "stale: upstream data: argument count changed: 5 -> 6; kept if 'sign' gets the same value again",
            ),
        },
        ("load(6, 0)", "sign()"),
    ),
    Edit("fewer targets", lambda: named("x", "y"), lambda: named("x", "y")[0]),
    Edit(
        "an intermediate result is a target",
        lambda: sweep(10, 1),
        lambda: (sweep(10, 1), load(2).set_name("other")),
        {"other": (COMPUTE, "not stored; a target")},
        ("load(2, 0)",),
    ),
]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_of_the_graph_is_honoured(edit: Edit, tmp_path: Path) -> None:
    """The plan tells what differs, and the run computes this and nothing else."""
    study_workflow(edit.before(), tmp_path / "old").run()
    fresh = study_workflow(edit.after(), None).run()
    made = study_workflow(edit.after(), tmp_path / "old")
    plan = {node.name: (node.action, node.reason) for node in made.plan()}
    assert fresh == made.run()
    assert edit.runs == tuple(study.calls)
    told = {name: plan[name] for name in edit.plan}
    assert edit.plan == told
    stale = {name for name, (_, reason) in plan.items() if reason.startswith("stale")}
    assert stale <= edit.plan.keys()
    again = study_workflow(edit.after(), tmp_path / "old")
    assert fresh == again.run()
    assert [] == [call for call in study.calls if not call.startswith("Model")]


# ---- several runs ----


def test_a_removed_intermediate_result_is_not_needed(tmp_path: Path) -> None:
    """What was computed from it is compared by the expected derivations."""
    study_workflow(sweep(10, 1), tmp_path).run()
    made = study_workflow(sweep(10, 1), tmp_path)
    assert ["fit-1"] == made.forget("fit-1", downstream=False)
    assert {} == study.reasons(made)
    made.run()
    assert [] == study.calls


def test_a_removed_intermediate_result_that_changed_is_noticed(tmp_path: Path) -> None:
    """Its dependents are stale, although nothing is stored of it."""
    study_workflow(sweep(10, 1), tmp_path).run()
    made = study_workflow(sweep(10, 2), tmp_path)
    made.forget("fit-1", downstream=False)
    expected = "compute, stale: upstream fit-1: it changed, and it is not stored"
    assert {"table": expected} == study.reasons(made)
    assert study_workflow(sweep(10, 2), None).run() == made.run()


def test_an_intermediate_result_is_computed_again_alone_and_then_the_end(tmp_path: Path) -> None:
    """The end was computed from the file that is no longer there."""
    study_workflow(sweep(10, 1), tmp_path).run()
    data = load(5).set_name("data")
    study_workflow(fit(data, C=7).set_name("fit-0"), tmp_path).run()
    made = study_workflow(sweep(7, 1), tmp_path)
    assert {"table": "compute, stale: fit-0 was computed again since"} == study.reasons(made)
    assert study_workflow(sweep(7, 1), None).run() == made.run()


def test_an_intermediate_result_is_changed_alone_and_the_end_is_asked_for_as_before(
    tmp_path: Path,
) -> None:
    """The end is what the graph gives, so it is loaded, and nothing asks for the other file."""
    study_workflow(sweep(10, 1), tmp_path).run()
    study_workflow(fit(load(5).set_name("data"), C=7).set_name("fit-0"), tmp_path).run()
    made = study_workflow(sweep(10, 1), tmp_path)
    assert {} == study.reasons(made)
    made.run()
    assert [] == study.calls


def test_there_and_back(tmp_path: Path) -> None:
    """Each edit is honoured, also the one that takes an edit back."""
    for cost in (10, 1, 10):
        made = study_workflow(sweep(cost), tmp_path)
        assert study_workflow(sweep(cost), None).run() == made.run()


def test_a_node_that_always_runs_counts_by_its_derivation(tmp_path: Path) -> None:
    """It runs, and its dependents are stale if its arguments differ, and only then."""

    def made(cost: float) -> Any:
        workflow = study_workflow(sweep(cost), tmp_path)
        workflow.always_run("fit-0")
        return workflow

    made(10).run()
    assert {} == study.reasons(made(10))
    assert study_workflow(sweep(10), None).run() == made(10).run()
    again = made(10)
    again.run()
    note = "'table' loaded, whatever 'fit-0' returns, which always runs"
    assert f"workflow 'study': 1 computed, 2 loaded; {note}" == again.report.summary()
    assert ["fit(10,)"] == study.calls
    assert study_workflow(sweep(1), None).run() == made(1).run()
    assert ["fit(1,)", "table()"] == study.calls


def test_a_replaced_function_counts(tmp_path: Path) -> None:
    """`replace_func` is an edit of the graph."""
    study_workflow(sweep(1), tmp_path).run()
    made = study_workflow(sweep(1), tmp_path)
    made.replace_func("fit-0", train)
    assert f"compute, stale: {REPLACED}" == study.reasons(made)["fit-0"]
    assert study_workflow(sweep(1, func=train), None).run() == made.run()


def test_a_result_with_a_damaged_header_is_computed(tmp_path: Path) -> None:
    """The plan cannot tell more than that its header is unreadable; the run finds the damage, and says so."""
    study_workflow(sweep(1), tmp_path).run()
    file = tmp_path / "study" / "table"
    content = bytearray(file.read_bytes())
    content[200] ^= 1  # in the header
    file.write_bytes(content)
    made = study_workflow(sweep(1), tmp_path)
    planned = made.plan()["table"]
    assert LOAD is planned.action
    assert "unknown: its header cannot be read" in planned.reason
    with pytest.warns(DamagedResultWarning, match="'table' is damaged"):
        assert study_workflow(sweep(1), None).run() == made.run()
    assert made.report is not None
    assert "computed" == made.report["table"].status


def test_a_resumed_run_reads_one_header(tmp_path: Path) -> None:
    """A finished graph needs the header of its target only, and an edit those of the nodes on the way to it."""
    study_workflow(sweep(10, 1, 2), tmp_path).run()
    assert [["table"]] == headers_read(sweep(10, 1, 2), tmp_path)
    assert [["table"], ["fit-1"], ["data"]] == headers_read(sweep(10, 5, 2), tmp_path)
    assert [["table"], ["fit-0", "fit-1", "fit-2"], ["data"]] == headers_read(
        sweep(10, 1, 2, count=6), tmp_path
    )


def headers_read(nodes: Any, path: Path) -> list[list[str]]:
    """The names in each call of the storage for headers, when a plan is made."""
    storage = _Recorded(path)
    study_workflow(nodes, storage).plan()
    return storage.read


class _Recorded(FileStorage):
    """Records the names in each request for headers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: list[list[str]] = []

    def info_many(self, workflow_name: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Note the names."""
        self.read.append(list(names))
        return super().info_many(workflow_name, self.read[-1])
