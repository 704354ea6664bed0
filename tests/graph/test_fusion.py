"""Which nodes are fused because they are cheap: pure functions of the graph and of what nodes took."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse import workflow
from functionfuse._execution.durations import expected_seconds
from functionfuse._execution.run_spec import RunSpec
from functionfuse._execution.scheduler import Scheduler
from functionfuse._graph.builder import build
from functionfuse._graph.fusion import fuse_short_nodes
from functionfuse.backends.builtin.localback import LocalEngine, LocalWorkflow
from functionfuse.storage import storage_factory
from functionfuse.storage.base import Results
from functionfuse.testing.programs import Program, describe
from functionfuse.testing.strategies import graphs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from functionfuse._graph.graph import Graph

CHEAP = 0.001


@workflow
def take(*parents: Any) -> int:
    """Count the dependencies."""
    return len(parents)


@workflow
def other(*parents: Any) -> int:
    """Count the dependencies too."""
    return len(parents)


def named(name: str, *parents: Any) -> Any:
    """A node of this name."""
    return take(*parents).set_name(name)


def groups(
    *targets: Any,
    seconds: Mapping[str, float] | None = None,
    kinds: Mapping[str, object] | None = None,
    threshold: float = 1.0,
) -> list[list[str]]:
    """The groups of a graph; by default all of its nodes are cheap."""
    graph = build(targets)
    taken = {**dict.fromkeys(graph.nodes, CHEAP), **(seconds or {})}
    return [list(group) for group in fuse_short_nodes(graph, taken, kinds or {}, threshold).groups]


# ---- which groups ----


def test_chain() -> None:
    """Nodes one after the other are one group."""
    first = named("a")
    assert [["a", "b", "c"]] == groups(named("c", named("b", first)))


def test_siblings() -> None:
    """Independent nodes and those that take the same are groups; what takes them all joins a single one."""
    source = named("source")
    readers = [named(f"r{number}", source) for number in range(3)]
    assert [["source", "r0", "r1", "r2", "all"]] == groups(named("all", *readers))


def test_layers() -> None:
    """Layers in which everything depends on everything are one group: nothing is lost by it."""
    names = [f"n{number}" for number in range(9)]
    row = [named(name) for name in names[:3]]
    row = [named(name, *row) for name in names[3:6]]
    row = [named(name, *row) for name in names[6:]]
    assert [names] == groups(*row)


def test_groups_are_not_too_long() -> None:
    """A group lasts at most five times as long as a node that is not cheap: parallel work stays parallel."""
    nodes = [named(f"n{number}") for number in range(12)]
    taken = {f"n{number}": 0.9 for number in range(12)}
    lengths = [len(group) for group in groups(*nodes, seconds=taken)]
    assert [5, 5, 2] == lengths


def test_long_nodes_stay_by_themselves() -> None:
    """A node that is not cheap is in no group, and one of which nothing is known neither."""
    chain = named("d", named("long", named("b", named("a"))))
    assert [["a", "b"]] == groups(named("e", chain), seconds={"long": 1.0, "d": 1.0})
    graph = build([named("c", named("unknown", named("a")))])
    assert () == fuse_short_nodes(graph, {"a": CHEAP, "c": CHEAP}, {}, 1.0).groups


def test_nothing_waits_for_what_it_does_not_need() -> None:
    """Cheap nodes that wait for different long ones are not grouped."""
    ends = [named(f"end{number}", named(f"long{number}")) for number in range(2)]
    taken = {"long0": 2.0, "long1": 2.0}
    assert [] == groups(*ends, seconds=taken)
    both = [named(f"both{number}", *ends) for number in range(2)]
    assert [["both0", "both1"]] == groups(*both, seconds=taken)


def test_kinds_stay_apart() -> None:
    """Nodes with different options or plugins are in different groups."""
    nodes = [named(f"n{number}") for number in range(4)]
    kinds = {"n0": "even", "n1": "odd", "n2": "even", "n3": "odd"}
    assert [["n0", "n2"], ["n1", "n3"]] == groups(*nodes, kinds=kinds)


def test_groups_that_were_asked_for_stay() -> None:
    """A group that the user requests stays a separate group, and nothing is added to it."""
    chain = named("d", named("c", named("b", named("a"))))
    graph = build([chain]).fuse(["b", "c"], {})
    fused = fuse_short_nodes(graph, dict.fromkeys(graph.nodes, CHEAP), {}, 1.0)
    assert (("b", "c"),) == fused.groups


def sound(graph: Graph, seconds: Mapping[str, float], kinds: Mapping[str, object]) -> None:
    """Check what holds for all groups."""
    names = [name for group in graph.groups for name in group]
    assert len(names) == len(set(names))
    for group in graph.groups:
        assert len(group) > 1
        assert all(seconds[name] < 1.0 for name in group)
        assert 1 == len({kinds[name] for name in group})
        assert sum(seconds[name] for name in group) <= 5.0
    unit = {name: group[0] for group in graph.groups for name in group}
    order = [node.name for node in graph.order]
    needs: dict[str, set[str]] = {}
    for node in graph.order:
        own = unit.get(node.name, node.name)
        parents = {unit.get(order[parent], order[parent]) for parent in node.parents}
        needs.setdefault(own, set()).update(parents - {own})
    TopologicalSorter(needs).prepare()  # raises where units wait for each other


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.integers(0, 1_000), max_size=4), min_size=1, max_size=40), st.data())
def test_groups_are_sound(parents_of: list[list[int]], data: st.DataObject) -> None:
    """In any graph, groups are disjoint, of cheap nodes of one kind, short, and never wait for each other."""
    nodes: list[Any] = [named("n")]
    for number, parents in enumerate(parents_of):
        nodes.append(named(f"n{number}", *[nodes[parent % len(nodes)] for parent in parents]))
    graph = build(nodes)
    seconds = {name: data.draw(st.sampled_from([0.0, 0.3, 0.9, 3.0])) for name in graph.nodes}
    kinds = {name: data.draw(st.integers(0, 1)) for name in graph.nodes}
    sound(fuse_short_nodes(graph, seconds, kinds, 1.0), seconds, kinds)


@settings(deadline=None, max_examples=200)
@given(graphs(), st.data())
def test_results_are_the_same(program: Program, data: st.DataObject) -> None:
    """With any nodes fused because they are short, the results are those of plain Python."""
    graph = build(program.nodes())
    seconds = {name: data.draw(st.sampled_from([0.0, 0.9, 3.0])) for name in graph.nodes}
    fused = fuse_short_nodes(graph, seconds, {}, 1.0)
    values = Scheduler[Any](RunSpec(fused, "fused"), LocalEngine()).execute()
    assert [describe(value) for value in program.values()] == [describe(value) for value in values]


# ---- how long nodes take ----


def test_what_a_node_took_in_the_last_run() -> None:
    """A node takes what it took; one that did not run takes the average of its function; else nothing is known."""
    made = LocalWorkflow(take(take()), workflow_name="timed")
    made.run()
    assert made.report is not None
    own = [record.seconds for record in made.report]
    graph = build([take(take()), take().set_name("new"), other()])
    expected = {"take_0000": own[0], "take_0001": own[1], "new": pytest.approx(sum(own) / 2)}
    assert expected == expected_seconds(graph, made.report.durations if made.report else {}, None)


def test_what_stored_results_say(tmp_path: Path) -> None:
    """Without a last run, the headers of stored results tell what nodes of a function take."""
    storage = storage_factory({"kind": "file", "options": {"path": str(tmp_path)}})
    for name, seconds in (("a", 1.0), ("b", 3.0)):
        storage.save("timed", name, 0, metadata={"seconds": seconds})
    storage.save("timed", "untold", 0)
    graph = build([named("a"), named("b"), named("c"), other().set_name("untold")])
    results = Results(storage, "timed")
    assert {"a": 1.0, "b": 3.0, "c": 2.0} == expected_seconds(graph, {}, results)


def test_nothing_is_known() -> None:
    """Without a run and a storage nothing is known, and nothing is fused."""
    graph = build([named("a", named("b"))])
    assert {} == expected_seconds(graph, {}, None)
