"""Sources: texts of the code that results were computed with, one file for each digest."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from functionfuse.errors import CorruptResult, IgnoredProvenanceWarning, StorageError
from functionfuse.storage.backends.file_names import file_name
from functionfuse.storage.backends.sidecar_folders import SOURCES
from functionfuse.storage.hidden_files import decode_file, encode_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functionfuse.storage.backends.protocol import FileBackend
    from functionfuse.storage.backends.sidecar_folders import SidecarFolder
    from functionfuse.storage.file_format.signatures import SigningKey

__all__ = ["SourceStore"]

_KIND: Final = "source"


class SourceStore:
    """The texts in a backend."""

    def __init__(self, backend: FileBackend, key: Callable[[], SigningKey | None]) -> None:
        """Manage the texts in a backend.

        Args:
            backend: The backend with the result files.
            key: Returns the key; with a key, texts are signed, and others are ignored.
        """
        self._backend = backend
        self._key = key

    def write(self, subfolder: str, workflow: str, texts: Mapping[str, str]) -> None:
        """Write the texts that are missing, by digest; one listing tells which."""
        if not texts:
            return
        folder, key = self._folder(subfolder), self._key()
        there = set(folder.names())
        folder.replace_many(
            {
                file: encode_file(_KIND, workflow, digest, _encoded(text), key)
                for digest, text in texts.items()
                if (file := self._file(digest)) not in there
            }
        )

    def read(self, subfolder: str, workflow: str, digest: str) -> str | None:
        """The text for a digest; None if it is missing, and with a warning if it cannot be used.

        A damaged file is removed, so that the next run that has the text writes it again.
        """
        folder, file = self._folder(subfolder), self._file(digest)
        data = folder.read_many([file]).get(file)
        if data is None:
            return None
        try:
            content = decode_file(_KIND, workflow, digest, data, self._key())
            return content.decode(errors="surrogatepass")
        except (StorageError, UnicodeDecodeError) as error:
            message = f"the source text {digest} of workflow {workflow!r} in {self._backend!r} is ignored: {error}"
            warnings.warn(message, IgnoredProvenanceWarning, stacklevel=2)
            if isinstance(error, CorruptResult):
                with suppress(StorageError, OSError):  # the folder may be read-only
                    folder.remove_file(file)
            return None

    def _file(self, digest: str) -> str:
        return file_name(digest, fold_case=self._backend.fold_case, globs=self._backend.globs)

    def _folder(self, subfolder: str) -> SidecarFolder:
        return self._backend.hidden_folder(subfolder, SOURCES)


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
