"""Temporary files: written next to the file that they replace, and swept if a killed process left them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
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
    from collections.abc import Iterator

__all__ = ["replacing_file", "sweep_temporary_files"]

_PREFIX: Final = ".tmp-"
_OF_A_SAVE: Final = re.compile(r"\.tmp-\d+-\d+-[0-9a-f]{8}")
_DAY: Final = 24 * 60 * 60.0  # seconds; younger temporary files may belong to a running save
_counter: Final = itertools.count()


@contextlib.contextmanager
def replacing_file(name: str, parent: int, mode: int | None = None) -> Iterator[io.FileIO]:
    """Context in which a temporary file is written that has another name at its end; on errors nothing is replaced.

    Args:
        name: The later name.
        parent: The descriptor of the folder of both files.
        mode: Exact permissions; None leaves them to the umask.
    """
    temporary = f"{_PREFIX}{os.getpid()}-{next(_counter)}-{secrets.token_hex(4)}"
    try:
        with create_file(temporary, parent, mode) as file:
            yield file
        rename_entry(temporary, name, parent)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_file(temporary, parent)
        raise


def sweep_temporary_files(folder: int) -> None:
    """Remove the old temporary files in the folder of a descriptor."""
    oldest = time.time() - _DAY
    for name in filter(_OF_A_SAVE.fullmatch, os.listdir(folder)):
        with contextlib.suppress(OSError):  # removed in the meantime, or not permitted
            if status_of(name, folder).st_mtime < oldest:
                remove_file(name, folder)
