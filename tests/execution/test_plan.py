"""Plans: the action for each node, and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse import workflow
from functionfuse._graph.builder import build
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.plan import Action, Plan, make_plan
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functionfuse._graph.graph import Graph

COMPUTE, LOAD, SKIP = Action.COMPUTE, Action.LOAD, Action.SKIP


@workflow
def collect(*values: Any) -> Any:
    """Give back what was given."""
    return values


@workflow
class Accumulator:
    """Adds up."""

    def __init__(self, start: Any = 0) -> None:
        """Begin somewhere."""
        self.values = [start]

    def add(self, value: Any) -> int:
        """Go on."""
        self.values.append(value)
        return len(self.values)


def chain() -> Graph:
    """Three nodes, each taking the one before."""
    first = collect(1).set_name("first")
    return build([collect(collect(first).set_name("second")).set_name("third")])


def stateful(*targets: str) -> Graph:
    """An instance, two calls of it, and a reader of each."""
    accumulator: Any = Accumulator(collect(1).set_name("start"))
    accumulator.set_name("acc")
    one = accumulator.add(1).set_name("one")
    two = accumulator.add(one).set_name("two")
    nodes = {"two": two, "reader": collect(one).set_name("reader"), "acc": accumulator}
    return build([nodes[name] for name in targets])


def actions(graph: Graph, stored: set[str], always_run: set[str] = frozenset()) -> list[Action]:  # type: ignore[assignment]
    """The action planned for each node, in graph order."""
    return list(make_plan(graph, stored, always_run).actions.values())


# ---- functions ----


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (set(), [COMPUTE, COMPUTE, COMPUTE]),
        ({"first"}, [LOAD, COMPUTE, COMPUTE]),
        ({"second"}, [SKIP, LOAD, COMPUTE]),
        ({"first", "second"}, [SKIP, LOAD, COMPUTE]),
        ({"third"}, [SKIP, SKIP, LOAD]),
        ({"first", "third"}, [SKIP, SKIP, LOAD]),
        ({"of another graph"}, [COMPUTE, COMPUTE, COMPUTE]),
    ],
)
def test_stored_nodes_stop_the_walk(stored: set[str], expected: list[Action]) -> None:
    """A target's ancestors are needed as far as no result on the way is stored."""
    assert expected == actions(chain(), stored)


def test_a_stored_target_that_something_computed_needs_is_loaded_once() -> None:
    """A node that is a target and a dependency is loaded, and nodes upstream of it are skipped."""
    first = collect(1).set_name("first")
    second = collect(first).set_name("second")
    graph = build([second, collect(second).set_name("third")])
    assert [SKIP, LOAD, COMPUTE] == actions(graph, {"second"})


def test_a_logged_node_always_runs() -> None:
    """The node runs with its dependencies, also upstream of stored results, and even if it is stored itself."""
    assert [COMPUTE, COMPUTE, LOAD] == actions(chain(), {"second", "third"}, {"second"})
    assert [LOAD, COMPUTE, LOAD] == actions(chain(), {"first", "third"}, {"second"})


# ---- instances ----


def test_methods_are_computed_with_the_calls_before_them() -> None:
    """The instance is not stored: a method call requires the earlier calls to run again."""
    assert [COMPUTE] * 4 == actions(stateful("two"), set())
    assert [COMPUTE] * 4 == actions(stateful("two"), {"one"})
    assert [LOAD, COMPUTE, COMPUTE, COMPUTE] == actions(stateful("two"), {"start", "acc", "one"})


def test_a_stored_method_needs_no_instance() -> None:
    """A method's result is loaded like any other result."""
    assert [SKIP, SKIP, SKIP, LOAD] == actions(stateful("two"), {"two"})
    graph = stateful("reader")
    assert ["start", "acc", "one", "reader"] == list(graph.nodes)
    assert [SKIP, SKIP, LOAD, COMPUTE] == actions(graph, {"one"})


def test_an_instance_as_a_target_is_computed() -> None:
    """An instance is made again with all its calls, whatever is stored."""
    assert [LOAD, COMPUTE, COMPUTE, COMPUTE] == actions(
        stateful("acc"), {"start", "acc", "one", "two"}
    )


