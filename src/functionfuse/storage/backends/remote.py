"""fsspec file backend: every file is written by one put and read by one get."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, ClassVar

from functionfuse.storage.backends.protocol import Content
from functionfuse.storage.backends.sidecar_folders import SidecarFolder, is_link

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsspec import AbstractFileSystem

    from functionfuse.errors import StorageError
    from functionfuse.storage.backends.connection import Connection
    from functionfuse.storage.file_format.frame import Frame

__all__ = ["RemoteBackend"]


class RemoteBackend:
    """Files in subfolders; see `FileBackend`."""

    fold_case: ClassVar[bool] = False
    globs: ClassVar[bool] = True

    def __init__(self, connection: Connection) -> None:
        """Use a connection; nothing is connected."""
        self.connection = connection

    def __reduce__(self) -> tuple[object, tuple[Any, ...]]:
        return type(self), (self.connection,)

    def __repr__(self) -> str:
        return repr(self.path)

    @property
    def path(self) -> str:
        """The URL without a password."""
        return self.connection.shown_url

    @property
    def filesystem(self) -> AbstractFileSystem:
        """The file system of this process."""
        return self.connection.filesystem

    def at(self, *parts: str) -> str:
        """A path on the file system."""
        return "/".join((self.connection.root, *parts))

    def make(self, subfolder: str) -> None:
        """Do nothing: the first file creates its folder, on file systems with folders."""

    def write(self, subfolder: str, name: str, frame: Frame, *, requires: str = "") -> int:  # noqa: ARG002
        """Write a file by one put."""
        data = frame.joined()
        try:
            self._put(subfolder, name, data)
        except FileNotFoundError:  # the first result of a workflow on a file system with folders
            self.call("makedirs", self.at(subfolder), exist_ok=True)
            self._put(subfolder, name, data)
        return len(data)

    def read(
        self,
        subfolder: str,
        name: str,
        *,
        mapped: bool = True,  # noqa: ARG002 - remote files cannot be mapped
        deferred: bool = False,  # noqa: ARG002
        on_demand: bool = False,  # noqa: ARG002
    ) -> Content:
        """Read a file by one get."""
        return Content(bytearray(self.call("cat_file", self.at(subfolder, name))))

    def start(self, subfolder: str, name: str, size: int) -> bytes:
        """The first `size` bytes of a file."""
        data: bytes = self.call("cat_file", self.at(subfolder, name), start=0, end=size)
        return data

    def starts(
        self, subfolder: str, names: Sequence[str], size: int, needed: Callable[[bytes], int]
    ) -> dict[str, bytes]:
        """The beginnings of several files, concurrently on file systems that can."""
        found = self._starts(subfolder, names, size)
        more = {name: total for name, start in found.items() if (total := needed(start)) > size}
        if more:
            found |= self._starts(subfolder, list(more), max(more.values()))
        return {name: start[: more.get(name, size)] for name, start in found.items()}

    def exists(self, subfolder: str, name: str) -> bool:
        """Whether a file exists."""
        try:
            found = self.call("info", self.at(subfolder, name))
        except FileNotFoundError:
            return False
        return bool(found["type"] == "file")

    def names(self, subfolder: str) -> list[str]:
        """The files of a subfolder."""
        return self._listed("file", subfolder)

    def subfolders(self) -> list[str]:
        """The subfolders."""
        return self._listed("directory")

    def remove(self, subfolder: str, name: str) -> None:
        """Remove a file."""
        self.call("rm_file", self.at(subfolder, name))

    def remove_all(self, subfolder: str) -> None:
        """Remove a subfolder with its contents."""
        self.connection.remove_all(self.at(subfolder))

    def hidden_folder(self, subfolder: str, name: str) -> SidecarFolder:
        """A hidden folder in a subfolder, next to the result files."""
        return SidecarFolder(self.connection, (subfolder, name))

    def has_sidecars(self, subfolder: str) -> bool:  # noqa: ARG002 - a query costs as much as a listing
        """Always true: the folder may exist."""
        return True

    def sweep(self, subfolder: str) -> None:
        """Do nothing: an interrupted put leaves no file."""

    def scrub(self, error: StorageError) -> None:
        """Remove secrets from an error and its causes."""
        self.connection.scrub(error)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system; see `Connection.call`."""
        return self.connection.call(method, *arguments, **options)

    def _starts(self, subfolder: str, names: Sequence[str], size: int) -> dict[str, bytes]:
        found = self.connection.starts([self.at(subfolder, name) for name in names], size)
        return {name: start for name, start in zip(names, found, strict=True) if start is not None}

    def _put(self, subfolder: str, name: str, data: bytes) -> None:
        self.call("pipe_file", self.at(subfolder, name), data)

    def _listed(self, kind: str, *subfolder: str) -> list[str]:
        folder = self.at(*subfolder)
        try:
            found = self.call("ls", folder, detail=True)
        except FileNotFoundError:
            return []
        names = [
            posixpath.basename(entry["name"].rstrip("/"))
            for entry in found
            if entry["type"] == kind and not is_link(entry)
            if entry["name"].strip("/")
            != folder.strip("/")  # some file systems list a file as a folder
        ]
        return [name for name in names if name and name[0] != "."]
