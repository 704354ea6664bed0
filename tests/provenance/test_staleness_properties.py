"""Random graphs, random edits: a resumed run gives what a fresh run gives, and computes nothing that is stored."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse._graph.nodes import Kind
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.plan import Action
from functionfuse.storage import storage_factory
from functionfuse.testing.programs import describe
from functionfuse.testing.strategies import edited_graphs

if TYPE_CHECKING:
    import pytest

    from functionfuse.testing.programs import Program


def resume(program: Program, storage: Any, **options: Any) -> LocalWorkflow:
    """A workflow of a program, with the storage of an earlier one."""
    made = LocalWorkflow(*program.nodes(), workflow_name="edited")
    made.set_storage(storage, **options)
    return made


def needs_no_run(made: LocalWorkflow, storage: Any) -> set[str]:
    """The nodes whose expected derivation is stored, and whose results alone are needed."""
    plan = made.plan()
    assert plan.provenance is not None
    headers = storage.info_many("edited", storage.list_tasks("edited"))
    stored = {
        name: (header["fingerprint"] or {}).get("derivation") for name, header in headers.items()
    }
    return {
        node.name
        for node in made.graph
        if stored.get(node.name) == plan.provenance.expected(node.number)
        and node.kind is Kind.FUNCTION  # a method may run for its instance
    }


@settings(deadline=None, max_examples=40)
@given(edited_graphs(6), st.lists(st.sets(st.integers(0, 9), max_size=4), min_size=4, max_size=4))
def test_a_resumed_run_gives_what_a_fresh_run_gives(
    tmp_path_factory: pytest.TempPathFactory, programs: list[Program], removals: list[set[int]]
) -> None:
    """Through several edits, with results that are removed in between; what is stored and expected never runs."""
    storage = storage_factory({"kind": "file", "options": {"path": tmp_path_factory.mktemp("s")}})
    for program, removed in zip(programs, removals, strict=True):
        made = resume(program, storage)
        stored = needs_no_run(made, storage)
        plan = made.plan()
        values = made.run()
        values = values if len(program.targets) > 1 else [values]
        assert describe(program.values()) == describe(values)
        assert made.report is not None
        assert set() == set(made.report.names("computed")) & stored
        assert set(plan.names(Action.COMPUTE)) <= set(made.report.names("computed"))
        assert [] == resume(program, storage).plan().names(Action.MAYBE)
        names = list(made.graph.nodes)
        for name in {names[number % len(names)] for number in removed}:
            if storage.file_exists("edited", name):
                storage.remove_task("edited", name)


@settings(deadline=None, max_examples=40)
@given(
    edited_graphs(6),
    st.lists(st.sets(st.integers(0, 9), max_size=6), min_size=4, max_size=4),
    st.lists(st.sets(st.integers(0, 9), max_size=3), min_size=4, max_size=4),
)
def test_results_of_stale_results_do_not_become_fresh(
    tmp_path_factory: pytest.TempPathFactory,
    programs: list[Program],
    ignored: list[set[int]],
    removals: list[set[int]],
) -> None:
    """Runs that load stale results of some nodes store what was used: a later run without them is right."""
    storage = storage_factory({"kind": "file", "options": {"path": tmp_path_factory.mktemp("s")}})
    for program, names, removed in zip(programs, ignored, removals, strict=True):
        made = resume(program, storage)
        nodes = list(made.graph.nodes)
        for name in {nodes[number % len(nodes)] for number in names}:
            made.query(re.escape(name)).set_on_stale("ignore")
        with suppress(Exception):  # a stale result may lack an item that is taken
            made.run()
        for name in {nodes[number % len(nodes)] for number in removed}:
            if storage.file_exists("edited", name):
                storage.remove_task("edited", name)
    values = resume(programs[-1], storage).run()
    values = values if len(programs[-1].targets) > 1 else [values]
    assert describe(programs[-1].values()) == describe(values)