# ---- any graph ----


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A random graph of functions, instances, their methods and readers of both."""
    nodes: list[Any] = [collect(), Accumulator()]
    for _ in range(draw(st.integers(0, 12))):
        parents = draw(st.lists(st.sampled_from(nodes), max_size=3))
        instances = [node for node in nodes if hasattr(node, "add")]
        kind = draw(st.sampled_from(["collect", "collect", "construct", "method"]))
        if kind == "collect":
            nodes.append(collect(parents))
        elif kind == "construct":
            nodes.append(Accumulator(parents))
        else:
            nodes.append(draw(st.sampled_from(instances)).add(parents))
    return build(draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3)))


def wanted(graph: Graph, plan: Plan, slots: tuple[str, ...]) -> set[str]:
    """The nodes whose value, or only whose instance, a target or a computed node consumes."""
    computed = [graph.nodes[name] for name in plan.names(COMPUTE)]
    if slots == ("state",):
        numbers = {number for node in computed for number in node.instance_parents}
    else:
        numbers = {number for node in computed for number in node.parents}
    numbers |= {ref.number for ref in graph.targets if ref.slot in slots}
    return {graph.order[number].name for number in numbers}


@settings(deadline=None, max_examples=300)
@given(graphs(), st.data())
def test_a_plan_is_complete_and_nothing_more(graph: Graph, data: st.DataObject) -> None:
    """With any stored results, required results are available, and no others are computed or loaded.

    A node is needed if it is a target or a computed node depends on it.
    It is computed only if it always runs, or is needed and not stored, or its instance is needed;
    it is loaded only if it is stored and needed.
    These determine a plan, since dependencies come before dependents.
    """
    names = st.sets(st.sampled_from(list(graph.nodes)))
    stored, always_run = data.draw(names, "stored"), data.draw(names, "logged")
    plan = make_plan(graph, stored, always_run)
    needed = wanted(graph, plan, ("value", "state"))
    instances = wanted(graph, plan, ("state",))
    computed, loaded = set(plan.names(COMPUTE)), set(plan.names(LOAD))
    assert computed == always_run | (needed - stored) | instances
    assert loaded == (needed & stored) - computed


@settings(deadline=None, max_examples=100)
@given(graphs(), st.data())
def test_a_run_does_what_the_plan_says(graph: Graph, data: st.DataObject) -> None:
    """Each value that a computed node consumes is available before it runs."""
    stored = data.draw(st.sets(st.sampled_from(list(graph.nodes))), "stored")
    there: set[str] = set()
    for node, planned in zip(graph, make_plan(graph, stored), strict=True):
        if planned.action is COMPUTE:
            assert {graph.order[number].name for number in node.parents} <= there
        if planned.action is not SKIP:
            there.add(node.name)
    assert {ref.node for ref in graph.targets} <= there


# ---- reasons ----


def reasons(graph: Graph, stored: set[str], always_run: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """The reason for each node, in graph order."""
    return [node.reason for node in make_plan(graph, stored, always_run)]


def test_reasons_name_the_dependents_of_a_node() -> None:
    """Each node says whether it is stored, and names its dependents."""
    assert [
        "not stored; needed by 'second'",
        "not stored; needed by 'third'",
        "not stored; a target",
    ] == reasons(chain(), set())


def test_reasons_say_that_a_node_has_no_dependents() -> None:
    """A skipped node is reported as such, stored or not."""
    assert [
        "not stored; nothing that is computed needs it",
        "stored; nothing that is computed needs it",
        "stored; a target",
    ] == reasons(chain(), {"second", "third"})


def test_reasons_name_nodes_that_always_run() -> None:
    """A node that always runs says so."""
    assert [
        "stored; needed by 'second'",
        "always runs and is never stored",
        "stored; a target; the value of 'second', which always runs, is not compared",
    ] == reasons(chain(), {"first", "third"}, {"second"})


def test_reasons_of_loaded_results_name_nodes_upstream_that_always_run() -> None:
    """Also where nodes between them are skipped; a computed node has their values."""
    not_compared = "; the value of 'first', which always runs, is not compared"
    assert [
        "always runs and is never stored",
        "stored; nothing that is computed needs it",
        f"stored; a target{not_compared}",
    ] == reasons(chain(), {"second", "third"}, {"first"})
    assert [
        "always runs and is never stored",
        f"stored; needed by 'third'{not_compared}",
        "not stored; a target",
    ] == reasons(chain(), {"second"}, {"first"})


def test_reasons_tell_of_instances() -> None:
    """A stored method that runs again says for whose sake."""
    assert [
        "not stored; needed by 'acc'",
        "not stored; its instance is needed by 'one'",
        "stored; its instance is needed by 'two'",
        "not stored; a target",
    ] == reasons(stateful("two"), {"one"})


# ---- a workflow's plan ----


@pytest.fixture
def resumed(tmp_path: Path) -> LocalWorkflow:
    """A workflow of three nodes, of which the second is stored."""
    first = collect(1).set_name("first")
    third = collect(collect(first).set_name("second")).set_name("third")
    planned = LocalWorkflow(third, workflow_name="planned")
    storage = storage_factory({"kind": "file", "options": {"path": tmp_path}})
    storage.save("planned", "second", 2)
    storage.save("another", "third", 3)
    planned.set_storage(storage)
    return planned


def test_a_workflow_plans_by_its_own_storage(resumed: LocalWorkflow) -> None:
    """Only results under the workflow's own name count."""
    plan = resumed.plan()
    assert [SKIP, LOAD, COMPUTE] == [node.action for node in plan]
    assert ["third"] == plan.names(COMPUTE)
    assert ("second", LOAD) == (plan["second"].name, plan["second"].action)
    assert 3 == len(plan)


