"""What a storage needs of the place where its files are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from functionfuse.errors import StorageError

if TYPE_CHECKING:
    from mmap import mmap

    from functionfuse.storage.backends.sidecar_folders import SidecarFolder
    from functionfuse.storage.file_format.file_format import Frame
    from functionfuse.storage.file_format.verification import DeferredVerification

__all__ = ["Content", "FileBackend", "WorkflowRemovedError"]


class WorkflowRemovedError(StorageError):
    """A workflow was removed while one of its results was saved."""


class Content(NamedTuple):
    """A file that was read."""

    data: bytearray | mmap  # can be written to; the file stays as it is
    check: DeferredVerification | None = None  # where buffers may be checked later


class FileBackend(Protocol):
    """A folder whose subfolders hold files, each of them whole or not there.

    Its methods raise `OSError` and its children, or a `StorageError` that says more.
    It travels by recipe, and touches nothing before it is used.
    Names of files and folders are those of `naming.file_name`.
    """

    @property
    def path(self) -> str:
        """Where it is, for people: nothing secret is in it."""

    @property
    def fold_case(self) -> bool:
        """Tell whether upper and lower case are the same here."""

    @property
    def globs(self) -> bool:
        """Tell whether names with `*` or `?` would be read as patterns or addresses here."""

    def make(self, subfolder: str) -> None:
        """Make a subfolder if it is not there, where there is such a thing."""

    def write(self, subfolder: str, name: str, frame: Frame, *, requires: str = "") -> int:
        """Put a file in place in one step; an earlier one stays whole until then. Returns its size.

        Args:
            subfolder: Where.
            name: Of the file.
            frame: Its contents.
            requires: Path in the subfolder of a folder that has to be there, where that can be checked in
                the same step.

        Raises:
            WorkflowRemovedError: That folder is not there.
        """

    def read(
        self, subfolder: str, name: str, *, mapped: bool = True, deferred: bool = False
    ) -> Content:
        """Read a file.

        Args:
            subfolder: The folder of the file.
            name: The name of the file.
            mapped: The file may be mapped; otherwise it is read once into private memory.
            deferred: Parts of a mapped file may be checked after they were returned.
        """

    def start(self, subfolder: str, name: str, size: int) -> bytes:
        """The first bytes of a file, fewer if it has no more."""

    def exists(self, subfolder: str, name: str) -> bool:
        """Tell whether there is such a file."""

    def names(self, subfolder: str) -> list[str]:
        """The files of a subfolder, without hidden ones; none if there is no subfolder."""

    def subfolders(self) -> list[str]:
        """The subfolders, without hidden ones."""

    def remove(self, subfolder: str, name: str) -> None:
        """Remove a file that is there."""

    def remove_all(self, subfolder: str) -> None:
        """Remove a subfolder with all that is in it."""

    def sidecars(self, subfolder: str) -> SidecarFolder:
        """The folder of what serializers write for results of a subfolder."""

    def has_sidecars(self, subfolder: str) -> bool:
        """Tell whether serializers may have written something there."""

    def sweep(self, subfolder: str) -> None:
        """Remove what killed processes left unfinished long ago."""

    def scrub(self, error: StorageError) -> None:
        """Take out of an error, and of what led to it, what nobody may see."""
