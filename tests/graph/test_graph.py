"""The graph of a workflow: order, names, targets, editing and pictures."""

from __future__ import annotations

import dataclasses
import pickle
import re
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functionfuse import workflow
from functionfuse._graph.builder import build
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import DuplicateNameError, GraphError, NotANodeError

if TYPE_CHECKING:
    from functionfuse._graph.graph import Graph


@workflow
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@workflow
def collect(values: Any) -> Any:
    """Give back what was given."""
    return values


@workflow
class IncrementalSum:
    """Adds up."""

    def __init__(self, start: int) -> None:
        """Begin somewhere."""
        self.total = start

    def add(self, number: int) -> int:
        """Go on."""
        self.total += number
        return self.total


def name_it(instance: Any, name: str) -> Any:
    """Name an instance, which type checkers take for the plain object: they skip class decorators."""
    return instance.set_name(name)


def names(*targets: Any) -> list[str]:
    """The names of the nodes, in graph order."""
    return list(build(targets).nodes)


# ---- order ----


def test_nodes_are_in_the_order_of_their_calls() -> None:
    """The order of the targets and of the arguments does not matter."""
    first, second = add(1).set_name("first"), add(2).set_name("second")
    third = add(second, first).set_name("third")
    assert ["first", "second", "third"] == names(third, second, first)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 1_000), max_size=4), min_size=1, max_size=20))
def test_dependencies_come_first(parents_of: list[list[int]]) -> None:
    """In any graph, a node comes after all of its dependencies, and has each of them once."""
    nodes: list[Any] = [collect([])]
    for parents in parents_of:
        nodes.append(collect([nodes[parent % len(nodes)] for parent in parents]))
    for node in build(nodes):
        assert all(parent < node.number for parent in node.parents)
        assert len(node.parents) == len(set(node.parents))


def test_numbers_are_positions() -> None:
    """A node's number is its index in the order."""
    graph = build([add(add(add(1)))])
    assert [0, 1, 2] == [node.number for node in graph]
    assert graph.order == tuple(graph)
    assert 3 == len(graph)


def test_only_dependencies_of_targets_are_in_the_graph() -> None:
    """Nodes that no target depends on are omitted, also dependents of nodes that a target depends on."""
    source = add(1).set_name("source")
    add(source).set_name("other")
    assert ["source", "target"] == names(add(source).set_name("target"))


def test_dependencies_are_found_everywhere() -> None:
    """Nodes in items, keywords and nested containers belong to the graph."""
    nodes = [add(number).set_name(f"n{number}") for number in range(4)]
    target = collect(values={"k": [nodes[0], (nodes[1][0], {nodes[2]})], nodes[3]: 0})
    assert ["n0", "n1", "n2", "n3", "target"] == names(target.set_name("target"))


@pytest.mark.parametrize("position", range(4))
def test_arguments_are_not_compared(position: int) -> None:
    """A value without a boolean ==, as an array, may be anywhere next to nodes, items and lists of nodes."""
    given: list[Any] = [add(1), [add(2), add(3)], collect([4])[0]]
    given.insert(position, Incomparable())

    found = LocalWorkflow(workflow(listed)(*given), workflow_name="graph").run()

    assert type(found.pop(position)) is Incomparable
    assert [2, [3, 4], 4] == found


class Incomparable:
    """Refuses to be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        message = "neither true nor false"
        raise ValueError(message)


def listed(*values: Any) -> list[Any]:
    """Give back what was given."""
    return list(values)


def test_calls_of_an_instance_need_the_calls_before() -> None:
    """A method call depends on the constructor and on every earlier call of the instance."""
    accumulator: Any = name_it(IncrementalSum(0), "acc")
    accumulator.add(1).set_name("one")
    two = accumulator.add(2).set_name("two")
    accumulator.add(3).set_name("three")
    assert ["acc", "one", "two"] == names(two)


def test_a_very_deep_chain_is_built() -> None:
    """The depth of a graph is not limited by Python's stack."""
    node = add(0)
    for _ in range(99_999):
        node = add(node)
    graph = build([node])
    assert 100_000 == len(graph)
    assert (99_998,) == graph.order[-1].parents
    assert 100_000 == LocalWorkflow(node, workflow_name="deep").run()


# ---- names ----


def test_nodes_without_a_name_are_counted_by_function() -> None:
    """Nodes without a name are named after their function, and numbered in the order of their calls."""
    assert ["add_0000", "add_0001", "collect_0000"] == names(collect([add(1), add(2)]))


def test_names_are_counted_within_the_graph() -> None:
    """Calls that do not belong to the graph do not count."""
    for number in range(3):
        add(number)
    assert ["add_0000", "collect_0000"] == names(collect([add(1)]))


def test_named_nodes_do_not_count() -> None:
    """Only nodes without a name take the next number."""
    assert ["add_0000", "named", "add_0001"] == names(add(1), add(2).set_name("named"), add(3))


