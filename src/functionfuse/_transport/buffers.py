"""Copies of buffers, in memory that is reused after the last reference to a copy.

New memory from the system costs several times as much as copying into it.
"""

from __future__ import annotations

from collections import deque
from ctypes import c_char
from typing import Any, Final
from weakref import finalize

__all__ = ["copy_buffer"]

_LARGE: Final = 1_000_000  # bytes; the memory of smaller copies is not reused
_MAX_FREE: Final = 2  # free blocks: most nodes take no more arrays

#: Memory of released copies, the latest last.
#: A copy may be collected at any moment, also within this module: a deque needs no lock.
_free_blocks: Final[deque[bytearray]] = deque(maxlen=_MAX_FREE)


def copy_buffer(buffer: Any) -> memoryview | bytearray:
    """Copy a buffer into writable memory, which is reused after the last reference to a view of it."""
    source = memoryview(buffer).cast("B")
    if source.nbytes < _LARGE:
        return bytearray(source)
    block = _find_block(source.nbytes)
    if block is None:
        block = bytearray(source)
    else:
        memoryview(block)[: source.nbytes] = source
    owner = (c_char * source.nbytes).from_buffer(block)  # collected with the last view
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
