"""Value tests: targets, items, containers, signatures and kinds of functions."""

from __future__ import annotations

import asyncio
import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from functionfuse import workflow
from functionfuse.errors import GraphError
from functionfuse.testing.engine.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functionfuse.testing.engine.suite import Journal

__all__ = ["ValueTests"]


class Point(NamedTuple):
    """A named tuple that holds nodes."""

    x: Any
    y: Any


@dataclass
class Settings:
    """A dataclass that holds nodes."""

    rate: Any
    layers: list[Any]
    label: str = "none"


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen dataclass."""

    inner: Any


@workflow
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def shapes() -> dict[Any, Any]:
    """A result with items."""
    return {"sizes": [1, 2, 3, 4], "names": {"first": "one"}, 7: "seven"}


@workflow
def noted(journal: Journal, name: str, *needs: Any) -> str:
    """Write a line and return it."""
    journal.write(name)
    return name


@workflow
def everything(first: int, second: int = 20, *rest: int, only: int = 3, **more: int) -> Any:
    """A function with every kind of parameter."""
    return first, second, rest, only, more


@workflow
def process_number() -> int:
    """The number of the process."""
    return os.getpid()


@workflow
async def awaited_sum(a: int, b: int) -> int:
    """Add, asynchronously."""
    halves = await asyncio.gather(asyncio.sleep(0, a), asyncio.sleep(0, b))
    return sum(halves)


@workflow
def counted(end: int) -> Iterator[int]:
    """Yield numbers."""
    yield from range(end)


@workflow
def returns_node() -> Any:
    """Call a decorated function in a node, which is a mistake."""
    return add(1, 2)


@workflow
async def awaits_node() -> Any:
    """Call a decorated function in a coroutine, which is a mistake."""
    return add(1, 2)


@workflow
def with_appended(items: list[Any], more: dict[str, list[int]]) -> Any:
    """Change the arguments."""
    items.append(more.pop("key"))
    return items


class ValueTests(Suite):
    """Results of a run."""

    # ---- targets ----

    def test_one_target_gives_its_value(self) -> None:
        """A workflow of one node returns the value of that node, not a list."""
        assert self.compute(add(add(1, 2), 3)) == 6

    def test_several_targets_give_a_list(self) -> None:
        """A workflow of several nodes returns a list of their values in the order of the targets."""
        first, second = add(1, 1), add(2, 2)
        third = add(first, second)

        assert self.compute(third, first, second) == [6, 2, 4]

    def test_same_target_twice(self, journal: Journal) -> None:
        """A node that is a target twice is returned twice and runs once."""
        node = noted(journal, "once")

        assert self.compute(node, node) == ["once", "once"]
        assert journal.lines() == ["once"]

    def test_items_as_targets(self) -> None:
        """An item of a node's result, at any depth, also a slice, can be a target."""
        node = shapes()

        given = self.compute(
            node["sizes"][0], node["names"]["first"], node["sizes"][1:3], node["sizes"][-1], node[7]
        )

        assert given == [1, "one", [2, 3], 4, "seven"]

    def test_none(self) -> None:
        """None is a valid result, as a target and as an argument."""
        nothing = same(None)

        assert self.compute(nothing, same([nothing])) == [None, [None]]

    # ---- arguments ----

    def test_items_as_arguments(self) -> None:
        """An item of a result is an argument of its own, also within a container."""
        node = shapes()

        assert self.compute(add(node["sizes"][0], b=node["sizes"][3])) == 5
        assert self.compute(same({"tail": node["sizes"][2:]})) == {"tail": [3, 4]}

    def test_nodes_in_containers(self) -> None:
        """Nodes in lists, tuples, dicts (also as keys) and sets are found at any depth."""
        one, two = add(0, 1), add(1, 1)
        given: Any = {
            "list": [one, [two, [one]]],
            "tuple": (one, (two,), ()),
            "set": {one, two, 3},
            "frozenset": frozenset({two}),
            two: {one: {"deep": [{"deeper": (one,)}]}},
            "none of them": [1, {"a": ()}],
        }

        expected = {
            "list": [1, [2, [1]]],
            "tuple": (1, (2,), ()),
            "set": {1, 2, 3},
            "frozenset": frozenset({2}),
            2: {1: {"deep": [{"deeper": (1,)}]}},
            "none of them": [1, {"a": ()}],
        }
        assert self.compute(same(given)) == expected

    def test_container_types_stay(self) -> None:
        """A container that held nodes arrives as the same kind of container, a dict in its order."""
        one = add(0, 1)

        value = self.compute(same([(one,), {one}, frozenset({one}), {"b": one, "a": one}]))

        assert [type(part) for part in value] == [tuple, set, frozenset, dict]
        assert list(value[3]) == ["b", "a"]

    def test_nodes_in_named_tuples(self) -> None:
        """Nodes in a named tuple are found, and it stays a named tuple."""
        value = self.compute(same(Point(add(1, 1), y=[add(2, 2)])))

        assert isinstance(value, Point)
        assert value == Point(2, [4])

    def test_nodes_in_dataclasses(self) -> None:
        """Nodes in fields of dataclass instances are found, also in frozen ones; the original instances are unchanged."""
        node = add(1, 1)
        given = Settings(rate=node, layers=[Frozen({"size": node})])

        value = self.compute(same(given))

        assert value == Settings(rate=2, layers=[Frozen({"size": 2})], label="none")
        assert given.rate is node

    def test_keyword_arguments(self) -> None:
        """Nodes as keyword arguments arrive under their keyword."""
        assert self.compute(same(value=add(b=add(1, 1), a=10))) == 12

    def test_every_kind_of_parameter(self) -> None:
        """Defaults, surplus positional, keyword-only and surplus keyword arguments work as in Python."""
        one, two = add(0, 1), add(1, 1)

        given = self.compute(
            everything(one),
            everything(one, two, 3, two, only=one, x=two, y=5),
            everything(1, only=one),
        )

        assert given == [
            (1, 20, (), 3, {}),
            (1, 2, (3, 2), 1, {"x": 2, "y": 5}),
            (1, 20, (), 1, {}),
        ]

    def test_node_twice_in_one_call(self, journal: Journal) -> None:
        """A node that is used twice in one call runs once."""
        node = noted(journal, "ab")

        assert self.compute(add(node, node)) == "abab"
        assert journal.lines() == ["ab"]

    def test_diamond(self, journal: Journal) -> None:
        """In a diamond each node runs once, after its dependencies."""
        top = noted(journal, "top")
        left, right = noted(journal, "left", top), noted(journal, "right", [top])

        assert self.compute(noted(journal, "bottom", left, {"key": right})) == "bottom"

        lines = journal.lines()
        assert sorted(lines) == ["bottom", "left", "right", "top"]
        assert (lines[0], lines[-1]) == ("top", "bottom")

    def test_longer_graph(self) -> None:
        """Fan-out, fan-in and a longer chain have the same results as in plain Python."""
        fan = [add(number, 1) for number in range(20)]
        total: Any = workflow(sum)(fan)
        for _ in range(20):
            total = add(total, 1)

        assert self.compute(total, fan[7]) == [230, 8]

    def test_large_result(self) -> None:
        """A result of some megabytes arrives complete."""
        data = workflow(bytes)(3_000_000)

        assert self.compute(workflow(len)(data)) == 3_000_000
        assert len(self.compute(data)) == 3_000_000

    # ---- arguments at the time of the call ----

    def test_containers_are_copied_at_the_call(self) -> None:
        """Changing a list or dict after the call does not change the node."""
        items, options = [add(1, 1), 5], {"nested": [1]}
        node = same([items, options])

        items.append(6)
        options["nested"].append(2)
        options["late"] = []

        assert self.compute(node) == [[2, 5], {"nested": [1]}]

    def test_changed_literals(self) -> None:
        """A function that changes a list or dict argument has the same result in each run."""
        made = self.new_workflow(
            with_appended([1], {"key": [2]}), with_appended([same(1)], {"key": [3]})
        )

        assert made.run() == [[1, [2]], [1, [3]]]
        assert made.run() == [[1, [2]], [1, [3]]]

    # ---- what runs ----

    def test_only_what_targets_need_runs(self, journal: Journal) -> None:
        """Only the targets and their transitive dependencies run."""
        first = noted(journal, "first")
        noted(journal, "other")
        target = noted(journal, "target", first)
        noted(journal, "child", target)

        self.compute(target)

        assert journal.lines() == ["first", "target"]

    def test_runs_again(self, journal: Journal) -> None:
        """Without a storage, each run computes everything again, with the same results."""
        made = self.new_workflow(noted(journal, "second", noted(journal, "first")))

        assert made.run() == "second"
        assert made.run() == "second"
        assert journal.lines() == ["first", "second"] * 2

    def test_node_in_two_workflows(self, journal: Journal) -> None:
        """A node can be in several independent workflows."""
        shared = noted(journal, "shared")
        first = self.new_workflow(noted(journal, "a", shared), workflow_name="first")
        second = self.new_workflow(shared, workflow_name="second")

        assert first.run() == "a"
        assert second.run() == "shared"
        assert journal.lines() == ["shared", "a", "shared"]

    def test_runs_in_threads(self) -> None:
        """Workflows that share nodes can run concurrently in several threads."""
        shared = add(1, 1)
        made = [
            self.new_workflow(add(shared, number), workflow_name=f"thread {number}")
            for number in range(3)
        ]

        with ThreadPoolExecutor(len(made)) as threads:
            # each in a copy of this context, as asyncio.to_thread does: engines keep settings there
            running = [threads.submit(copy_context().run, each.run) for each in made]
            assert [future.result() for future in running] == [2, 3, 4]

    def test_runs_in_an_event_loop(self) -> None:
        """A run works where an event loop is running, as in a notebook."""

        async def cell() -> Any:
            return self.compute(awaited_sum(add(1, 1), 3))

        assert asyncio.run(cell()) == 5

    def test_where_nodes_run(self) -> None:
        """Nodes run in this process or not, as the engine's flag says."""
        elsewhere = self.compute(process_number()) != os.getpid()

        assert self.runs_in_other_processes == elsewhere

    # ---- kinds of functions ----

    def test_local_functions(self) -> None:
        """Local functions with closures can be nodes."""
        offset = 10

        def shifted(value: int) -> int:
            return value + offset

        @workflow
        def twice_shifted(value: int) -> int:
            return shifted(value) + offset

        assert self.compute(add(twice_shifted(add(1, 1)), 1)) == 23

    def test_any_callable(self) -> None:
        """Builtin functions, partial functions and lambdas can be nodes."""
        root = workflow(math.sqrt)(add(8, 8))
        power = workflow(partial(pow, 2))(3)

        assert self.compute(root, power, workflow(lambda a, b: (b, a))(root, power)) == [
            4.0,
            8,
            (8, 4.0),
        ]

    def test_async_functions(self) -> None:
        """The value of an async function is what it returns, not a coroutine."""
        assert self.compute(add(awaited_sum(1, 2), 3)) == 6

    def test_generator_functions(self) -> None:
        """The value of a generator function is the list of the yielded values, for every consumer."""
        numbers = counted(add(1, 2))

        assert self.compute(numbers, same([numbers]), numbers[-1]) == [[0, 1, 2], [[0, 1, 2]], 2]

    @pytest.mark.parametrize("wrong", [returns_node, awaits_node])
    def test_returned_node_is_refused(self, wrong: Any) -> None:
        """A function that returns a node is an error with advice, because that node would never run."""
        node = wrong().set_name("wrong")

        with pytest.raises(GraphError, match=r"__wrapped__") as caught:
            self.compute(node)

        assert "in node 'wrong'" in caught.value.__notes__[-1]
