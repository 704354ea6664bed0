"""A folder on any file system of fsspec, in which a file is written by one put."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, ClassVar

from functionfuse.storage.backends.protocol import Content
from functionfuse.storage.backends.sidecar_folders import SIDECARS, SidecarFolder, is_link

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from functionfuse.errors import StorageError
    from functionfuse.storage.backends.connection import Connection
    from functionfuse.storage.file_format.file_format import Frame

__all__ = ["RemoteBackend"]


class RemoteBackend:
    """Files in subfolders; see `FileBackend`."""

    fold_case: ClassVar[bool] = False
    globs: ClassVar[bool] = True

    def __init__(self, connection: Connection) -> None:
        """Take a recipe of the file system; nothing is connected."""
        self.connection = connection

    def __reduce__(self) -> tuple[object, tuple[Any, ...]]:
        return type(self), (self.connection,)

    def __repr__(self) -> str:
        return repr(self.path)

    @property
    def path(self) -> str:
        """The address, without a password."""
        return self.connection.shown_url

    @property
    def filesystem(self) -> AbstractFileSystem:
        """The file system of this process."""
        return self.connection.filesystem

    def at(self, *parts: str) -> str:
        """A path on the file system."""
        return "/".join((self.connection.root, *parts))

    def make(self, subfolder: str) -> None:
        """Nothing: the first file makes its folder, where there is such a thing."""

    def write(self, subfolder: str, name: str, frame: Frame, *, requires: str = "") -> int:  # noqa: ARG002
        """Put a file in place by one put."""
        data = b"".join(frame)
        try:
            self._put(subfolder, name, data)
        except FileNotFoundError:  # a file system with folders, and the first result of a workflow
            self.call("makedirs", self.at(subfolder), exist_ok=True)
            self._put(subfolder, name, data)
        return len(data)

    def read(
        self,
        subfolder: str,
        name: str,
        *,
        mapped: bool = True,  # noqa: ARG002 - it never is
        deferred: bool = False,  # noqa: ARG002
    ) -> Content:
        """A file, by one get."""
        return Content(bytearray(self.call("cat_file", self.at(subfolder, name))))

    def start(self, subfolder: str, name: str, size: int) -> bytes:
        """The first bytes of a file."""
        data: bytes = self.call("cat_file", self.at(subfolder, name), start=0, end=size)
        return data

    def exists(self, subfolder: str, name: str) -> bool:
        """Tell whether there is such a file."""
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
        """Remove a subfolder with all that is in it."""
        self.connection.remove_all(self.at(subfolder))

    def sidecars(self, subfolder: str) -> SidecarFolder:
        """The folder of what serializers write for results of a subfolder."""
        return SidecarFolder(self.connection, (subfolder, SIDECARS))

    def has_sidecars(self, subfolder: str) -> bool:  # noqa: ARG002 - asking costs as much as looking
        """Serializers may have written something."""
        return True

    def sweep(self, subfolder: str) -> None:
        """Nothing is left unfinished by a put."""

    def scrub(self, error: StorageError) -> None:
        """Take secrets out of an error."""
        self.connection.scrub(error)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system; see `Connection.call`."""
        return self.connection.call(method, *arguments, **options)

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
