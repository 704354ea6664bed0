"""Memory and objects that must not grow with the number of runs on Ray: counted, not timed."""

from __future__ import annotations

import gc
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("ray")

from functionfuse import workflow
from functionfuse.backends.builtin.rayback import RayWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("ray_cluster")
RUNS = 10


@workflow
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@workflow
def divide(a: int, b: int) -> float:
    """Divide two numbers."""
    return a / b


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


def functions() -> RayWorkflow:
    """Nodes of functions."""
    return RayWorkflow(add(add(1, 2), 3), workflow_name="functions")


def instances() -> RayWorkflow:
    """An instance in an actor."""
    total: Any = Total()
    return RayWorkflow(total.add(1), total.add(2), workflow_name="instances")


def options() -> RayWorkflow:
    """Nodes with options of their own."""
    made = functions()
    made.query().set_remote_args({"runtime_env": {"env_vars": {"NAME": "value"}}})
    return made


def failing() -> RayWorkflow:
    """A node that fails."""
    return RayWorkflow(divide(add(1, 2), 0), workflow_name="failing")


ATTEMPTS = 3


@pytest.mark.parametrize("make", [functions, instances, options, failing])
def test_objects_do_not_grow_with_runs(make: Callable[[], RayWorkflow]) -> None:
    """A run leaves no object in the process, whatever ran.

    Threads of Ray, and of other tests, make objects now and then; what a run leaves shows in each attempt.
    """

    def objects_after(runs: int) -> int:
        for _ in range(runs):
            with suppress(ZeroDivisionError):
                make().run()
        gc.collect()
        return len(gc.get_objects())

    counts = [objects_after(3), *(objects_after(RUNS) for _ in range(ATTEMPTS))]

    assert any(after < before + RUNS * 5 for before, after in pairwise(counts)), counts
