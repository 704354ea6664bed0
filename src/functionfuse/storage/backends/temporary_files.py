"""Temporary files: written next to the file that they replace, and swept if a killed process left them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from typing import TYPE_CHECKING, Final

from functionfuse.storage.backends.directories import (
    create_file,
    remove_file,
    rename_entry,
    status_of,
)

if TYPE_CHECKING:
    import io

__all__ = ["ReplacingFile", "sweep_temporary_files"]

_PREFIX: Final = ".tmp-"
_OF_A_SAVE: Final = re.compile(r"\.tmp-\d+-\d+-[0-9a-f]{8}")
_DAY: Final = 24 * 60 * 60.0  # seconds; younger temporary files may belong to a running save
_counter: Final = itertools.count()
_PROCESS: Final = os.urandom(4).hex()


class ReplacingFile:
    """Context in which a temporary file is written that has another name at its end; on errors nothing is replaced.

    A class: a generator costs as much as a system call.
    """

    __slots__ = ("_file", "_mode", "_name", "_parent", "_temporary")

    def __init__(self, name: str, parent: int, mode: int | None = None) -> None:
        """Create nothing yet.

        Args:
            name: The later name.
            parent: The descriptor of the folder of both files.
            mode: Exact permissions; None leaves them to the umask.
        """
        self._name, self._parent, self._mode = name, parent, mode
        # the number of a process is that of another one in another container
        self._temporary = f"{_PREFIX}{os.getpid()}-{next(_counter)}-{_PROCESS}"
        self._file: io.FileIO

    def __enter__(self) -> io.FileIO:
        try:
            self._file = create_file(self._temporary, self._parent, self._mode)
        except BaseException:
            self._remove()
            raise
        return self._file

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        is_replaced = False
        try:
            self._file.close()
            if kind is None:
                rename_entry(self._temporary, self._name, self._parent)
                is_replaced = True
        finally:
            if not is_replaced:
                self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            remove_file(self._temporary, self._parent)


def sweep_temporary_files(folder: int) -> None:
    """Remove the old temporary files in the folder of a descriptor."""
    oldest = time.time() - _DAY
    for name in filter(_OF_A_SAVE.fullmatch, os.listdir(folder)):
        with contextlib.suppress(OSError):  # removed in the meantime, or not permitted
            if status_of(name, folder).st_mtime < oldest:
                remove_file(name, folder)