def test_a_cell_that_is_run_again_gives_the_same_names() -> None:
    """A notebook finds its stored results, whatever was called before."""

    def cell() -> list[str]:
        accumulator: Any = IncrementalSum(add(1))
        accumulator.add(add(2))
        return names(accumulator, collect([accumulator.add(3)]))

    first = cell()
    assert [
        "add_0000",
        "IncrementalSum_0000",
        "add_0001",
        "IncrementalSum.add_0000",
        "IncrementalSum.add_0001",
        "collect_0000",
    ] == first
    assert first == cell()


def test_locals_is_omitted_from_names() -> None:
    """A function defined in a function is called after both, without `<locals>`."""

    @workflow
    def inner() -> None: ...

    assert ["test_locals_is_omitted_from_names.inner_0000"] == names(inner())


def test_two_functions_of_one_name_share_a_counter() -> None:
    """Nodes of different functions never get the same name."""

    def make(value: int) -> Any:
        @workflow
        def inner() -> int:
            return value

        return inner()

    graph = build([make(1), make(2)])
    assert ["0000", "0001"] == [name.rpartition("_")[2] for name in graph.nodes]
    assert [1, 2] == [node.func() for node in graph]


def test_the_name_of_a_node_is_looked_at_when_the_graph_is_made() -> None:
    """A name that is set later belongs to later workflows; an earlier graph keeps its own."""
    node = add(1)
    before = build([node])
    node.set_name("later")
    assert (["add_0000"], ["later"]) == (list(before.nodes), names(node))


def test_two_nodes_with_one_name_are_refused() -> None:
    """The error names both lines of the user's file and says what to do."""
    first, first_line = add(1).set_name("twin"), sys._getframe().f_lineno
    second, second_line = add(2).set_name("twin"), sys._getframe().f_lineno
    with pytest.raises(DuplicateNameError, match=r"'twin'.*set_name\(\)") as refusal:
        build([first, second])
    places = re.findall(r"test_graph\.py:\d+", str(refusal.value))
    assert [f"test_graph.py:{first_line}", f"test_graph.py:{second_line}"] == places


def test_a_given_name_and_a_counted_one_may_not_be_the_same() -> None:
    """A name that the library gives never hides one that the user gave."""
    with pytest.raises(DuplicateNameError, match="'add_0000'"):
        build([add(1).set_name("add_0000"), add(2)])


def test_one_node_many_times_is_one_step() -> None:
    """A node that is a target twice, or a target and a dependency, has its name once."""
    node = add(1).set_name("once")
    assert ["once", "collect_0000"] == names(node, node, collect([node, node[0]]))


def test_a_node_may_be_in_many_graphs() -> None:
    """Graphs do not know of one another."""
    node = add(1)
    assert [["add_0000"], ["add_0000", "add_0001"]] == [names(node), names(add(node))]


# ---- targets ----


@pytest.mark.parametrize("target", [3, None, "add_0000", add, object()])
def test_targets_that_are_not_nodes_are_refused(target: Any) -> None:
    """The error shows what was given instead of a node."""
    with pytest.raises(NotANodeError, match="takes the nodes to compute, not") as error:
        LocalWorkflow(target, workflow_name="targets")
    assert repr(target) in str(error.value)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_nodes_is_refused_with_what_to_write(kind: type) -> None:
    """Several targets are separate arguments."""
    with pytest.raises(NotANodeError, match=r"separate arguments: Workflow\(\*nodes\)"):
        LocalWorkflow(kind([add(1), add(2)]), workflow_name="targets")


def test_a_workflow_needs_a_target() -> None:
    """A workflow of nothing is a mistake."""
    with pytest.raises(NotANodeError, match="at least one node"):
        LocalWorkflow(workflow_name="targets")


def test_targets_are_values_items_and_instances() -> None:
    """Each target is a reference to what was given, in that order."""
    accumulator: Any = name_it(IncrementalSum(0), "acc")
    node = collect([1, 2]).set_name("node")
    targets = build([node[1], accumulator, node]).targets
    assert [("node", (1,), "value"), ("acc", (), "state"), ("node", (), "value")] == [
        (ref.node, ref.path, ref.slot) for ref in targets
    ]
    assert "node[1]" == str(targets[0])


# ---- a graph does not change ----


def test_a_graph_cannot_be_changed() -> None:
    """Steps, their fields and the targets are read-only."""
    graph: Any = build([add(1)])
    node = graph.nodes["add_0000"]
    with pytest.raises(TypeError):
        graph.nodes["add_0000"] = node
    with pytest.raises(AttributeError):
        node.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.targets = ()


