"""Nodes in the arguments of a call, and the lifetime and pickling of nodes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import cloudpickle
import pytest
from example_nodes import Accumulator, Options, Pair, Settings, add, run, same

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import GraphError

# ---- what a call was given ----


def test_items_are_resolved_where_the_result_is_used() -> None:
    """Indices, keys and slices reach into the result, at any depth."""
    node = same([{"k": [1, 2, 3, 4, 5]}])
    assert [{"k": [1, 2, 3, 4, 5]}, [3, 4], 5] == run(node[0], node[0]["k"][2:4], node[0]["k"][-1])


def test_nodes_in_containers_are_found() -> None:
    """Lists, tuples, dicts, sets, named tuples and dataclasses give their nodes' results."""
    one, two = add(0), add(1)
    given_ = same([one, (two, {"k": one}), {one, two}, frozenset({two}), Pair(one, [two])])
    expected = [1, (2, {"k": 1}), {1, 2}, frozenset({2}), Pair(1, [2])]
    result = run(given_)
    assert expected == result
    assert [list, Pair] == [type(result), type(result[4])]


def test_nodes_in_dataclasses_are_found() -> None:
    """Also in frozen ones, ones with slots, and fields that the constructor does not take."""
    frozen = Settings(add(0), [add(1)])
    object.__setattr__(frozen, "derived", add(2))
    result = run(same(frozen))
    assert (1, [2], 3) == (result.rate, result.layers, result.derived)
    assert Options(4) == run(same(Options(add(3))))


def test_a_node_may_be_a_key() -> None:
    """A dict may have nodes for keys; their results are the keys."""
    assert {1: 2} == run(same({add(0): add(1)}))


def test_containers_are_copied_when_the_call_is_recorded() -> None:
    """Changes of a container after the call do not affect the call, as in plain Python."""
    numbers, options, members = [1], {"rate": [1]}, {1}
    holding = [add(0)]
    results = [same(numbers), same(options), same(members), same(holding)]
    numbers.append(2)
    options["rate"].append(2)
    options["more"] = []
    members.clear()
    holding.clear()
    assert [[1], {"rate": [1]}, {1}, [1]] == run(*results)


def test_other_objects_are_passed_by_reference() -> None:
    """An object that is not a plain container is passed by reference."""
    thing = object()
    options = Options([1])
    assert [thing, options] == run(same(thing), same(options))
    assert options is run(same(options))


def contains_itself(kind: str) -> Any:
    """Make a container that contains itself."""
    if kind == "list":
        numbers: list[Any] = []
        numbers.append(numbers)
        return numbers
    mapping: dict[str, Any] = {}
    mapping["k"] = [mapping]
    return mapping


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_a_container_that_contains_itself_is_refused(kind: str) -> None:
    """No order of evaluation exists: the error says so, and what to do."""
    with pytest.raises(GraphError, match=r"contains itself.*make it in a @workflow function"):
        same(contains_itself(kind))


def test_large_literals_are_accepted() -> None:
    """A million numbers are an argument like any other, bare or deep inside."""
    numbers = list(range(1_000_000))
    total = workflow(lambda data: sum(data["train"][0]))
    assert 499_999_500_000 == run(total({"train": (numbers, add(1))}))


# ---- life ----


def test_an_unreferenced_node_is_collected() -> None:
    """The library keeps no nodes alive: a dependency does not reference its dependents."""
    parent = add(1)
    child, grandchild = weakref.ref(add(parent)), weakref.ref(same([add(parent)]))
    gc.collect()
    assert (None, None) == (child(), grandchild())
    assert 2 == run(parent)


def test_a_node_that_ran_is_collected() -> None:
    """Neither a deleted workflow nor its run keeps nodes alive."""
    node = add(1)
    assert 2 == run(node)
    reference = weakref.ref(node)
    del node
    gc.collect()
    assert reference() is None


def test_a_deep_chain_is_released() -> None:
    """Freeing a very long chain does not exhaust the stack."""
    node = add(0)
    for _ in range(100_000):
        node = add(node)
    first = weakref.ref(node)
    del node
    gc.collect()
    assert first() is None


def test_nodes_can_be_pickled() -> None:
    """A copy keeps names, location, items, containers and dependencies, and computes the same."""
    parent = add(1).set_name("parent")
    node = same({"k": [parent, same([10])[0]], "settings": Options(parent)}).set_name("child")
    copy = cloudpickle.loads(cloudpickle.dumps(node))
    assert (node.name, node.location) == (copy.name, copy.location)
    original = LocalWorkflow(node, workflow_name="nodes")
    copied = LocalWorkflow(copy, workflow_name="nodes")
    assert list(original.graph.nodes) == list(copied.graph.nodes)
    assert {"k": [2, 10], "settings": Options(2)} == original.run() == copied.run()


def test_pickled_methods_keep_their_instance() -> None:
    """A copy of a method's node brings along the calls before it."""
    accumulator: Any = Accumulator(1)
    accumulator.add(2)
    assert 12 == run(cloudpickle.loads(cloudpickle.dumps(accumulator.double(times=2))))
