"""Recording tests: containers of arguments, nodes made inside nodes, names and classes of users."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import GraphError
from functionfuse.events import NodeFailed
from functionfuse.testing.engine.recording_containers import (
    SEEN,
    containers,
    contents,
    double,
    send,
)
from functionfuse.testing.engine.suite import Suite, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse.events import Event

__all__ = ["RecordingTests"]


# ---- nodes made inside nodes ----

outside = double(20)


@workflow
def in_effect() -> int:
    """Call a decorated function for its effect."""
    send("started")
    return 1


@workflow
def in_list() -> list[Any]:
    """Return nodes."""
    return [double(1), {"k": (double(2),)}]


@workflow
def in_generator() -> Iterator[int]:
    """Call a decorated function between two items."""
    yield 1
    send("between")


@workflow
async def in_coroutine() -> int:
    """Call a decorated function in a coroutine."""
    await asyncio.sleep(0)
    send("awaited")
    return 1


@workflow
def in_text() -> str:
    """Format a node."""
    return f"{double(1)}"


@workflow
def in_comparison() -> bool:
    """Compare a node."""
    return double(1) == 2


@workflow
def in_sum() -> Any:
    """Add to a node."""
    return double(1) + 1


@workflow
def next_to_workflow() -> int:
    """Run a workflow of one node, and forget another node."""
    send("forgotten")
    result: int = LocalWorkflow(double(1), workflow_name="inner").run()
    return result


@workflow
def of_module() -> dict[str, Any]:
    """Return a node that was made outside."""
    return {"k": [outside]}


@workflow
class Holder:
    """Calls decorated functions in its methods."""

    def __init__(self, number: int) -> None:
        self.number: Any = number

    def keep(self) -> int:
        """Keep a node."""
        self.number = double(3)
        return 1


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "effect": (in_effect, "send"),
    "list": (in_list, "double"),
    "generator": (in_generator, "send"),
    "coroutine": (in_coroutine, "send"),
    "text": (in_text, "double"),
    "comparison": (in_comparison, "double"),
    "sum": (in_sum, "double"),
    "next to a workflow": (next_to_workflow, "send"),
    "of the module": (of_module, "double"),
    "method": (lambda: Holder(1).keep(), "double"),
}


@workflow
def own_workflows(number: int) -> list[Any]:
    """Run workflows, also of an instance, and in threads."""
    holder: Any = Counts(number)
    holder.add(1)
    chain = double(double(number))
    LocalWorkflow(chain, workflow_name="planned").plan()
    pool = LocalWorkflow(chain, workflow_name="inner", workers=2, kind="threads")
    return [
        LocalWorkflow(holder.add(double(1)), workflow_name="inner").run(),
        LocalWorkflow(chain, double(number), workflow_name="inner").run(),
        pool.run(),
    ]


# ---- users' classes and names ----


class Base:
    """A plain base class."""

    def __init__(self, start: int) -> None:
        self.total = start


@workflow
class Counts(Base):
    """Names its own class, as in Python 2."""

    def __init__(self, start: int) -> None:
        super(Counts, self).__init__(start)  # noqa: UP008

    def add(self, number: int) -> int:
        """Count on."""
        self.total += number
        return self.total


class Tools:
    """A plain class with nodes that need no instance."""

    factor = 3

    @workflow
    @staticmethod
    def plus_one(number: int) -> int:
        """Add one."""
        return number + 1

    @workflow
    @classmethod
    def scaled(cls, number: int) -> int:
        """Multiply."""
        return cls.factor * number


@workflow
def reserved(wait_for: Any, return_state: Any = 2, *, args: Any = 3, kwargs: Any = 4) -> Any:
    """A function with parameters that engines have, too."""
    return wait_for, return_state, args, kwargs


@workflow
def anything(*args: Any, **kwargs: Any) -> Any:
    """A function that takes everything."""
    return args, kwargs


class RecordingTests(Suite):
    """Recorded calls."""

    def test_nodes_in_standard_containers(self) -> None:
        """Nodes are found in all containers of the standard library and dataclasses, which keep their types."""
        given = self.compute(contents(containers()))

        for name, expected in SEEN.items():
            assert (name, expected) == (name, given[name])
            assert type(expected) is type(given[name]), name

    def test_nodes_made_inside_nodes(self) -> None:
        """A node that is made inside a node and never runs is an error with its name, line and the call to write."""
        nodes = {name: make().set_name(name) for name, (make, _) in MISTAKES.items()}
        failures: dict[str, BaseException] = {}

        def observe(event: Event) -> None:
            if isinstance(event, NodeFailed):
                failures[event.record.name] = event.error

        made = self.new_workflow(*nodes.values())
        made.add_observer(observe)
        with suppress(GraphError, TypeError):
            made.run(on_error="continue")

        assert failures.keys() == nodes.keys()
        for name, (_, function) in MISTAKES.items():
            text = text_of(failures[name])
            assert isinstance(failures[name], GraphError | TypeError), name
            assert f"<node {function!r} of recording.py:" in text, name
            assert f"`{function}.__wrapped__(...)`" in text, name
            assert f"in node {name!r}" in text, name

    def test_workflows_inside_nodes(self) -> None:
        """A node may make nodes of its own, and run them in workflows."""
        assert self.compute(own_workflows(3)) == [6, [12, 6], 12]

    def test_classes_and_names(self) -> None:
        """Explicit `super`, static and class methods, and parameters of any name mean the same as in plain Python."""
        counts: Any = Counts(double(1))
        given = self.compute(
            counts.add(3),
            Tools.plus_one(double(1)),
            Tools().scaled(double(1)),
            reserved(double(1), args=double(2)),
            reserved(wait_for=double(1), return_state=5, kwargs={"args": double(2)}),
            anything(1, args=double(1), kwargs=2, wait_for=3, return_state=4),
        )

        assert given == [
            5,
            3,
            6,
            (2, 2, 4, 4),
            (2, 5, 3, {"args": 4}),
            ((1,), {"args": 2, "kwargs": 2, "wait_for": 3, "return_state": 4}),
        ]
