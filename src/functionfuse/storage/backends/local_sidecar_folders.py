"""Local sidecar folders: ordinary files that are never accessed through a symbolic link."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from functionfuse.serializers.base import FILE_PROTOCOL, FOLDER_PROTOCOL
from functionfuse.storage.backends.directories import (
    ATTEMPTS,
    directory,
    latest_change,
    make_directories,
    make_subdirectories,
    may_exist,
    open_regular,
    remove_empty,
    remove_entry,
)
from functionfuse.storage.backends.file_names import native_name, portable_names
from functionfuse.storage.backends.permissions import folder_mode
from functionfuse.storage.backends.protocol import WorkflowRemovedError
from functionfuse.storage.backends.sidecar_folders import SidecarFolder, inside
from functionfuse.storage.backends.temporary_files import ReplacingFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functionfuse.storage.backends.connection import Connection
    from functionfuse.storage.backends.sidecar_folders import MarkableResult

__all__ = ["LocalSidecarFolder"]


class LocalSidecarFolder(SidecarFolder):
    """A sidecar folder on the local file system."""

    def __init__(
        self,
        connection: Connection,
        parts: tuple[str, ...],
        result: MarkableResult | None = None,
        mode: int | None = None,
    ) -> None:
        """Configure the folder; no file is accessed.

        Args:
            connection: The file system, from its root.
            parts: The path of the storage's folder, and the names of folders below it.
            result: The stored result that is read from this folder.
            mode: Permissions of new files; None leaves them to the umask.
        """
        super().__init__(connection, parts, result)
        self._mode = mode
        self._is_created = False  # by a write of this object

    def __reduce__(self) -> tuple[type[LocalSidecarFolder], tuple[Any, ...]]:
        return type(self), (self._connection, self.parts, self._result, self._mode)

    def protocols(self) -> dict[str, Any]:
        """The protocols that this folder offers to serializers."""
        return {FILE_PROTOCOL: self, FOLDER_PROTOCOL: self}

    def names(self) -> list[str]:
        """The entries of the folder without links; empty if the folder is missing."""
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with missing, self._directory() as folder, os.scandir(folder) as entries:
            return portable_names([entry.name for entry in entries if not entry.is_symlink()])
        return []

    def changed(self) -> float:
        """The time of the last write in the folder; 0 if the folder is missing."""
        with contextlib.suppress(FileNotFoundError), self._directory() as folder:
            return latest_change(".", folder)
        return 0.0

    def open(self, name: str, mode: str) -> Any:
        """Open a file; the first write creates the folder.

        Raises:
            WorkflowRemovedError: The folder was removed after a file was written.
        """
        *folders, file = native_name(inside(name)).split("/")
        if "r" in mode:
            return self._open(folders, file, mode)
        self.is_written = True
        for _ in range(ATTEMPTS):
            try:
                opened = self._open(folders, file, mode)
            except FileNotFoundError:
                self._create(folders)
            else:
                self._is_created = True
                return opened
        return self._open(folders, file, mode)

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file."""
        with self.open(name, "rb") as file:
            data: bytes = file.read()
        return data

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file."""
        with self.open(name, "wb") as file:
            file.write(data)

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of small files; missing files and links are absent."""
        found = dict[str, bytes]()
        if not may_exist(os.path.join(self._root, *self.parts[1:])):
            return found
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with missing, self._directory() as folder:
            for name in names:
                with missing, self._open_in(folder, native_name(inside(name)), "rb") as file:
                    found[name] = file.read()
        return found

    def replace_many(self, files: Mapping[str, bytes]) -> None:
        """Write files, each atomically; the first one creates the folder.

        Raises:
            NotADirectoryError: A symbolic link or a file is in place of a folder.
        """
        remaining = dict(files)
        for _ in range(ATTEMPTS):
            if not remaining:
                return
            try:
                self._replace_in_folder(remaining)
            except FileNotFoundError:  # the folder is missing, or was removed
                self._create([])
        self._replace_in_folder(remaining)

    def remove_file(self, name: str) -> None:
        """Remove a file of this folder, if it exists, and parent folders that become empty."""
        self.remove(name)

    def remove(self, name: str = "") -> None:
        """Remove an entry of this folder, or the whole folder, and parent folders that become empty."""
        inner = native_name(inside(name)).split("/") if name else []
        *folders, last = [*self.parts[1:], *inner]
        nothing_of_ours = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with nothing_of_ours, directory(self._root, *folders) as parent:
            remove_entry(last, parent)
        with contextlib.suppress(NotADirectoryError):
            self._remove_empty(folders)

    def _remove_empty(self, folders: list[str]) -> None:
        """Delete empty folders from the inside out; the folder of the workflow stays."""
        gone = True
        while gone and len(folders) > 1:
            last = folders.pop()
            with contextlib.suppress(FileNotFoundError), directory(self._root, *folders) as parent:
                gone = remove_empty(last, parent)

    def _with(
        self, parts: tuple[str, ...], result: MarkableResult | None = None
    ) -> LocalSidecarFolder:
        return type(self)(self._connection, tuple(map(native_name, parts)), result, self._mode)

    @property
    def _root(self) -> str:
        return os.path.join(os.sep, self.parts[0])  # on Windows the part has a drive

    def _directory(self, *folders: str) -> contextlib.AbstractContextManager[int]:
        return directory(self._root, *self.parts[1:], *folders)

    def _create(self, folders: list[str]) -> None:
        """Create this folder and folders in it.

        Raises:
            WorkflowRemovedError: The folder was removed with the files that were written here.
        """
        mode = folder_mode(self._mode)
        if self._is_created:  # a new folder would lack the files that were written before
            try:
                with self._directory() as own:
                    make_subdirectories(own, *folders, mode=mode)
            except FileNotFoundError:
                message = "its workflow was removed in the meantime; save it again"
                raise WorkflowRemovedError(message) from None
            return
        if not os.path.isdir(self._root):
            os.makedirs(self._root, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed again in the meantime
            make_directories(self._root, *self.parts[1:], *folders, mode=mode)

    def _open(self, folders: list[str], file: str, mode: str) -> Any:
        with self._directory(*folders) as parent:
            return self._open_in(parent, file, mode)

    def _open_in(self, parent: int, file: str, mode: str) -> Any:
        """Open a file in the folder of a descriptor."""

        def opener(name: str, flags: int) -> int:
            return open_regular(name, flags, parent, self._mode)

        return open(file, mode, opener=opener)

    def _replace_in_folder(self, files: dict[str, bytes]) -> None:
        """Write files to this folder, and drop those that are written."""
        with self._directory() as folder:
            for name in list(files):
                with (
                    ReplacingFile(native_name(inside(name)), folder, self._mode) as raw,
                    open(raw.fileno(), "wb", closefd=False) as file,  # completes partial writes
                ):
                    file.write(files[name])
                del files[name]
