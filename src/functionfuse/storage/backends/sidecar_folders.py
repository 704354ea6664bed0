"""Sidecar folders: files of serializers next to the result files, on file systems of fsspec."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.serializers.base import FOLDER_PROTOCOL, S3_PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functionfuse.storage.backends.connection import Connection

__all__ = [
    "LEGACY_SIDECARS",
    "SIDECARS",
    "SOURCES",
    "STAMPS",
    "MarkableResult",
    "S3SidecarFolder",
    "SidecarFolder",
    "inside",
    "is_link",
]

_TIMES: Final = (
    "mtime",
    "LastModified",
    "last_modified",
    "created",
)  # names in different file systems

#: Bytes up to which `read_many` reads a file.
_SMALL: Final = 2**26
#: The subfolder of a workflow with the sidecar folders: `.objects/<file of the result>/<one save>/`.
SIDECARS: Final = ".objects"
#: The folder of the legacy format, which all results share: `bigdata/<object>`.
LEGACY_SIDECARS: Final = "bigdata"


#: The subfolder of a workflow with the accepted fingerprints of results: `.stamps/<file of the result>`.
STAMPS: Final = ".stamps"
#: The subfolder of a workflow with the texts of code: `.sources/<digest>`.
SOURCES: Final = ".sources"


class MarkableResult(Protocol):
    """The stored result that a folder is read for, which can be marked as damaged."""

    def corrupt(self, folder: SidecarFolder, problem: str) -> CorruptResult:
        """Mark the result, and return the error to raise for a damaged file in the folder."""

    def check(self, folder: SidecarFolder) -> None:
        """Raise `CorruptResult` if the result is marked."""


class SidecarFolder:
    """A folder on a file system of fsspec; see `functionfuse.serializers.base.ResultFolder`."""

    def __init__(
        self, connection: Connection, parts: tuple[str, ...], result: MarkableResult | None = None
    ) -> None:
        """Configure the folder; nothing is connected.

        Args:
            connection: The file system.
            parts: The path below the connection's root.
            result: The stored result that is read from this folder.
        """
        self._connection = connection
        self.parts = parts
        self._result = result
        self.is_written = False  # by this object

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
        """A folder within this one.

        Raises:
            CorruptResult: A part leads out of the folder.
        """
        return self._with((*self.parts, *map(inside, parts)))

    def of(self, result: MarkableResult) -> SidecarFolder:
        """The same folder, for reading a stored result."""
        return self._with(self.parts, result)

    def corrupt(self, problem: str) -> CorruptResult:
        """Mark the result as damaged; returns the error with its name."""
        return self._result.corrupt(self, problem) if self._result else CorruptResult(problem)

    def check(self) -> None:
        """Raise if the result is marked as damaged.

        Raises:
            CorruptResult: The result is marked.
        """
        if self._result:
            self._result.check(self)

    def protocols(self) -> dict[str, Any]:
        """The protocols that this folder offers to serializers."""
        return {FOLDER_PROTOCOL: self}

    def names(self) -> list[str]:
        """The entries of the folder without links; empty if the folder is missing."""
        path = self.path
        try:
            found = self._connection.call("ls", path, detail=True)
        except FileNotFoundError:
            return []
        paths = [entry["name"].rstrip("/") for entry in found if not is_link(entry)]
        return [inner.rpartition("/")[2] for inner in paths if inner != path.rstrip("/")]

    def changed(self) -> float:
        """The time of the last write in the folder; the current time if the file system has none."""
        found = self._connection.call("find", self.path, withdirs=True, detail=True)
        return max((_changed(file) for file in found.values()), default=0.0)

    def legacy(self) -> SidecarFolder:
        """The folder of the legacy format next to this one, which all results share."""
        return self._with((*self.parts[:-1], LEGACY_SIDECARS))

    def open(self, name: str, mode: str) -> Any:
        """Open a file; the first write creates the folder."""
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
        """Write a file by one put; the first write creates the folder."""
        path, data = f"{self.path}/{inside(name)}", bytes(data)
        self.is_written = True
        try:
            self._connection.call("pipe_file", path, data)
        except FileNotFoundError:
            self._create_parent(path)
            self._connection.call("pipe_file", path, data)

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of small files, read concurrently on file systems that can; missing files are absent."""
        paths = [f"{self.path}/{inside(name)}" for name in names]
        found = self._connection.starts(paths, _SMALL)
        return {name: data for name, data in zip(names, found, strict=True) if data is not None}

    def replace_many(self, files: Mapping[str, bytes]) -> None:
        """Write files, each atomically where one put is, concurrently on file systems that can."""
        if not files:
            return
        self._check_links()
        given = {f"{self.path}/{inside(name)}": data for name, data in files.items()}
        try:
            self._connection.call("pipe", given)
        except FileNotFoundError:
            self._create_parent(next(iter(given)))
            self._connection.call("pipe", given)

    def remove_file(self, name: str) -> None:
        """Remove a file of this folder, if it exists.

        Raises:
            StorageError: The path has a symbolic link.
        """
        self._check_links()
        path = f"{self.path}/{inside(name)}"
        with contextlib.suppress(FileNotFoundError):
            if self._connection.call("exists", path):  # not all file systems tell why they refuse
                self._connection.call("rm_file", path)

    def remove(self, name: str = "") -> None:
        """Remove an entry of this folder, or the whole folder, if it exists.

        Raises:
            StorageError: The path has a symbolic link.
        """
        self._check_links()
        self._connection.remove_all(f"{self.path}/{inside(name)}" if name else self.path)

    def _with(self, parts: tuple[str, ...], result: MarkableResult | None = None) -> SidecarFolder:
        """A copy with other parts or another result."""
        return type(self)(self._connection, parts, result)

    def _create_parent(self, path: str) -> None:
        self._connection.call("makedirs", path.rpartition("/")[0], exist_ok=True)

    def _check_links(self) -> None:
        """Raise if the path has a link below the storage, on file systems that list links."""
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
    """A sidecar folder in a bucket."""

    def protocols(self) -> dict[str, Any]:
        """The protocols that this folder offers to serializers."""
        backend = {"client": self.filesystem, "folder": self.path}
        return {S3_PROTOCOL: backend, FOLDER_PROTOCOL: self}

    def names(self) -> list[str]:
        """The entries of the folder; s3fs would list the parent folder too if this one is missing."""
        bucket, _, prefix = f"{self.path}/".partition("/")
        request = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
        found = list[str]()
        with contextlib.suppress(FileNotFoundError):
            while True:
                page = self._connection.call("call_s3", "list_objects_v2", **request)
                found += (entry["Key"] for entry in page.get("Contents", ()))
                found += (entry["Prefix"] for entry in page.get("CommonPrefixes", ()))
                if not page.get("NextContinuationToken"):
                    break
                request["ContinuationToken"] = page["NextContinuationToken"]
        names = (key.removeprefix(prefix).rstrip("/") for key in found)
        return [name for name in names if name]

    def remove_file(self, name: str) -> None:
        """Remove an object, if it exists, by one request."""
        self._connection.call("rm_file", f"{self.path}/{inside(name)}")

    def _create_parent(self, path: str) -> None:
        """Raise: S3 has no folders, so that the bucket is missing, which s3fs would create."""
        message = f"there is no bucket {path.partition('/')[0]!r}: create it, or check the path and endpoint_url"
        raise StorageError(message)

    def _check_links(self) -> None:
        """S3 has no links."""


def inside(name: str) -> str:
    """Validate a file name from a result file, which may be forged.

    Raises:
        CorruptResult: The name leads out of the folder.
    """
    if not name or "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        message = f"{name!r} is not a valid file name in a sidecar folder"
        raise CorruptResult(message)
    return name


def is_link(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a listing is a symbolic link."""
    return bool(entry.get("islink")) or entry["type"] == "link"


def _changed(entry: Mapping[str, Any]) -> float:
    """The time of the last write of a file; the current time if the file system has none."""
    for name in _TIMES:
        found = entry.get(name)
        if found is not None:
            return float(found.timestamp() if isinstance(found, datetime) else found)
    return 0.0 if entry["type"] == "directory" else time.time()
