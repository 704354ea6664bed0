"""What all parts of the conformance suite share: how a workflow is made, and how executions are seen."""

from __future__ import annotations

import os
import select
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functionfuse.backends.base import Workflow
    from functionfuse.storage.base import Storage

__all__ = ["WORKFLOW", "Journal", "Latch", "Suite", "here", "notes_of", "text_of"]

#: What the workflows of the suite are called.
WORKFLOW = "suite"
_PATIENCE = 60.0  # seconds until a node at a closed gate fails instead of hanging


@dataclass(frozen=True)
class Journal:
    """Lines that nodes write in whatever process they run, so that executions can be counted."""

    path: str

    def write(self, line: str) -> None:
        """Add a line; one write in append mode, so that lines of several processes do not mix."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def lines(self) -> list[str]:
        """All lines so far."""
        path = Path(self.path)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    @contextmanager
    def added(self) -> Iterator[list[str]]:
        """Give a list that holds, after the block, the lines that were written in it."""
        before, new = len(self.lines()), list[str]()
        yield new
        new += self.lines()[before:]


@dataclass(frozen=True)
class Latch:
    """Nodes wait at it, in whatever process, until the test opens it: a named pipe."""

    path: str

    @contextmanager
    def closed(self) -> Iterator[Callable[[], object]]:
        """Make the gate; gives what opens it."""
        os.mkfifo(self.path)
        # open at both ends: nobody blocks on opening it, and what is written stays in it
        descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        try:
            yield lambda: os.write(descriptor, b".")
        finally:
            os.close(descriptor)

    def open(self) -> None:
        """Let through who waits at the gate that somebody has made."""
        Path(self.path).write_bytes(b".")

    def wait(self) -> None:
        """Block until the gate is open.

        Raises:
            TimeoutError: Nobody opened it.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            readable, _, _ = select.select([descriptor], [], [], _PATIENCE)
        finally:
            os.close(descriptor)
        if not readable:
            message = f"nobody opened the gate within {_PATIENCE} seconds"
            raise TimeoutError(message)


class Suite:
    """One part of the conformance suite; see `functionfuse.testing.EngineTests`."""

    #: Node functions run in other processes than the caller of `run()`.
    runs_in_other_processes: ClassVar[bool] = False
    #: Nodes that do not need each other run at the same time.
    runs_side_by_side: ClassVar[bool] = True
    #: Each node gets its own copy of a value, and may change it.
    copies_values: ClassVar[bool] = False
    #: Arrays arrive so that they can be written to.
    arrays_are_writeable: ClassVar[bool] = True
    #: A large object that many nodes take is pickled once, or never.
    pickles_literals_once: ClassVar[bool] = True
    #: An object that cannot be pickled can have methods: it stays where it was made.
    keeps_instances: ClassVar[bool] = False
    #: What is no Exception, as SystemExit, reaches the caller with its own type.
    carries_base_exceptions: ClassVar[bool] = True
    #: A worker that dies takes no other node with it.
    isolates_crashes: ClassVar[bool] = True
    #: The file in which an exception was raised is shown with it.
    carries_tracebacks: ClassVar[bool] = True
    #: Nodes of the longest chain, and of the widest fan.
    many: ClassVar[int] = 300
    #: How many random graphs each property test runs.
    max_examples: ClassVar[int] = 50

    #: Called as `make_workflow(*nodes, workflow_name=...)`: a method, or `staticmethod(MyWorkflow)`.
    make_workflow: Callable[..., Workflow[Any]]

    def new_workflow(self, *nodes: Any, workflow_name: str = WORKFLOW) -> Workflow[Any]:
        """A workflow of the backend that is tested."""
        return self.make_workflow(*nodes, workflow_name=workflow_name)

    def compute(self, *nodes: Any) -> Any:
        """Run a new workflow of some targets."""
        return self.new_workflow(*nodes).run()

    def stored(self, storage: Any, *nodes: Any, workflow_name: str = WORKFLOW) -> Workflow[Any]:
        """A new workflow that keeps its results."""
        made = self.new_workflow(*nodes, workflow_name=workflow_name)
        made.set_storage(storage)
        return made

    def need(self, flag: str) -> None:
        """Skip a test of what the engine does not claim to do."""
        if not getattr(self, flag):
            pytest.skip(f"{flag} = False")

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        """Where nodes write what they did."""
        return Journal(str(tmp_path / "journal"))

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """An empty storage in `tmp_path / "storage"`."""
        return storage_factory({"kind": "file", "options": {"path": str(tmp_path / "storage")}})


def here() -> int:
    """The number of the line that calls."""
    return sys._getframe(1).f_lineno


def notes_of(error: BaseException) -> list[str]:
    """The notes on an exception."""
    return list(getattr(error, "__notes__", []))


def text_of(error: BaseException) -> str:
    """What an exception and the notes on it say."""
    return "\n".join([str(error), *notes_of(error)])