def test_planning_checks_the_storage_again_and_runs_nothing(resumed: LocalWorkflow) -> None:
    """A plan shows what is stored now, and asking for it computes and stores nothing."""
    assert resumed.plan().actions == resumed.plan().actions
    resumed.run()
    assert [SKIP, SKIP, LOAD] == [node.action for node in resumed.plan()]


def test_a_plan_prints_as_a_table(resumed: LocalWorkflow) -> None:
    """A header and one aligned line for each node, in graph order."""
    header, rule, *lines = str(resumed.plan()).splitlines()
    assert ["node", "action", "reason"] == header.split()
    assert set(rule) <= set("─ ")
    assert [
        ["first", "skip", "not", "stored;", "nothing"],
        ["second", "load", "unknown:", "stored", "before"],
        ["third", "compute", "not", "stored;", "a"],
    ] == [line.split()[:5] for line in lines]
    assert 1 == len({line.index(word) for line, word in zip(lines, (" not ", " unknown", " not "))})  # noqa: B905


def test_a_printed_plan_is_not_wrapped() -> None:
    """Long names and names that look like markup stay whole."""
    name = "[bold]" + "long " * 100 + "name"
    plan = make_plan(build([collect().set_name(name)]), set())
    assert name in str(plan)


def test_notebooks_show_a_plan_as_a_table() -> None:
    """Each node is a row of HTML; what HTML would read is escaped."""
    graph = build([collect().set_name("<b>&")])
    html = make_plan(graph, set())._repr_html_()
    assert "<tr><th>node</th><th>action</th><th>reason</th></tr>" in html
    assert "<tr><td>&lt;b&gt;&amp;</td><td>compute</td><td>not stored; a target</td></tr>" in html


def test_repr_of_a_plan_is_short() -> None:
    """Where a plan is one value among others, it says how much it holds."""
    graph = chain()
    assert "<plan: 1 compute, 1 load, 1 skip>" == repr(make_plan(graph, {"second"}))


@pytest.mark.parametrize("change", [dict.clear, lambda actions: actions.update(first=LOAD)])
def test_a_plan_cannot_be_changed(change: Callable[[Any], object]) -> None:
    """A plan is read-only."""
    with pytest.raises((AttributeError, TypeError)):
        change(make_plan(chain(), set()).actions)
