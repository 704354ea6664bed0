"""The types of nodes, for mypy: checked, not run. An unused `type: ignore` is an error too."""

from __future__ import annotations

from typing import assert_type

from functionfuse import task, workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.nodes import Item, Node


@workflow
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@workflow
async def fetch(address: str) -> int:
    """Give a result later."""
    return len(address)


@task
def describe(numbers: list[int], *, title: str) -> dict[str, list[int]]:
    """Give something with items."""
    return {title: numbers}


def calls_are_nodes_of_the_result() -> None:
    """A call, also one by another name of the decorator or of an async function, gives its result's node."""
    assert_type(add(1, 1), Node[int])
    assert_type(add(a=1).set_name("one"), Node[int])
    assert_type(fetch("here"), Node[int])
    assert_type(describe([1], title="t"), Node[dict[str, list[int]]])


def the_plain_function_keeps_its_type() -> None:
    """What a unit test calls has the types of the function."""
    assert_type(add.__wrapped__(1, 1), int)
    add.__wrapped__("1")  # type: ignore[arg-type]


def a_node_stands_for_its_result() -> None:
    """A node, its items and containers of nodes are accepted where their results are."""
    one = add(1)
    assert_type(add(one, fetch("here")), Node[int])
    assert_type(describe([one, 2], title="t")["t"], Item)
    assert_type(describe([one, 2], title="t")["t"][0], Item)
    assert_type(add(describe([one], title="t")["t"][0]), Node[int])


def wrong_calls_are_errors() -> None:
    """What would be refused when it runs is refused by the type checker."""
    add("1")  # type: ignore[arg-type]
    add()  # type: ignore[call-arg]
    add(1, 2, 3)  # type: ignore[call-arg]
    add(1, c=2)  # type: ignore[call-arg]
    describe([1], "t")  # type: ignore[call-arg]
    fetch(1)  # type: ignore[arg-type]
    add(1).set_name(3)  # type: ignore[arg-type]


def workflows_take_nodes() -> None:
    """Targets are nodes and items; the name is a string; on_error is one of its values."""
    sums = LocalWorkflow(add(1), describe([1], title="t")["t"], workflow_name="sums")
    sums.run(on_error="continue")
    sums.run(on_error="contineu")  # type: ignore[arg-type]
    LocalWorkflow(add(1))  # type: ignore[call-arg]
