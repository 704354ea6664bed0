"""Kinds of storage: `FilesystemStorage` with a backend for local files, S3, fsspec or memory."""

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
    """Storage in a local folder, as files `path/workflow/node`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: bool = False,
        map: bool = True,
        mode: int | str | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        """Use a folder, which is created if it is missing.

        Args:
            path: The folder.
            fsync: Saved results survive a loss of power; saving is slower.
            map: Map files of 1 MiB and more instead of reading them. Turn it off where other
                programs write into result files in place, and on network file systems.
            mode: Permissions of new files, like `0o600` or `"0600"`, whatever the umask; new folders
                can be entered by users that may read them. None leaves both to the umask.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is invalid.
            StorageError: The folder cannot be created.
        """
        folder = LocalBackend(path, fsync=fsync, map_files=map, mode=mode)
        super().__init__(folder, **common)
        try:
            folder.create()
        except OSError as error:
            message = f"the storage folder {str(path)!r} cannot be used: {error.strerror}"
            raise StorageError(message) from error


class FsspecStorage(FilesystemStorage):
    """Storage on any file system of fsspec."""

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        """Use a URL; the first use connects.

        Args:
            url: Like `"gs://bucket/results"`.
            storage_options: Options of the file system; `"env:NAME"` refers to an environment variable
                of each process that connects.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is invalid.
        """
        super().__init__(_backend(url, storage_options or {}), **common)


class S3Storage(FilesystemStorage):
    """Storage in a bucket of an S3 server."""

    def __init__(
        self, path: str, s3fs: Mapping[str, Any] | None = None, **common: Unpack[CommonOptions]
    ) -> None:
        """Use a bucket; the first use connects.

        Args:
            path: `"bucket"` or `"bucket/folder"`.
            s3fs: Options of `s3fs.S3FileSystem`: `key`, `secret`, `endpoint_url` and others.
                `"env:NAME"` refers to an environment variable of each process that connects.
                Without a key, s3fs reads the usual variables and files.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is invalid.
        """
        bucket = path.removeprefix("s3://").strip("/")
        if not bucket:
            message = (
                f"path {path!r} of an S3 storage has no bucket: use 'bucket' or 'bucket/folder'"
            )
            raise OptionError(message)
        super().__init__(_backend(f"s3://{bucket}", s3fs or {}), **common)


class MemoryStorage(FilesystemStorage):
    """Storage in the memory of this process."""

    def __init__(self, name: str = "results", **common: Unpack[CommonOptions]) -> None:
        """Use a name; storages with the same name share their results.

        Args:
            name: Any string.
            **common: See `FilesystemStorage`.

        Raises:
            OptionError: An option is invalid.
        """
        super().__init__(_backend(f"memory://{file_name(name, globs=True)}", {}), **common)


def _backend(url: str, options: Mapping[str, Any]) -> FileBackend:
    """The file backend for a URL."""
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
