"""S3 file backend: objects in a bucket, with the fewest requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse.errors import StorageError
from functionfuse.storage.backends.protocol import Content
from functionfuse.storage.backends.remote import RemoteBackend
from functionfuse.storage.backends.sidecar_folders import S3SidecarFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse.storage.backends.connection import Connection

__all__ = ["S3Backend"]


class S3Backend(RemoteBackend):
    """A folder in a bucket."""

    def __init__(self, connection: Connection) -> None:
        """Use a connection; nothing is connected."""
        super().__init__(connection)
        self._there = False

    def make(self, subfolder: str) -> None:  # noqa: ARG002 - S3 has no folders
        """Check that the bucket exists, before results are computed for it."""
        self._check_bucket()

    def read(
        self,
        subfolder: str,
        name: str,
        *,
        mapped: bool = True,  # noqa: ARG002 - remote files cannot be mapped
        deferred: bool = False,  # noqa: ARG002
        on_demand: bool = False,  # noqa: ARG002
    ) -> Content:
        """Read a file by one get: parallel ones would first request the size."""
        data = self.call("cat_file", self.at(subfolder, name), max_concurrency=1)
        return Content(bytearray(data))

    def start(self, subfolder: str, name: str, size: int) -> bytes:
        """The first `size` bytes of a file; S3 refuses a range of an empty file."""
        try:
            return super().start(subfolder, name, size)
        except StorageError:
            return bytes(self.read(subfolder, name).data[:size])

    def starts(
        self, subfolder: str, names: Sequence[str], size: int, needed: Callable[[bytes], int]
    ) -> dict[str, bytes]:
        """The beginnings of several files, by concurrent requests; reports a missing bucket as such."""
        found = super().starts(subfolder, names, size, needed)
        if len(found) < len(names):
            self._check_bucket()
        return found

    def hidden_folder(self, subfolder: str, name: str) -> S3SidecarFolder:
        """A hidden folder in a subfolder, next to the result files."""
        return S3SidecarFolder(self.connection, (subfolder, name))

    def exists(self, subfolder: str, name: str) -> bool:
        """Whether a file exists, by one request."""
        bucket, _, key = self.at(subfolder, name).partition("/")
        try:
            self.call("call_s3", "head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system; reports a missing bucket as such."""
        try:
            return super().call(method, *arguments, **options)
        except FileNotFoundError:
            self._check_bucket()
            raise

    def _check_bucket(self) -> None:
        """Raise if the bucket is missing; a bucket that was found is not checked again."""
        if self._there:
            return
        bucket = self.at().partition("/")[0]
        try:
            super().call("call_s3", "head_bucket", Bucket=bucket)
        except FileNotFoundError:
            message = (
                f"there is no bucket {bucket!r}: create it, or check the path and endpoint_url"
            )
            raise StorageError(message) from None
        self._there = True
