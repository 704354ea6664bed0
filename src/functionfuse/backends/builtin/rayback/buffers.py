"""Memory for values that are copied, and again for the next ones when they are gone.

Memory that is fresh from the system costs several times as much as copying into it.
"""

from __future__ import annotations

from collections import deque
from ctypes import c_char
from typing import Any, Final
from weakref import finalize

__all__ = ["copied"]

_LARGE: Final = 1_000_000  # bytes from which on it is worth the effort
_KEPT: Final = 2  # blocks that wait for the next value: what one node takes, most often

#: What values have left behind, the latest last.
#: A value may go at any moment, also within this module: a deque needs no lock.
_left: Final[deque[bytearray]] = deque(maxlen=_KEPT)


def copied(buffer: Any) -> memoryview | bytearray:
    """The bytes of a buffer in memory that can be written to, and that nobody else has as long as anybody has this."""
    source = memoryview(buffer).cast("B")
    if source.nbytes < _LARGE:
        return bytearray(source)
    block = _fitting(source.nbytes)
    if block is None:
        block = bytearray(source)
    else:
        memoryview(block)[: source.nbytes] = source
    owner = (c_char * source.nbytes).from_buffer(block)  # goes with the last that looks into it
    finalize(owner, _left.append, block).atexit = False
    return memoryview(owner).cast("B")


def _fitting(size: int) -> bytearray | None:
    for _ in range(_KEPT):
        try:
            block = _left.pop()
        except IndexError:
            return None
        if size <= len(block) <= 2 * size:
            return block
        _left.appendleft(block)
    return None
