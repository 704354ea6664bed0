"""A higher recursion limit while values are pickled: deep containers take several levels of it each."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["deep_recursion"]

#: Some 2000 nested lists, which need a megabyte of the thread's stack.
_MORE: Final = 4000
#: Since 3.12, the limit is only that of functions in Python, and pickle has one of its own.
_LIMITS_PICKLE: Final = sys.version_info < (3, 12)


class _Raised:
    """Raises the limit once for all threads of the interpreter, which have it in common."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual = 0

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._usual = sys.getrecursionlimit()
                sys.setrecursionlimit(self._usual + _MORE)
            self._users += 1

    def exit(self) -> None:
        with self._lock:
            self._users -= 1
            # another limit is one that the user set meanwhile
            if self._users == 0 and sys.getrecursionlimit() == self._usual + _MORE:
                sys.setrecursionlimit(self._usual)


_raised: Final = _Raised()


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Raise the recursion limit where it is that of pickle, too."""
    if not _LIMITS_PICKLE:
        yield
        return
    _raised.enter()
    try:
        yield
    finally:
        _raised.exit()
