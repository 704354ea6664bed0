"""The folders in which serializers keep what they write, beside the result files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import CorruptResult
from functionfuse.serializers.base import FILE_PROTOCOL, FOLDER_PROTOCOL, S3_PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functionfuse.storage.connection import Connection
    from functionfuse.storage.damage_marks import StoredResult

__all__ = ["OBJECTS", "PUBLISHED", "LocalObjects", "S3Objects", "StoredObjects", "inside"]

_TIMES: Final = ("mtime", "LastModified", "last_modified", "created")  # as file systems call it

_TEXT: Final = 1000  # characters of a text file that are read

#: The subfolder of a workflow that has them: `.objects/<file of the result>/<one save>/`.
OBJECTS: Final = ".objects"
#: The one that the published system has: `bigdata/<object>`, for all results.
PUBLISHED: Final = "bigdata"


class StoredObjects:
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

    def __reduce__(self) -> tuple[type[StoredObjects], tuple[Any, ...]]:
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

    def inner(self, *parts: str) -> StoredObjects:
        """A folder of this one.

        Raises:
            CorruptResult: A part leads somewhere else.
        """
        return type(self)(self._connection, (*self.parts, *map(inside, parts)))

    def of(self, result: StoredResult) -> StoredObjects:
        """The same folder, as one that a stored result is read from."""
        return type(self)(self._connection, self.parts, result)

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

    def read_text(self, name: str) -> str | None:
        """The beginning of a file; None if it is not there."""
        try:
            data: bytes = self._connection.call(
                "cat_file", f"{self.path}/{name}", start=0, end=_TEXT
            )
        except FileNotFoundError:
            return None
        return data.decode(errors="replace")

    def write_text(self, name: str, text: str) -> None:
        """Write a file."""
        self._connection.call("pipe_file", f"{self.path}/{name}", text.encode(errors="replace"))

    def protocols(self) -> dict[str, Any]:
        """What serializers find here."""
        return {FOLDER_PROTOCOL: self}

    def names(self) -> list[str]:
        """What is in the folder; nothing if it is not there."""
        try:
            found = self._connection.call("ls", self.path, detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def changed(self) -> float:
        """When something in the folder was last written; now if the file system does not tell."""
        found = self._connection.call("find", self.path, withdirs=True, detail=True)
        return max((_changed(file) for file in found.values()), default=0.0)

    def published(self) -> StoredObjects:
        """The folder beside this one in which the published system keeps objects of all results."""
        return type(self)(self._connection, (*self.parts[:-1], PUBLISHED))

    def open(self, name: str, mode: str) -> Any:
        """Open a file; the folder is made with the first one."""
        return self.filesystem.open(f"{self.path}/{inside(name)}", mode)

    def remove(self, name: str = "") -> None:
        """Remove a file or folder of this folder, or all of it, if it is there."""
        self._connection.remove_all(f"{self.path}/{inside(name)}" if name else self.path)


class LocalObjects(StoredObjects):
    """A folder of the local file system, with ordinary files."""

    def protocols(self) -> dict[str, Any]:
        """What serializers find here."""
        return {FILE_PROTOCOL: self, FOLDER_PROTOCOL: self}

    def read_text(self, name: str) -> str | None:
        """The beginning of a file; None if it is not there."""
        path = os.path.join(self.path, name)
        if not os.path.isfile(path):
            return None
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_TEXT)

    def write_text(self, name: str, text: str) -> None:
        """Write a file; the folder is made if somebody has removed it."""
        os.makedirs(self.path, exist_ok=True)
        with open(os.path.join(self.path, name), "w", encoding="utf-8", errors="replace") as file:
            file.write(text)

    def open(self, name: str, mode: str) -> Any:
        """Open a file; the folder is made with the first one."""
        path = os.path.join(self.path, inside(name))
        if "r" not in mode:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, mode)

    def remove(self, name: str = "") -> None:
        """Remove a file or folder of this folder, or all of it, and what is empty then."""
        folder = path = os.path.join(self.path, inside(name)) if name else self.path
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path):
                _remove_folder(path)
            else:
                os.unlink(path)
        with contextlib.suppress(OSError):  # until there is something else in it
            while os.path.basename(folder) not in {OBJECTS, PUBLISHED}:
                folder = os.path.dirname(folder)
                os.rmdir(folder)


class S3Objects(StoredObjects):
    """A folder in a bucket."""

    def protocols(self) -> dict[str, Any]:
        """What serializers find here."""
        place = {"client": self.filesystem, "folder": self.path}
        return {S3_PROTOCOL: place, FOLDER_PROTOCOL: self}


def _remove_folder(path: str) -> None:
    """Remove a folder; a reader that meets damage may write a mark into it meanwhile."""
    while True:
        try:
            shutil.rmtree(path)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return


def inside(name: str) -> str:
    """A name out of a result file, which may be somebody else's.

    Raises:
        CorruptResult: It leads out of its folder.
    """
    if not name or "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        message = f"{name!r} is no name in the folder of a result's objects"
        raise CorruptResult(message)
    return name


def _changed(entry: Mapping[str, Any]) -> float:
    """When a file was last written; now if the file system does not tell."""
    for name in _TIMES:
        found = entry.get(name)
        if found is not None:
            return float(found.timestamp() if isinstance(found, datetime) else found)
    return 0.0 if entry["type"] == "directory" else time.time()
