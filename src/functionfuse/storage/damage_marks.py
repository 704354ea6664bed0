"""Mark a stored result whose sidecar files turn out to be damaged after its value was given out.

The value is lazy: nobody can tell when and where it will be read, nor whether a run is there to recover.
So the reader itself leaves a file next to the damaged ones, and loading that result raises `CorruptResult`.
The mark belongs to one save: it goes with the sidecar files, and says nothing of a result that replaces them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.file_format import header_of
from functionfuse.storage.file_format.verification import DAMAGED_PREFIX

if TYPE_CHECKING:
    from functionfuse.storage.backends.protocol import FileBackend
    from functionfuse.storage.backends.sidecar_folders import SidecarFolder

__all__ = ["StoredResult", "mark_of"]

_LONGEST: Final = 1000  # bytes of a mark that are shown
_HEADER: Final = 2**20  # bytes; no header is longer


class StoredResult(NamedTuple):
    """The result that a folder of sidecar files belongs to, by recipe."""

    backend: FileBackend
    subfolder: str
    file: str
    workflow: str
    node: str
    token: str  # of the save; empty for the old format, whose results share a folder

    def corrupt(self, folder: SidecarFolder, problem: str) -> CorruptResult:
        """The error to raise for a damaged file in the folder; marks the result."""
        error = CorruptResult(
            f"the stored result of node {self.node!r} of workflow {self.workflow!r} is damaged: "
            f"{problem}; {self._mark(folder, problem)}"
        )
        error.workflow, error.node, error.problem = self.workflow, self.node, problem
        return error

    def check(self, folder: SidecarFolder) -> None:
        """Refuse a result that is marked.

        Raises:
            CorruptResult: It is, with what was wrong.
        """
        try:
            problem = folder.read_bytes(mark_of(self.file))[:_LONGEST].decode(errors="replace")
        except FileNotFoundError:
            return
        message = f"it was found to be damaged: {problem}"
        raise CorruptResult(message)

    def _mark(self, folder: SidecarFolder, problem: str) -> str:
        """Mark the result; returns what the user can do."""
        try:
            if self._stored_token() != self.token:
                return "it was replaced since it was read: read it again"
            folder.write_bytes(mark_of(self.file), problem.encode(errors="replace"))
        except (FileNotFoundError, CorruptResult):
            pass  # removed since, or damaged itself: no run will load it
        except (OSError, StorageError) as error:
            call = f"storage.remove_task({self.workflow!r}, {self.node!r})"
            return (
                f"this cannot be noted ({error}): call {call}, then run the workflow to compute it"
            )
        return "run the workflow again to compute it"

    def _stored_token(self) -> str | None:
        """The save that the stored result is of; None for a result without sidecar files."""
        match header_of(self.backend.start(self.subfolder, self.file, _HEADER)):
            case None:
                return ""
            case {"objects": {"folder": str(token)}}:
                return token
        return None


def mark_of(file: str) -> str:
    """The name of the file that marks a result."""
    return f"{DAMAGED_PREFIX}{file}"
