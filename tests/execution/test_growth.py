"""Calls and memory that must not grow: counted, not timed."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.events import NodeFinished, NodeSubmitted
from functionfuse.plan import Action
from functionfuse.testing.child_processes import call_in_process

if TYPE_CHECKING:
    from collections.abc import Callable


@workflow
def add(first: Any, second: Any) -> Any:
    """Do next to nothing."""
    return first + second


@workflow
def last(values: list[Any]) -> Any:
    """Take the last of many."""
    return values[-1]


@workflow
class Total:
    """A sum."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.total = 0

    def add(self, number: int) -> int:
        """Count on."""
        self.total += number
        return self.total


def chain(size: int) -> Any:
    """Each node takes the one before it."""
    node: Any = add(0, 1)
    for _ in range(size - 1):
        node = add(node, 1)
    return node


def ladder(size: int) -> Any:
    """Each node takes the one before it twice: as many paths as there are powers of two."""
    node: Any = add(0, 1)
    for _ in range(size - 1):
        node = add(node, node)
    return node


def fan(size: int) -> Any:
    """Independent nodes into one."""
    return last([add(index, 1) for index in range(size - 1)])


def calls_of_one(size: int) -> Any:
    """Calls of one instance."""
    total: Any = Total()
    node = None
    for index in range(size - 1):
        node = total.add(index)
    return node


SHAPES = (chain, ladder, fan, calls_of_one)


def python_calls(work: Callable[[], object]) -> int:
    """How many calls of Python functions a piece of work makes."""
    count = 0

    def see(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event == "call"

    gc.collect()  # finalizers of what earlier tests left would be counted
    gc.disable()
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def per_node(work: Callable[[int], int], size: int = 1_000) -> float:
    """The cost of one more node, which has to be the same for the second thousand and for the next."""
    work(2)  # what is done only once
    one, two, four = work(size), work(2 * size), work(4 * size)
    assert 2 * (two - one) == pytest.approx(four - two, rel=0.01, abs=size / 100)
    return (four - two) / (2 * size)


@pytest.mark.parametrize("shape", SHAPES)
def test_building_visits_a_node_once(shape: Callable[[int], Any]) -> None:
    """Making a workflow is linear, however many paths lead to a node, and takes no call for each."""

    def build(size: int) -> int:
        node = shape(size)
        return python_calls(lambda: LocalWorkflow(node, workflow_name="w"))

    assert per_node(build) < 1


@pytest.mark.parametrize("shape", SHAPES)
def test_planning_takes_few_calls(shape: Callable[[int], Any]) -> None:
    """Names and numbers cost few calls for each node, and none before they are requested."""

    def name(size: int) -> int:
        made = LocalWorkflow(shape(size), workflow_name="w")
        return python_calls(lambda: made.graph.nodes)

    assert per_node(name) <= 8.1


@pytest.mark.parametrize("shape", SHAPES)
def test_running_takes_few_calls(shape: Callable[[int], Any]) -> None:
    """A run is linear; where there is nothing to do around a node, little is done."""

    def run(size: int) -> int:
        made = LocalWorkflow(shape(size), workflow_name="w")
        return python_calls(made.run)

    assert per_node(run) <= 8.1


def test_observers_add_few_calls() -> None:
    """An observed run makes the events and records, and nothing else."""

    def run(size: int, *observers: Callable[[Any], None]) -> int:
        made = LocalWorkflow(chain(size), workflow_name="w")
        for observer in observers:
            made.add_observer(observer)
        assert size == len(made.graph.nodes)  # which are counted above
        return python_calls(made.run)

    unobserved = per_node(run)
    # two events, two calls of notify, and of the observer; a record that is looked up by number
    assert per_node(lambda size: run(size, lambda _: None)) <= unobserved + 12.1


def test_running_with_another_function_takes_few_calls() -> None:
    """Another function of a node changes nothing else in a run."""

    def run(size: int) -> int:
        made = LocalWorkflow(chain(size), workflow_name="w")
        made.replace_func("add_0000", lambda first, second: first + second)
        return python_calls(made.run)

    assert per_node(run) <= 6.1


@pytest.mark.parametrize("shape", SHAPES)
def test_planning_is_linear(shape: Callable[[int], Any]) -> None:
    """A plan takes few calls for each node."""

    def plan(size: int) -> int:
        made = LocalWorkflow(shape(size), workflow_name="w")
        made.set_storage(Counting())
        assert size == len(made.graph.nodes)  # which are counted above
        return python_calls(lambda: made.plan().names(Action.COMPUTE))

    assert per_node(plan) <= 2.1


@pytest.mark.parametrize(("asked", "most"), [("result", 3.1), ("graph", 8.1)])
def test_objects_of_a_graph(asked: str, most: float) -> None:
    """A node is few objects, and so is its step of a plan, which is made on request."""
    assert call_in_process(_objects, asked) <= most  # nothing else makes objects there meanwhile


def _objects(asked: str) -> float:
    def blocks(size: int) -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        made = LocalWorkflow(chain(size), workflow_name="w")
        if asked == "graph":
            assert size == len(made.graph.order)
        else:
            assert size == made.run()
        return sys.getallocatedblocks() - before

    return per_node(blocks, 10_000)


def test_values_are_released() -> None:
    """A value is in memory until its last consumer has it."""
    alive = Counter[str]()

    class Value:
        """Something that is counted while it lives."""

        def __init__(self) -> None:
            alive["now"] += 1
            alive["most"] = max(alive["now"], alive["most"])

        def __del__(self) -> None:
            alive["now"] -= 1

    @workflow
    def follow(_: Any) -> Value:
        return Value()

    node: Any = follow(0)
    for _ in range(99):
        node = follow(node)
    LocalWorkflow(node, workflow_name="w").run()
    assert 2 == alive["most"]


def test_events() -> None:
    """A node is two events; a run is two more."""
    seen: list[Any] = []
    made = LocalWorkflow(fan(100), workflow_name="w")
    made.add_observer(seen.append)
    made.run()
    kinds = Counter(map(type, seen))
    assert 202 == len(seen)
    assert (100, 100) == (kinds[NodeSubmitted], kinds[NodeFinished])


class Counting:
    """A storage in memory that counts calls."""

    always_read = False

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.kept: dict[str, Any] = {}
        self.asked: Counter[str] = Counter()

    def save(self, workflow_name: str, name: str, value: Any) -> None:
        """Keep a result."""
        self.asked["save"] += 1
        self.kept[name] = value

    def read_task(self, workflow_name: str, name: str) -> Any:
        """Give a result."""
        self.asked["read"] += 1
        return self.kept[name]

    def file_exists(self, workflow_name: str, name: str) -> bool:
        """Tell whether there is a result."""
        self.asked["look"] += 1
        return name in self.kept

    def list_tasks(self, workflow_name: str, pattern: str) -> list[str]:
        """Name the results."""
        self.asked["list"] += 1
        return list(self.kept)


def test_requests_to_the_storage() -> None:
    """A first run lists once, looks once more and saves once for each node; resuming lists once and reads the target."""
    storage = Counting()
    made = LocalWorkflow(chain(200), workflow_name="w")
    made.set_storage(storage)
    assert 200 == made.run()
    assert {"list": 1, "look": 200, "save": 200} == storage.asked
    storage.asked.clear()
    assert 200 == made.run()
    assert {"list": 1, "read": 1} == storage.asked
