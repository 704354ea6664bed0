"""Recursion limit: raised while values are pickled, since each nested container takes several levels of it."""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Final

__all__ = ["deep_recursion", "recursion_limit"]

#: For some 2000 nested lists, which take a megabyte of the thread's stack.
_EXTRA_LEVELS: Final = 4000
#: Since Python 3.12, the limit holds for Python functions only, and pickle has its own.
_LIMITS_PICKLE: Final = sys.version_info < (3, 12)


class _HigherLimit:
    """Raises the limit while any thread is within it; the threads of an interpreter have one limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._usual = sys.getrecursionlimit()
                sys.setrecursionlimit(self._usual + _EXTRA_LEVELS)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            # any other limit was set by the user in the meantime
            if self._users == 0 and sys.getrecursionlimit() == self._usual + _EXTRA_LEVELS:
                sys.setrecursionlimit(self._usual)

    def usual(self) -> int:
        """The limit without the extra levels."""
        with self._lock:
            limit = sys.getrecursionlimit()
            raised = self._users > 0 and limit == self._usual + _EXTRA_LEVELS
            return self._usual if raised else limit


_limit: Final = _HigherLimit()
#: A context manager; may be entered several times.
deep_recursion: Final[AbstractContextManager[None]] = _limit if _LIMITS_PICKLE else nullcontext()


def recursion_limit() -> int:
    """The recursion limit outside of `deep_recursion`."""
    return _limit.usual()
