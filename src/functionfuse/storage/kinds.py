"""The kinds of storage: the one implementation in a folder, a bucket, anywhere that fsspec reaches, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from functionfuse.errors import OptionError, StorageError
from functionfuse.storage.backends.connection import Connection
from functionfuse.storage.backends.file_names import file_name
from functionfuse.storage.backends.local import LocalBackend
from functionfuse.storage.filesystem import CommonOptions, FilesystemStorage

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from functionfuse.storage.backends.protocol import FileBackend

__all__ = ["FileStorage", "FsspecStorage", "MemoryStorage", "S3Storage"]


class FileStorage(FilesystemStorage):
    """Results in a folder of this computer: `path/workflow/node`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: bool = False,
        map: bool = True,
        mode: int | str | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        """Use a folder, which is made if it is not there.

        Args:
            path: The folder.
            fsync: A result that was saved survives a loss of power, which makes saving slower.
            map: Map files of 1 MiB and more instead of reading them. Turn it off where other
                programs write into result files in place, and on network file systems.
            mode: Permissions of new files, like `0o600` or `"0600"`, whatever the umask; new folders
                get the permission to enter for those who may read. None leaves both to the umask.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is not understood.
            StorageError: The folder cannot be made.
        """
        folder = LocalBackend(path, fsync=fsync, map_files=map, mode=mode)
        super().__init__(folder, **common)
        try:
            folder.create()
        except OSError as error:
            message = f"the storage folder {str(path)!r} cannot be used: {error.strerror}"
            raise StorageError(message) from error


class FsspecStorage(FilesystemStorage):
    """Results on any file system that fsspec knows."""

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        """Take an address; the connection is made when it is used first.

        Args:
            url: Like `"gs://bucket/results"`.
            storage_options: Of that file system; `"env:NAME"` stands for an environment variable
                of each process that connects.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is not understood.
        """
        super().__init__(_backend(url, storage_options or {}), **common)


class S3Storage(FilesystemStorage):
    """Results in a bucket of an S3 server."""

    def __init__(
        self, path: str, s3fs: Mapping[str, Any] | None = None, **common: Unpack[CommonOptions]
    ) -> None:
        """Take a bucket; the connection is made when it is used first.

        Args:
            path: `"bucket"` or `"bucket/folder"`.
            s3fs: How to connect: `key`, `secret`, `endpoint_url`, and all else that s3fs takes.
                `"env:NAME"` stands for an environment variable of each process that connects.
                Without a key, s3fs looks in the usual variables and files.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is not understood.
        """
        bucket = path.removeprefix("s3://").strip("/")
        if not bucket:
            message = f"a path on S3 begins with a bucket: {path!r} has none"
            raise OptionError(message)
        super().__init__(_backend(f"s3://{bucket}", s3fs or {}), **common)


class MemoryStorage(FilesystemStorage):
    """Results in the memory of this process, gone when it ends."""

    def __init__(self, name: str = "results", **common: Unpack[CommonOptions]) -> None:
        """Take a name: storages of one name have the same results.

        Args:
            name: Any.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is not understood.
        """
        super().__init__(_backend(f"memory://{file_name(name, globs=True)}", {}), **common)


def _backend(url: str, options: Mapping[str, Any]) -> FileBackend:
    """The place that an address leads to."""
    protocol, separator, path = url.partition("://")
    if separator and protocol in {"file", "local"}:
        return LocalBackend(path)
    connection = Connection(url, options)
    if protocol in {"s3", "s3a"}:
        from functionfuse.storage.backends.s3 import S3Backend

        return S3Backend(connection)
    if protocol == "memory":
        from functionfuse.storage.backends.memory import MemoryBackend

        return MemoryBackend(connection)
    from functionfuse.storage.backends.remote import RemoteBackend

    return RemoteBackend(connection)
