"""Result names: the files of workflows and nodes, and the names in listings of a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functionfuse.errors import StorageError
from functionfuse.storage.backends.file_names import file_name, is_cut, stored_name
from functionfuse.storage.file_format.file_format import header_of
from functionfuse.storage.sidecars import start_at

if TYPE_CHECKING:
    from functionfuse.storage.backends.protocol import FileBackend

__all__ = ["ResultNames"]


class ResultNames:
    """Encodes and decodes names for one backend."""

    def __init__(self, backend: FileBackend) -> None:  # noqa: D107
        self._backend = backend

    def file(self, name: str) -> str:
        """The file or folder of a node or workflow."""
        return file_name(name, fold_case=self._backend.fold_case, globs=self._backend.globs)

    def where(self, workflow: str, node: str) -> tuple[str, str]:
        """The subfolder and file of a result."""
        return self.file(workflow), self.file(node)

    def nodes(self, workflow: str) -> list[str]:
        """The nodes with stored results."""
        subfolder = self.file(workflow)
        files = self._backend.names(subfolder)
        names = (self._decode(file, "node", subfolder, file) for file in files)
        return [name for name in names if name is not None]

    def workflows(self) -> list[str]:
        """The workflows with stored results."""
        names = map(self._workflow, self._backend.subfolders())
        return [name for name in names if name is not None]

    def _workflow(self, subfolder: str) -> str | None:
        """The workflow of a subfolder; None if it has no results or cannot be listed."""
        try:
            files = self._backend.names(subfolder)
        except OSError:
            return None
        names = (self._decode(subfolder, "workflow", subfolder, file) for file in files)
        return next((name for name in names if name is not None), None)

    def _decode(self, quoted: str, field: str, subfolder: str, file: str) -> str | None:
        """Decode a file name; None if another program created the file.

        Args:
            quoted: The file name.
            field: The header field with the full name, for a shortened file name.
            subfolder: The subfolder of a file with that header.
            file: The name of a file with that header.
        """
        if is_cut(quoted):
            name = self._header_name(subfolder, file, field)
            return name if name is not None and self.file(name) == quoted else None
        return stored_name(quoted, fold_case=self._backend.fold_case, globs=self._backend.globs)

    def _header_name(self, subfolder: str, file: str, field: str) -> str | None:
        """A field of a header; None if the header cannot be read."""
        try:
            start = start_at(self._backend, subfolder, file)
        except OSError:  # removed in the meantime, or not permitted
            return None
        try:
            name = (header_of(start) or {}).get(field)
        except StorageError:  # damaged, or of another version: reading it by name reports that
            return None
        return name if isinstance(name, str) else None
