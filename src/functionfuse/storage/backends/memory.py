"""Memory file backend: files in the memory of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse._common.process_identity import this_process
from functionfuse.errors import StorageError
from functionfuse.storage.backends.remote import RemoteBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse.storage.backends.connection import Connection
    from functionfuse.storage.backends.sidecar_folders import SidecarFolder

__all__ = ["MemoryBackend"]


class MemoryBackend(RemoteBackend):
    """A folder in memory; its use in another process raises instead of showing an empty folder."""

    def __init__(self, connection: Connection, home: str | None = None) -> None:
        """Use a connection; `home` identifies the process with the files."""
        super().__init__(connection)
        self._home = home or this_process()

    def __reduce__(self) -> tuple[object, tuple[Any, ...]]:
        return type(self), (self.connection, self._home)

    def exists(self, subfolder: str, name: str) -> bool:
        """Whether a file exists, without a search of all files."""
        return bool(self.call("isfile", self.at(subfolder, name)))

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the file system.

        Raises:
            StorageError: The files are in another process.
        """
        self._check_process()
        return super().call(method, *arguments, **options)

    def starts(
        self, subfolder: str, names: Sequence[str], size: int, needed: Callable[[bytes], int]
    ) -> dict[str, bytes]:
        """The beginnings of several files.

        Raises:
            StorageError: The files are in another process.
        """
        self._check_process()
        return super().starts(subfolder, names, size, needed)

    def hidden_folder(self, subfolder: str, name: str) -> SidecarFolder:
        """A hidden folder in a subfolder.

        Raises:
            StorageError: The files are in another process.
        """
        self._check_process()
        return super().hidden_folder(subfolder, name)

    def _check_process(self) -> None:
        if this_process() != self._home:
            message = (
                "it is in the memory of another process; "
                "use a storage of kind 'file', 'S3' or 'fsspec' for results that several processes share"
            )
            raise StorageError(message)

    def _listed(self, kind: str, *subfolder: str) -> list[str]:
        """List by one search of all files, because other threads add and remove files in the meantime."""
        folder = f"{self.at(*subfolder)}/"
        found: dict[str, Any] = self.call("find", folder, detail=True)
        tails = [path[len(folder) :].partition("/") for path in found]
        names = {name for name, deeper, _ in tails if bool(deeper) == (kind == "directory")}
        return [name for name in names if name[0] != "."]
