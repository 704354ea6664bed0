"""Run folders: create a pool's folders for shared buffers, and remove them after the run, also if it was killed."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
from contextlib import suppress
from typing import Final

from functionfuse.backends.builtin.pool.reaper_main import (
    MARKER,
    open_folder,
    remove_folder,
    remove_open_folder,
)

__all__ = ["RunFolders"]

_MEMORY: Final = "/dev/shm"  # noqa: S108 - with a private folder in it
_NAME: Final = re.compile(r"functionfuse-[0-9]+-[0-9a-f]{16}")
_PRIVATE: Final = 0o700


class RunFolders:
    """A folder in shared memory, if the system has it, and one for temporary files, if the first is full.

    Each holds a marker file that is locked as long as this process lives and uses the folder.
    A folder whose marker is not locked belongs to a process that was killed together with its reaper.
    """

    def __init__(self) -> None:  # noqa: D107
        roots = [
            position
            for position in (_MEMORY, tempfile.gettempdir())
            if os.access(position, os.W_OK)
        ]
        self._locks: list[int] = []
        self.paths: tuple[str, ...] = ()
        for position in roots:
            _remove_abandoned(position)
            self._make_in(position)

    def remove(self) -> None:
        """Remove the folders; mapped buffers stay readable."""
        for path in self.paths:
            with suppress(OSError):  # already removed
                remove_folder(path)
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    def _make_in(self, position: str) -> None:
        path = os.path.join(position, f"functionfuse-{os.getpid()}-{os.urandom(8).hex()}")
        os.mkdir(path, _PRIVATE)
        self.paths += (path,)
        # renamed after it is locked: until then, no other pool considers the folder abandoned
        unlocked, marker = os.path.join(path, f".{MARKER}"), os.path.join(path, MARKER)
        self._locks.append(os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        fcntl.flock(self._locks[-1], fcntl.LOCK_EX)
        os.write(self._locks[-1], _signature())
        os.rename(unlocked, marker)


def _signature() -> bytes:
    """The content of a marker: it names the machine, since locks of other machines may not be visible here."""
    return f"folder of a functionfuse pool on {os.uname().nodename}\n".encode()


def _remove_abandoned(position: str) -> None:
    with suppress(OSError):  # a folder that is writable, but not readable
        for name in filter(_NAME.fullmatch, os.listdir(position)):
            with suppress(OSError):  # of another user, in use, or removed
                _remove_if_abandoned(os.path.join(position, name))


def _remove_if_abandoned(path: str) -> None:
    """Remove a folder that a pool of this user created and that no process uses.

    Raises:
        OSError: The folder is in use, or not one of a pool.
    """
    folder = open_folder(path)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != _PRIVATE:
            return
        marker = os.open(MARKER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            signature = _signature()
            if os.pread(marker, len(signature) + 1, 0) == signature:
                remove_open_folder(path, folder)
        finally:
            os.close(marker)
    finally:
        os.close(folder)
