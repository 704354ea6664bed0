"""Damage marks: files that mark a stored result whose sidecar files turned out to be damaged after loading.

A lazy value reads its files at any time, in any process, perhaps outside of a run that could recover.
Therefore the reader itself writes a file next to the damaged ones, and loading that result raises `CorruptResult`.
A mark belongs to one save: it is removed with the sidecar files and does not apply to a later result.
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
_HEADER: Final = 2**20  # bytes; longer than any header


class StoredResult(NamedTuple):
    """The result that a sidecar folder belongs to; picklable."""

    backend: FileBackend
    subfolder: str
    file: str
    workflow: str
    node: str
    token: str  # of the save; empty for the legacy format, whose results share a folder

    def corrupt(self, folder: SidecarFolder, problem: str) -> CorruptResult:
        """Mark the result and return the error to raise for a damaged file in the folder."""
        error = CorruptResult(
            f"the stored result of node {self.node!r} of workflow {self.workflow!r} is damaged: "
            f"{problem}; {self._mark(folder, problem)}"
        )
        error.workflow, error.node, error.problem = self.workflow, self.node, problem
        return error

    def check(self, folder: SidecarFolder) -> None:
        """Raise if the result is marked as damaged.

        Raises:
            CorruptResult: It is marked; the message has the cause.
        """
        try:
            problem = folder.read_bytes(mark_of(self.file))[:_LONGEST].decode(errors="replace")
        except FileNotFoundError:
            return
        message = f"it was found to be damaged: {problem}"
        raise CorruptResult(message)

    def _mark(self, folder: SidecarFolder, problem: str) -> str:
        """Mark the result; returns advice for the error message."""
        try:
            if self._stored_token() != self.token:
                return "it was replaced since it was read: read it again"
            folder.write_bytes(mark_of(self.file), problem.encode(errors="replace"))
        except (FileNotFoundError, CorruptResult):
            pass  # removed, or its header is damaged: no run will load it
        except (OSError, StorageError) as error:
            call = f"storage.remove_task({self.workflow!r}, {self.node!r})"
            return f"it cannot be marked as damaged ({error}): call {call}, then run the workflow to compute it again"
        return "run the workflow again to compute it"

    def _stored_token(self) -> str | None:
        """The token of the save in the stored result; None for a result without sidecar files."""
        match header_of(self.backend.start(self.subfolder, self.file, _HEADER)):
            case None:
                return ""
            case {"objects": {"folder": str(token)}}:
                return token
        return None


def mark_of(file: str) -> str:
    """The name of the file that marks a result as damaged."""
    return f"{DAMAGED_PREFIX}{file}"