def test_a_deep_graph_can_be_pickled() -> None:
    """A graph that is pickled, as in a flow that Prefect serves, may be of any depth."""
    node: Any = 0
    for _ in range(5 * sys.getrecursionlimit()):
        node = add(node)
    graph = build([node])

    copy = pickle.loads(cloudpickle.dumps(graph))

    assert list(graph.nodes) == list(copy.nodes)
    assert [node.parents for node in graph] == [node.parents for node in copy]


def test_making_and_running_a_workflow_does_not_change_nodes() -> None:
    """Nothing of a workflow is kept on a node, not even its name in it."""
    node = add(add(1))
    before = {slot: getattr(node, slot) for slot in type(node).__slots__ if slot != "__weakref__"}
    LocalWorkflow(node, workflow_name="unchanged").run()
    assert before == {slot: getattr(node, slot) for slot in before}


# ---- replacing functions ----


def test_replace_func_changes_one_node_of_one_workflow() -> None:
    """The node runs the other function here; other nodes and other workflows do not."""
    node = add(add(1).set_name("inner")).set_name("outer")
    edited = LocalWorkflow(node, workflow_name="edited")
    original = LocalWorkflow(node, workflow_name="original")
    edited.replace_func("inner", lambda a, b=10: a * b)
    assert (11, 3) == (edited.run(), original.run())


def test_replace_func_gives_another_graph() -> None:
    """Editing leaves the original graph unchanged."""
    graph = build([add(1)])
    changed = graph.replace_func("add_0000", max)
    assert add.__wrapped__ is graph.nodes["add_0000"].func
    assert max is changed.nodes["add_0000"].func
    assert graph.targets == changed.targets


def test_replace_func_takes_a_decorated_function() -> None:
    """A decorated function represents its plain function."""

    @workflow
    def multiply(a: int, b: int = 10) -> int:
        return a * b

    edited = LocalWorkflow(add(1).set_name("node"), workflow_name="edited")
    edited.replace_func("node", multiply)
    assert 10 == edited.run()


def test_replace_func_of_a_method_takes_the_instance() -> None:
    """The function gets the instance first, like the method that it replaces."""
    accumulator: Any = IncrementalSum(1)
    edited = LocalWorkflow(accumulator.add(5).set_name("five"), workflow_name="edited")
    edited.replace_func("five", lambda self, number: self.total - number)
    assert -4 == edited.run()


def test_replace_func_of_no_node_is_refused() -> None:
    """The error names what is not there."""
    with pytest.raises(GraphError, match="no node 'nobody'"):
        LocalWorkflow(add(1), workflow_name="edited").replace_func("nobody", max)


@pytest.mark.parametrize("function", [lambda: None, lambda a: a, lambda a, b, c: a])
def test_replace_func_with_another_signature_is_refused(function: Any) -> None:
    """A function that cannot take the node's arguments is refused now, not in the run."""
    edited = LocalWorkflow(add(1, 2).set_name("node"), workflow_name="edited")
    with pytest.raises(TypeError, match=r"<lambda>\(\) (missing|too many)"):
        edited.replace_func("node", function)
    assert 3 == edited.run()


def test_replace_func_with_what_cannot_be_called_is_refused() -> None:
    """The error shows what was given."""
    edited = LocalWorkflow(add(1, 2).set_name("node"), workflow_name="edited")
    with pytest.raises(TypeError, match="not 3"):
        edited.replace_func("node", 3)  # type: ignore[arg-type]


# ---- selecting ----


def test_find_nodes_matches_in_full() -> None:
    """A pattern has to match the whole name; no pattern is all."""
    edited = LocalWorkflow(
        *[add(1).set_name(name) for name in ("a", "ab", "b")], workflow_name="found"
    )
    assert ["a", "ab"] == edited.find_nodes("a.*")
    assert ["a"] == edited.find_nodes("a")
    assert ["a", "ab", "b"] == edited.find_nodes()


# ---- pictures ----


def picture() -> Graph:
    """Draw something with an odd name in it."""
    source = add(1).set_name('odd "name" [1]')
    return build([add(source, source[0]).set_name("sum")])


def test_mermaid_shows_nodes_and_edges() -> None:
    """Each node is a box, each dependency one arrow; characters of Mermaid's syntax are escaped."""
    assert [
        "flowchart TD",
        '    n0["odd #34;name#34; #91;1#93;"]',
        '    n1["sum"]',
        "    n0 --> n1",
    ] == picture().mermaid().splitlines()


def test_notebooks_draw_the_graph() -> None:
    """A notebook gets the picture, and text where it cannot draw; it may ask for formats."""
    graph = picture()
    bundle = graph._repr_mimebundle_(include=None, exclude=None)
    assert graph.mermaid() == bundle["text/vnd.mermaid"]
    assert "<graph of 2 nodes>" == bundle["text/plain"]


def test_repr_does_not_show_the_data() -> None:
    """A graph's text is short, whatever its arguments are."""
    assert "<graph of 1 node>" == repr(build([collect(list(range(1_000)))]))
