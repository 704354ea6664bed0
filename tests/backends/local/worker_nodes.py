"""Workflows and nodes of the tests of LocalWorkflow with workers."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from functionfuse.testing.engine.suite import Journal


__all__ = [
    "LARGE",
    "MAPPED",
    "copied",
    "die",
    "doubled_in_place",
    "folders_of",
    "in_processes",
    "in_threads",
    "is_worker",
    "leave",
    "noted",
    "ones",
    "process_number",
    "same",
    "total",
    "workers_of",
]

LARGE = 300_000  # bytes: more than what goes through a socket
MAPPED = 3_000_000  # bytes: more than what is copied on arrival


def in_threads(*nodes: Any, workflow_name: str = "workers") -> LocalWorkflow:
    """A workflow whose nodes run in three threads."""
    return LocalWorkflow(*nodes, workflow_name=workflow_name, workers=3, kind="threads")


def in_processes(*nodes: Any, workflow_name: str = "workers") -> LocalWorkflow:
    """A workflow whose nodes run in two other processes."""
    return LocalWorkflow(*nodes, workflow_name=workflow_name, workers=2)


def folders_of(process: int) -> set[Path]:
    """The folders in memory of a process's pools."""
    return set(Path("/dev/shm").glob(f"*functionfuse-{process}-*"))  # noqa: S108 - the folder of the pools


def workers_of(process: int) -> list[int]:
    """The worker processes that a process has."""
    children = list[str]()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            children += task.read_text().split()
    return [int(child) for child in children if is_worker(int(child))]


def is_worker(process: int) -> bool:
    """Tell whether a process is there, and is a worker."""
    try:
        return b"functionfuse._transport.worker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


@workflow
def same(value: Any, *needs: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def ones(count: int) -> Any:
    """Make an array of bytes."""
    return np.ones(count, np.uint8)


@workflow
def copied(array: Any) -> Any:
    """Copy the argument."""
    return array.copy()


@workflow
def doubled_in_place(array: Any) -> int:
    """Change the argument."""
    array *= 2
    return int(array.sum())


@workflow
def total(array: Any, *needs: Any) -> int:
    """Add up."""
    return int(array.sum())


@workflow
def die(number: int) -> None:
    """Be killed by a signal."""
    os.kill(os.getpid(), number)
    threading.Event().wait()


@workflow
def leave(code: int) -> None:
    """End the process."""
    os._exit(code)


@workflow
def process_number(*needs: Any) -> int:
    """Tell which process runs this."""
    return os.getpid()


@workflow
def noted(journal: Journal, word: str, *needs: Any) -> str:
    """Write a word."""
    journal.write(word)
    return word
