"""Base of the conformance suite: creates workflows and records executions of nodes."""

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
_PATIENCE = 60.0  # seconds until a node at a closed latch fails instead of hanging


@dataclass(frozen=True)
class Journal:
    """File of lines that nodes write in any process, to count executions."""

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
        """Context manager; after the block, its list has the lines written in the block."""
        before, new = len(self.lines()), list[str]()
        yield new
        new += self.lines()[before:]


@dataclass(frozen=True)
class Latch:
    """Latch at which nodes of any process wait until the test opens it: a named pipe."""

    path: str

    @contextmanager
    def closed(self) -> Iterator[Callable[[], object]]:
        """Create the latch; yields the function that opens it."""
        os.mkfifo(self.path)
        # open at both ends: no process blocks on opening it, and written data stays in it
        descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        try:
            yield lambda: os.write(descriptor, b".")
        finally:
            os.close(descriptor)

    def open(self) -> None:
        """Open the latch for all waiting nodes."""
        Path(self.path).write_bytes(b".")

    def wait(self) -> None:
        """Block until the latch is open.

        Raises:
            TimeoutError: It was not opened in time.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            readable, _, _ = select.select([descriptor], [], [], _PATIENCE)
        finally:
            os.close(descriptor)
        if not readable:
            message = f"the latch was not opened within {_PATIENCE} seconds"
            raise TimeoutError(message)


class Suite:
    """One part of the conformance suite; see `functionfuse.testing.EngineTests`."""

    #: Node functions run in other processes than the caller of `run()`.
    runs_in_other_processes: ClassVar[bool] = False
    #: Independent nodes run concurrently.
    runs_side_by_side: ClassVar[bool] = True
    #: Each node gets a copy of a value, which it may change.
    copies_values: ClassVar[bool] = False
    #: Arrays arrive writeable.
    arrays_are_writeable: ClassVar[bool] = True
    #: A large argument of many nodes is pickled at most once.
    pickles_literals_once: ClassVar[bool] = True
    #: An instance stays in the process that created it, so that it need not be picklable.
    keeps_instances: ClassVar[bool] = False
    #: A BaseException like SystemExit reaches the caller with its own type.
    carries_base_exceptions: ClassVar[bool] = True
    #: The death of a worker fails no other node.
    isolates_crashes: ClassVar[bool] = True
    #: The traceback of an exception has the user's file.
    carries_tracebacks: ClassVar[bool] = True
    #: The number of nodes in the longest chain and the widest fan-out.
    many: ClassVar[int] = 300
    #: The number of random graphs in each property test.
    max_examples: ClassVar[int] = 50

    #: Called as `make_workflow(*nodes, workflow_name=...)`: a method, or `staticmethod(MyWorkflow)`.
    make_workflow: Callable[..., Workflow[Any]]

    def new_workflow(self, *nodes: Any, workflow_name: str = WORKFLOW) -> Workflow[Any]:
        """A workflow of the backend under test."""
        return self.make_workflow(*nodes, workflow_name=workflow_name)

    def compute(self, *nodes: Any) -> Any:
        """Run a new workflow of some targets."""
        return self.new_workflow(*nodes).run()

    def stored(self, storage: Any, *nodes: Any, workflow_name: str = WORKFLOW) -> Workflow[Any]:
        """A new workflow with a storage."""
        made = self.new_workflow(*nodes, workflow_name=workflow_name)
        made.set_storage(storage)
        return made

    def need(self, flag: str) -> None:
        """Skip a test of a capability that the engine does not claim."""
        if not getattr(self, flag):
            pytest.skip(f"{flag} = False")

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        """The journal in which nodes record their calls."""
        return Journal(str(tmp_path / "journal"))

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """An empty storage in `tmp_path / "storage"`."""
        return storage_factory({"kind": "file", "options": {"path": str(tmp_path / "storage")}})


def here() -> int:
    """The line number of the caller."""
    return sys._getframe(1).f_lineno


def notes_of(error: BaseException) -> list[str]:
    """The notes on an exception."""
    return list(getattr(error, "__notes__", []))


def text_of(error: BaseException) -> str:
    """The message of an exception with its notes."""
    return "\n".join([str(error), *notes_of(error)])
