"""Quarantine a result whose sidecar files turn out to be damaged after its value was given out.

The value is lazy: nobody can tell when and where it will be read, nor whether a run is there to recover.
So the reader itself sees to it that the result no longer counts as stored:
the result file is moved into the folder of its sidecar files, where the next save of the result removes both.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.checks import DAMAGED
from functionfuse.storage.framing import header_of

if TYPE_CHECKING:
    from functionfuse.storage.objects import StoredObjects
    from functionfuse.storage.place import Place

__all__ = ["StoredResult", "is_quarantined"]

_HEADER: Final = 2**20  # bytes; no header is longer


class StoredResult(NamedTuple):
    """The result that a folder of sidecar files belongs to, by recipe."""

    place: Place
    subfolder: str
    file: str
    workflow: str
    node: str
    token: str  # of the save; empty for the old format

    def corrupt(self, folder: StoredObjects, problem: str) -> CorruptResult:
        """The error to raise for a damaged file in the folder; quarantines the result."""
        error = CorruptResult(
            f"the stored result of node {self.node!r} of workflow {self.workflow!r} is damaged: "
            f"{problem}; {self._quarantine(folder)}"
        )
        error.workflow, error.node, error.problem = self.workflow, self.node, problem
        return error

    def _quarantine(self, folder: StoredObjects) -> str:
        """Move the result file; returns what the user can do."""
        again = "it no longer counts as stored: run the workflow again to compute it"
        try:
            if self._stored_token() != self.token:
                return "it was replaced since it was read: read it again"
            name = f"{DAMAGED}{secrets.token_hex(4)}"
            folder.take_in(self.file, name, levels=3 if self.token else 1)
        except (
            FileNotFoundError,
            CorruptResult,
        ):  # another reader was faster; or no run will load it
            return again
        except (OSError, StorageError) as error:
            call = f"storage.remove_task({self.workflow!r}, {self.node!r})"
            return f"it cannot be moved ({error}): call {call}, and run the workflow again to compute it"
        return again

    def _stored_token(self) -> str | None:
        """The save that the stored result is of; None for a result without sidecar files."""
        match header_of(self.place.start(self.subfolder, self.file, _HEADER)):
            case None:
                return ""
            case {"objects": {"folder": str(token)}}:
                return token
        return None


def is_quarantined(folder: StoredObjects) -> bool:
    """Tell whether the result of a folder was moved into it."""
    return any(name.startswith(DAMAGED) for name in folder.names())
