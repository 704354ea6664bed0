"""The folders in which serializers keep what they write, beside the result files."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.serializers.base import FOLDER_PROTOCOL, S3_PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functionfuse.storage.backends.connection import Connection
    from functionfuse.storage.damage_marks import StoredResult

__all__ = ["LEGACY_SIDECARS", "SIDECARS", "S3SidecarFolder", "SidecarFolder", "inside", "is_link"]

_TIMES: Final = ("mtime", "LastModified", "last_modified", "created")  # as file systems call it

#: The subfolder of a workflow that has them: `.objects/<file of the result>/<one save>/`.
SIDECARS: Final = ".objects"
#: The one that the published system has: `bigdata/<object>`, for all results.
LEGACY_SIDECARS: Final = "bigdata"


class SidecarFolder:
    """A folder on a file system of fsspec; see `functionfuse.serializers.base.ResultFolder`."""

    def __init__(
        self, connection: Connection, parts: tuple[str, ...], result: StoredResult | None = None
    ) -> None:
        """Take a recipe; nothing is connected.

        Args:
            connection: The file system.
            parts: The path below the connection's root.
            result: The stored result that is read from this folder.
        """
        self._connection = connection
        self.parts = parts
        self._result = result
        self.is_written = False  # by this process and object, as far as it has seen

    def __reduce__(self) -> tuple[type[SidecarFolder], tuple[Any, ...]]:
        return type(self), (self._connection, self.parts, self._result)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r}, {'/'.join(self.parts)!r})"

    @property
    def filesystem(self) -> Any:
        """The file system of this process."""
        return self._connection.filesystem

    @property
    def path(self) -> str:
        """The folder on the file system."""
        return "/".join((self._connection.root, *self.parts))

    def inner(self, *parts: str) -> SidecarFolder:
        """A folder of this one.

        Raises:
            CorruptResult: A part leads somewhere else.
        """
        return self._with((*self.parts, *map(inside, parts)))

    def of(self, result: StoredResult) -> SidecarFolder:
        """The same folder, as one that a stored result is read from."""
        return self._with(self.parts, result)

    def corrupt(self, problem: str) -> CorruptResult:
        """The error for a damaged file, with the name of the result, which is marked as damaged."""
        return self._result.corrupt(self, problem) if self._result else CorruptResult(problem)

    def check(self) -> None:
        """Refuse to read a result that is marked as damaged.

        Raises:
            CorruptResult: It is.
        """
        if self._result:
            self._result.check(self)

    def protocols(self) -> dict[str, Any]:
        """What serializers find here."""
        return {FOLDER_PROTOCOL: self}

    def names(self) -> list[str]:
        """What is in the folder, without links; nothing if it is not there."""
        path = self.path
        try:
            found = self._connection.call("ls", path, detail=True)
        except FileNotFoundError:
            return []
        paths = [entry["name"].rstrip("/") for entry in found if not is_link(entry)]
        return [inner.rpartition("/")[2] for inner in paths if inner != path.rstrip("/")]

    def changed(self) -> float:
        """When something in the folder was last written; now if the file system does not tell."""
        found = self._connection.call("find", self.path, withdirs=True, detail=True)
        return max((_changed(file) for file in found.values()), default=0.0)

    def published(self) -> SidecarFolder:
        """The folder beside this one in which the published system keeps objects of all results."""
        return self._with((*self.parts[:-1], LEGACY_SIDECARS))

    def open(self, name: str, mode: str) -> Any:
        """Open a file; the folder is made with the first one."""
        path = f"{self.path}/{inside(name)}"
        self.is_written |= "r" not in mode
        try:
            return self.filesystem.open(path, mode)
        except FileNotFoundError:
            if "r" in mode:
                raise
            self._create_parent(path)
            return self.filesystem.open(path, mode)

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file."""
        data: bytes = self._connection.call("cat_file", f"{self.path}/{inside(name)}")
        return data

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file by one put; the folder is made with the first one."""
        path, data = f"{self.path}/{inside(name)}", bytes(data)
        self.is_written = True
        try:
            self._connection.call("pipe_file", path, data)
        except FileNotFoundError:
            self._create_parent(path)
            self._connection.call("pipe_file", path, data)

    def remove(self, name: str = "") -> None:
        """Remove a file or folder of this folder, or all of it, if it is there.

        Raises:
            StorageError: A symbolic link is on the way.
        """
        self._check_links()
        self._connection.remove_all(f"{self.path}/{inside(name)}" if name else self.path)

    def _with(self, parts: tuple[str, ...], result: StoredResult | None = None) -> SidecarFolder:
        """Another folder on the same file system, or this one for a result."""
        return type(self)(self._connection, parts, result)

    def _create_parent(self, path: str) -> None:
        self._connection.call("makedirs", path.rpartition("/")[0], exist_ok=True)

    def _check_links(self) -> None:
        """Refuse a path with a link below the storage, where a file system has links and tells them."""
        for depth in range(1, len(self.parts) + 1):
            path = "/".join((self._connection.root, *self.parts[:depth]))
            try:
                entry = self._connection.call("info", path)
            except FileNotFoundError:
                return
            if is_link(entry):
                message = f"{path!r} is a symbolic link, which a storage does not follow"
                raise StorageError(message)


class S3SidecarFolder(SidecarFolder):
    """A folder in a bucket."""

    def protocols(self) -> dict[str, Any]:
        """What serializers find here."""
        backend = {"client": self.filesystem, "folder": self.path}
        return {S3_PROTOCOL: backend, FOLDER_PROTOCOL: self}

    def _check_links(self) -> None:
        """There are none."""


def inside(name: str) -> str:
    """A name out of a result file, which may be somebody else's.

    Raises:
        CorruptResult: It leads out of its folder.
    """
    if not name or "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        message = f"{name!r} is no name in the folder of a result's objects"
        raise CorruptResult(message)
    return name


def is_link(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a listing is a symbolic link."""
    return bool(entry.get("islink")) or entry["type"] == "link"


def _changed(entry: Mapping[str, Any]) -> float:
    """When a file was last written; now if the file system does not tell."""
    for name in _TIMES:
        found = entry.get(name)
        if found is not None:
            return float(found.timestamp() if isinstance(found, datetime) else found)
    return 0.0 if entry["type"] == "directory" else time.time()
