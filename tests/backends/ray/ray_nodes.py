"""Workflows and nodes of the tests on Ray."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow

ray = pytest.importorskip("ray")

from functionfuse.backends.builtin.rayback import RayWorkflow  # noqa: E402 - not without Ray

if TYPE_CHECKING:
    from functionfuse.testing.engine.suite import Journal, Latch


__all__ = [
    "Locked",
    "Weights",
    "assigned",
    "both",
    "die",
    "die_once",
    "doubled",
    "fail_when",
    "held",
    "looked_at",
    "noted",
    "ones",
    "process",
    "ray_workflow",
    "same",
    "task_name",
    "variable",
    "without_actors",
]


def without_actors(*nodes: Any, workflow_name: str) -> RayWorkflow:
    """A workflow whose instances are in no actor."""
    return RayWorkflow(*nodes, workflow_name=workflow_name, actors=False)


both = pytest.mark.parametrize("make", [RayWorkflow, without_actors], ids=["actors", "tasks"])


def ray_workflow(*nodes: Any) -> RayWorkflow:
    """A workflow with a name."""
    return RayWorkflow(*nodes, workflow_name="ray")


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def noted(journal: Journal, line: str, *needs: Any) -> str:
    """Write a line."""
    journal.write(line)
    return line


@workflow
def ones(count: int) -> Any:
    """Make an array; from some 100 kB on, it goes through shared memory."""
    return np.ones(count)


@workflow
def doubled(array: Any) -> Any:
    """Change the argument."""
    array *= 2
    return array


@workflow
def process(_: int) -> int:
    """Tell in which process this runs."""
    return os.getpid()


@workflow
def looked_at(array: Any) -> tuple[bool, bool]:
    """Tell whether an array can be written to, and whether it is in shared memory."""
    return array.flags.writeable, in_shared_memory(array)


@workflow
def variable(name: str) -> str | None:
    """Look into the worker's environment."""
    return os.environ.get(name)


@workflow
def task_name() -> str:
    """Tell what Ray calls the task that this runs in."""
    name: str = ray.get_runtime_context().get_task_name()
    return name


@workflow
def assigned() -> dict[str, float]:
    """Tell what Ray gave the task."""
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
    return resources


@workflow
def die(how: str, *needs: Any) -> None:
    """End the worker without a word."""
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
def die_once(path: str, journal: Journal) -> str:
    """End the worker the first time."""
    journal.write("tried")
    if not Path(path).exists():
        Path(path).touch()
        os._exit(3)
    return "done"


@workflow
class Weights:
    """An array that methods change in place."""

    def __init__(self, start: Any) -> None:  # noqa: D107
        self.array = start

    def add(self, number: float) -> float:
        """Add to each."""
        self.array += number
        total: float = self.array.sum()
        return total

    def where(self) -> int:
        """Tell which process this is."""
        return os.getpid()

    def resources(self) -> dict[str, float]:
        """Tell what Ray gave the process."""
        resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
        return resources

    def die(self) -> None:
        """End the worker."""
        os._exit(3)


@workflow
class Locked:
    """Holds what cannot be pickled."""

    def __init__(self) -> None:  # noqa: D107
        self.lock, self.count = threading.Lock(), 0

    def next(self) -> int:
        """Count."""
        with self.lock:
            self.count += 1
        return self.count


def in_shared_memory(array: Any) -> bool:
    """Tell whether an array lies in the memory that Ray's processes share."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= array.ctypes.data < end:
            return "plasma" in line
    return False


@workflow
def held(latch: Latch, journal: Journal) -> str:
    """Wait at a latch."""
    journal.write("held")
    latch.wait()
    return "held"


@workflow
def fail_when(journal: Journal, line: str) -> None:
    """Raise when two others have started."""
    while journal.lines().count(line) < 2:
        time.sleep(0.01)
    raise ValueError(line)
