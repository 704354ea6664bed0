"""Memory for values that are copied, and again for the next ones when they are gone.

Memory that is fresh from the system costs several times as much as copying into it.
"""

from __future__ import annotations

from collections import deque
from ctypes import c_char
from typing import Any, Final
from weakref import finalize

__all__ = ["copy_buffer"]

_LARGE: Final = 1_000_000  # bytes from which on it is worth the effort
_MAX_FREE: Final = 2  # blocks that wait for the next value: what one node takes, most often

#: What values have left behind, the latest last.
#: A value may go at any moment, also within this module: a deque needs no lock.
_free_blocks: Final[deque[bytearray]] = deque(maxlen=_MAX_FREE)


def copy_buffer(buffer: Any) -> memoryview | bytearray:
    """The bytes of a buffer in memory that can be written to, and that nobody else has as long as anybody has this."""
    source = memoryview(buffer).cast("B")
    if source.nbytes < _LARGE:
        return bytearray(source)
    block = _find_block(source.nbytes)
    if block is None:
        block = bytearray(source)
    else:
        memoryview(block)[: source.nbytes] = source
    owner = (c_char * source.nbytes).from_buffer(block)  # goes with the last that looks into it
    finalize(owner, _free_blocks.append, block).atexit = False
    return memoryview(owner).cast("B")


def _find_block(size: int) -> bytearray | None:
    for _ in range(_MAX_FREE):
        try:
            block = _free_blocks.pop()
        except IndexError:
            return None
        if size <= len(block) <= 2 * size:
            return block
        _free_blocks.appendleft(block)
    return None
