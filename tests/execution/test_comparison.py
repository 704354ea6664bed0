"""compare(): the first node at which backends differ, and nodes that change their arguments."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import functionfuse
from functionfuse import compare, workflow
from functionfuse._graph.builder import build
from functionfuse._graph.nodes import Kind
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import DifferentResults, OptionError
from functionfuse.testing import assert_same_everywhere, graphs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse.testing.programs import Program


def threads(*nodes: Any) -> LocalWorkflow:
    """A workflow that runs in threads."""
    return LocalWorkflow(*nodes, workflow_name="threads", workers=2, kind="threads")


def processes(*nodes: Any) -> LocalWorkflow:
    """A workflow that runs in processes."""
    return LocalWorkflow(*nodes, workflow_name="processes", workers=2)


def replacing(name: str, function: Callable[..., Any]) -> Callable[..., LocalWorkflow]:
    """A backend on which one node, if it is there, does something else."""

    def make(*nodes: Any) -> LocalWorkflow:
        made = LocalWorkflow(*nodes, workflow_name="replaced")
        if name in made.graph.nodes:
            made.replace_func(name, function)
        return made

    return make


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def add(a: Any, b: Any) -> Any:
    """Add."""
    return a + b


@workflow
def process_number(*needs: Any) -> int:
    """Differs between processes."""
    return os.getpid()


@workflow
def fail_here(process: int, *needs: Any) -> str:
    """Raise in one process."""
    if os.getpid() == process:
        message = "here"
        raise ValueError(message)
    return "there"


@workflow
def fail(message: str, *needs: Any) -> None:
    """Raise."""
    raise ValueError(message)


@workflow
def append(items: list[Any], item: Any) -> int:
    """Change what was given."""
    items.append(item)
    return len(items)


@workflow
def append_all(*lists: list[Any], more: Any) -> int:
    """Change what was given, within containers."""
    lists[-1].append(0)
    more["deep"].items.append(0)
    return 0


@workflow
def drain(values: Any) -> Iterator[int]:
    """Change what was given while yielding."""
    while values:
        yield values.pop()


@dataclass
class Holder:
    """Holds nodes."""

    items: Any


@workflow
class Walker:
    """An object with hidden state."""

    def __init__(self, start: int) -> None:
        """Start somewhere."""
        self.position = start
        self.process = 0

    def step(self, size: int) -> int:
        """Move."""
        self.position += size
        return self.position

    def remember_process(self) -> None:
        """Keep what differs, and give nothing."""
        self.process = os.getpid()


@workflow
class Guarded:
    """An object that no other process can be sent."""

    def __init__(self) -> None:
        """Hold a lock."""
        self.lock = threading.Lock()


# ---- what differs ----


def test_backends_that_agree() -> None:
    """Where no node differs, nothing is found and nothing is raised."""
    walker: Any = Walker(same(1))
    found = compare(
        walker.step(same([2])[0]),
        walker,
        same(np.ones(3)),
        backends=[LocalWorkflow, threads, processes],
    )
    assert (True, None, (), ()) == (found.equal, found.first, found.differences, found.changes)
    assert not found.fingerprints
    assert ("LocalWorkflow (1)", "LocalWorkflow (2)", "LocalWorkflow (3)") == found.backends
    assert "no node differs" in str(found)
    found.raise_if_different()


def test_first_node_that_differs() -> None:
    """The first node in graph order is named with its location and both values; differences that follow from it say so."""
    number = process_number(same(1)).set_name("number")
    last = same([number]).set_name("last")
    found = compare(same(2), last, backends=[LocalWorkflow, processes])
    assert found.first
    assert ["number", "last"] == [each.node for each in found.differences]
    assert (str(os.getpid()), "LocalWorkflow (2)") == (found.first.expected, found.first.backend)
    assert found.first.location.startswith("process_number at test_comparison.py:")
    assert ["", "number"] == [each.because_of for each in found.differences]
    assert "[0]" == found.differences[1].path


def test_tolerance_is_used() -> None:
    """Results within the tolerance are the same."""
    node = same(1.0).set_name("x")
    backends: list[Callable[..., Any]] = [
        LocalWorkflow,
        replacing("x", lambda value: value * 1.001),
    ]
    assert not compare(node, backends=backends).equal
    assert compare(node, backends=backends, rtol=0.01).equal
    assert compare(node, backends=backends, atol=0.01).equal


def double(value: int) -> int:
    """Add in another way."""
    return value * 2


def test_fingerprints_that_differ_are_reported() -> None:
    """Backends with other code cannot share stored results, also where the values are the same; dependents follow."""
    node = same(0).set_name("x")
    found = compare(same(node), backends=[LocalWorkflow, threads, replacing("x", double)])
    assert found.equal
    (line,) = found.fingerprints
    assert "node 'x'" in line
    assert "LocalWorkflow (3)" in line
    assert "double" in line
    assert line in str(found)


def test_objects_are_compared_at_their_end() -> None:
    """An object is compared as its last call leaves it, also where the calls gave the same."""
    walker: Any = Walker(1)
    walker.remember_process()
    target = walker.step(1).set_name("last call")
    found = compare(target, backends=[LocalWorkflow, processes])
    assert found.first
    assert ("last call", "the instance after the node.process") == (
        found.first.node,
        found.first.path,
    )


def test_failure_on_one_backend() -> None:
    """A node that fails on one backend only is a difference; the other nodes are compared all the same."""
    failing = fail_here(os.getpid()).set_name("failing")
    found = compare(
        same(failing).set_name("child"),
        process_number().set_name("number"),
        backends=[LocalWorkflow, processes],
    )
    assert ["failing", "child", "number"] == [each.node for each in found.differences]
    first, child, _ = found.differences
    assert ("a failure: ValueError('here')", "'there'") == (first.expected, first.actual)
    assert ("not started", "'there'", "failing") == (child.expected, child.actual, child.because_of)


def test_same_failure_everywhere() -> None:
    """A node that fails everywhere in the same way does not differ, nor do its dependents."""
    made = same(fail("bad")), same(1)
    assert compare(*made, backends=[LocalWorkflow, threads, processes]).equal


def test_other_exception() -> None:
    """Another exception is a difference."""
    node = fail("bad").set_name("x")
    found = compare(node, backends=[LocalWorkflow, replacing("x", _fail_otherwise)])
    assert found.first
    assert ("ValueError('bad')", "TypeError('bad')") == (
        found.first.expected.partition(" (")[0],
        found.first.actual.partition(" (")[0],
    )


def _fail_otherwise(message: str) -> None:
    raise TypeError(message)


def test_incomparable_results_are_reported() -> None:
    """A result that cannot be compared is reported, and is not a difference."""

    @workflow
    def new_lock() -> Any:
        return threading.Lock()

    lock = new_lock().set_name("lock")
    found = compare(lock, backends=[LocalWorkflow, threads])
    assert found.equal
    assert ["lock"] == list(found.unknown)
    assert "node 'lock' cannot be compared: it is a _thread.lock" in str(found)


def test_objects_that_cannot_be_had() -> None:
    """An object that an engine cannot give fails there alone; the rest is compared."""
    found = compare(Guarded(), same(1), backends=[LocalWorkflow, processes])
    assert ["Guarded_0000"] == [each.node for each in found.differences]


def test_a_backend_that_cannot_run() -> None:
    """An exception of a backend before any node runs reaches the caller."""

    def broken(*nodes: Any) -> LocalWorkflow:
        message = "no cluster"
        raise ConnectionError(message)

    with pytest.raises(ConnectionError, match="no cluster"):
        compare(same(1), backends=[LocalWorkflow, broken])


@pytest.mark.parametrize("wrong", [{"backends": []}, {"backends": [LocalWorkflow], "rtol": -1}])
def test_wrong_calls_are_refused(wrong: Any) -> None:
    """There is at least one backend, and no negative tolerance."""
    with pytest.raises(OptionError, match="backend"):
        compare(same(1), **wrong)


# ---- what changes its inputs ----


@pytest.mark.parametrize("backend", [LocalWorkflow, threads, processes])
def test_node_that_changes_its_input(backend: Any) -> None:
    """The report names a node that changes an argument, the argument, and the node whose value it is."""
    root = same([1]).set_name("root")
    found = compare(append(root, 2).set_name("changer"), backends=[backend])
    (change,) = found.changes
    assert ("changer", "items", "root") == (change.node, change.argument, change.of)
    assert ("[1] (1 items)", "[1, 2] (2 items)") == (change.before, change.after)
    assert "node 'changer' (append at test_comparison.py" in str(found)


def test_changes_within_containers() -> None:
    """A change of what a container holds is found there."""
    one, two = same([1]).set_name("one"), same([2]).set_name("two")
    node = append_all([0], one, more={"deep": Holder(two)})
    found = compare(node, backends=[LocalWorkflow])
    assert [("lists[1]", "one"), ("more['deep'].items", "two")] == [
        (change.argument, change.of) for change in found.changes
    ]


def test_changes_of_generators() -> None:
    """A change by a generator while it is read is detected as well."""
    found = compare(drain(same([1, 2])), backends=[LocalWorkflow])
    assert ["values"] == [change.argument for change in found.changes]


def test_literals_may_be_changed() -> None:
    """Lists and dicts in the arguments of a call are copied for each run: they may be changed."""
    assert () == compare(append([1], 2), append([same(1)], 2), backends=[LocalWorkflow]).changes


def test_a_changed_input_is_the_reason() -> None:
    """Where a node differs because another changed its value, that node is named as the reason."""
    root = same([1]).set_name("root")
    found = compare(append(root, 2).set_name("changer"), backends=[LocalWorkflow, processes])
    assert found.first
    assert ("root", "changer") == (found.first.node, found.first.because_of)


# ---- reports ----


def test_result_is_printed() -> None:
    """The result is a line for people, and a table; with HTML for notebooks."""
    number = process_number().set_name("<number>")
    found = compare(number, append(same([1]), 2), backends=[LocalWorkflow, processes])
    header, *_ = [line for line in str(found).splitlines() if line.startswith("node  ")]
    assert ["expected", "actual"] == [
        word for word in header.split() if word in {"expected", "actual"}
    ]
    assert "the first is node '<number>'" in str(found)
    page = found._repr_html_()
    assert "<td>&lt;number&gt;</td>" in page
    assert "changes its argument items" in page
    with pytest.raises(DifferentResults, match="<number>") as caught:
        found.raise_if_different()
    assert isinstance(caught.value, AssertionError)


def test_assert_same_everywhere() -> None:
    """The helper for tests raises what was found, and nothing otherwise."""
    assert_same_everywhere(add(1, 2), backends=[LocalWorkflow, threads])
    with pytest.raises(AssertionError, match="process_number"):
        assert_same_everywhere(process_number(), backends=[LocalWorkflow, processes])


def test_the_package_attribute_is_the_function() -> None:
    """The package gives the function by its name, and has no other lazy attributes."""
    assert compare is functionfuse.compare
    with pytest.raises(AttributeError, match="has no attribute 'comparison_of'"):
        functionfuse.comparison_of  # type: ignore[attr-defined] # noqa: B018


# ---- any graph ----


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_random_graphs_are_the_same_in_threads(program: Program) -> None:
    """Any graph is the same in this process and in threads, and none of its nodes changes its arguments."""
    found = compare(*program.nodes(), backends=[LocalWorkflow, threads])
    assert (True, ()) == (found.equal, found.changes), str(found)
    assert {} == found.unknown


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_seeded_faults_are_found(program: Program, data: st.DataObject) -> None:
    """A node that gives something else on one backend is the first that differs there."""
    targets = program.nodes()
    steps = build(targets).nodes
    functions = [name for name, step in steps.items() if step.kind is not Kind.CONSTRUCT]
    if not functions:
        return
    name = data.draw(st.sampled_from(functions))
    fault = partial(_with_fault, steps[name].func)
    found = compare(*targets, backends=[LocalWorkflow, replacing(name, fault)])
    assert found.first
    assert (name, "") == (found.first.node, found.first.because_of)


def _with_fault(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A function's value plus a small number."""
    value = function(*args, **kwargs)
    return {**value, "total": value["total"] + 1} if isinstance(value, dict) else [*value, 1]
