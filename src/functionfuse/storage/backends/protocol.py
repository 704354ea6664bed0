"""File backend protocol: the file operations that a storage needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from functionfuse.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from mmap import mmap

    from functionfuse.storage.backends.file_io import PrivateContents
    from functionfuse.storage.backends.sidecar_folders import SidecarFolder
    from functionfuse.storage.file_format.frame import Frame
    from functionfuse.storage.file_format.verification import DeferredVerification

__all__ = ["Content", "FileBackend", "WorkflowRemovedError"]


class WorkflowRemovedError(StorageError):
    """A workflow was removed while one of its results was saved."""


class Content(NamedTuple):
    """A file that was read."""

    data: bytearray | mmap  # writeable; changes do not reach the file
    check: DeferredVerification | None = None  # if buffers may be verified later
    source: PrivateContents | None = None  # if the data are read on demand


class FileBackend(Protocol):
    """A folder with subfolders of files; every file is written atomically.

    The methods raise `OSError` and its subclasses, or a `StorageError` with more information.
    A backend is pickled as its options, and does no input or output before it is used.
    Names of files and folders are encoded by `file_names.file_name`.
    """

    @property
    def path(self) -> str:
        """Path or URL for messages, without secrets."""

    @property
    def fold_case(self) -> bool:
        """Whether file names are case-insensitive."""

    @property
    def globs(self) -> bool:
        """Whether the file system reads names with `*` or `?` as patterns or parts of a URL."""

    def make(self, subfolder: str) -> None:
        """Create a subfolder if it is missing, on file systems with folders."""

    def write(self, subfolder: str, name: str, frame: Frame, *, requires: str = "") -> int:
        """Write a file atomically; an earlier one stays intact until then. Returns the size.

        Args:
            subfolder: The subfolder of the file.
            name: The name of the file.
            frame: The contents.
            requires: Path of a folder within the subfolder that must exist, if that can be checked in
                the same step.

        Raises:
            WorkflowRemovedError: The required folder is missing.
        """

    def read(
        self,
        subfolder: str,
        name: str,
        *,
        mapped: bool = True,
        deferred: bool = False,
        on_demand: bool = False,
    ) -> Content:
        """Read a file.

        Args:
            subfolder: The folder of the file.
            name: The name of the file.
            mapped: Allow memory mapping; otherwise the file is read once into private memory.
            deferred: Allow verification of parts of a mapped file after the read has returned.
            on_demand: Allow a source that reads parts of the file when they are verified.
        """

    def start(self, subfolder: str, name: str, size: int) -> bytes:
        """The first `size` bytes of a file, or all of a shorter file."""

    def starts(
        self, subfolder: str, names: Sequence[str], size: int, needed: Callable[[bytes], int]
    ) -> dict[str, bytes]:
        """The beginnings of several files, by name, read concurrently on object stores; missing files are absent.

        Args:
            subfolder: The subfolder of the files.
            names: The names of the files.
            size: The bytes to read first.
            needed: Takes these bytes, and returns how many the caller needs.
        """

    def exists(self, subfolder: str, name: str) -> bool:
        """Whether a file exists."""

    def names(self, subfolder: str) -> list[str]:
        """The files of a subfolder, without hidden ones; empty if the subfolder is missing."""

    def subfolders(self) -> list[str]:
        """The subfolders, without hidden ones."""

    def remove(self, subfolder: str, name: str) -> None:
        """Remove an existing file."""

    def remove_all(self, subfolder: str) -> None:
        """Remove a subfolder with its contents."""

    def hidden_folder(self, subfolder: str, name: str) -> SidecarFolder:
        """A hidden folder in a subfolder, next to the result files."""

    def has_sidecars(self, subfolder: str) -> bool:
        """Whether the subfolder may have sidecar folders."""

    def sweep(self, subfolder: str) -> None:
        """Remove old leftovers of killed processes."""

    def scrub(self, error: StorageError) -> None:
        """Remove secrets from an error and its causes."""
