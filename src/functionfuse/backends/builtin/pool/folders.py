"""The folders in which a pool's values wait: made for a run, removed after it, also after one that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["Folders"]

_MEMORY: Final = "/dev/shm"  # noqa: S108 - a folder of our own in it, which nobody else can open
_PREFIX: Final = "functionfuse-"


class Folders:
    """One folder in memory, where the system has that, and one where temporary files are, should the first be full.

    Each is locked as long as this process lives and uses it.
    One that is not was left behind by a process that was killed together with its workers.
    """

    def __init__(self) -> None:  # noqa: D107
        places = [place for place in (_MEMORY, tempfile.gettempdir()) if os.access(place, os.W_OK)]
        self._locks: list[int] = []
        self.paths: tuple[str, ...] = ()
        for place in places:
            _remove_abandoned(place)
            self.paths += (self._made(place),)

    def remove(self) -> None:
        """Remove all; values that were taken out stay what they are."""
        for path in self.paths:
            shutil.rmtree(path, ignore_errors=True)
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    def _made(self, place: str) -> str:
        # under another name until it is locked: nobody takes it for abandoned
        made = tempfile.mkdtemp(prefix=f".{_PREFIX}{os.getpid()}-", dir=place)
        self._locks.append(os.open(made, os.O_RDONLY))
        fcntl.flock(self._locks[-1], fcntl.LOCK_EX)
        path = os.path.join(place, os.path.basename(made).removeprefix("."))
        os.rename(made, path)
        return path


def _remove_abandoned(place: str) -> None:
    for path in Path(place).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's, or gone
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
