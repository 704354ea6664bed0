"""Input and output of local files: frames are written into reserved space, contents are read into private memory.

Copying is as fast as memory; what the system does for each new page of a file or of memory is not.
So the space of a large file is reserved by one call, and large memory has huge pages, as in numpy.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
from typing import TYPE_CHECKING, Final

from functionfuse.errors import CorruptResult

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from functionfuse.storage.file_format.frame import Frame

__all__ = ["READS_ON_DEMAND", "PrivateContents", "read_all", "write_frame"]

#: Whether the system has the calls of `PrivateContents`.
READS_ON_DEMAND: Final = hasattr(os, "preadv") and hasattr(mmap, "MAP_ANONYMOUS")

_SINGLE_WRITE: Final = 2**16  # bytes; up to here a copy costs less than a second write
_RESERVED: Final = 2**24  # bytes from which on the space of a file is reserved
_KEEP_SIZE: Final = 1  # of fallocate(2)


def write_frame(file: io.FileIO, frame: Frame) -> int:
    """Write the body, whose checksums are computed on the way, then the head, which has them; returns the size."""
    if frame.body_size < _SINGLE_WRITE:
        data = frame.joined()
        _write_all(file, data)
        return len(data)
    head_size = frame.head_size()
    size = head_size + frame.body_size
    if size >= _RESERVED:
        _reserve(file, size)
    file.seek(head_size)
    with contextlib.closing(frame.body()) as body:  # also where the disk is full
        for chunk in body:
            _write_all(file, chunk)
    file.seek(0)
    _write_all(file, frame.head())
    return size


def _write_all(file: io.FileIO, chunk: bytes | memoryview) -> None:
    """Write a complete chunk: one call writes at most 2 GiB, and less on a disk that is nearly full."""
    written = file.write(chunk)
    if written < len(chunk):
        rest = memoryview(chunk)
        while rest := rest[written:]:
            written = file.write(rest)


def read_all(file: io.FileIO, size: int) -> bytearray:
    """Read at most `size` bytes of a file: one call reads at most 2 GiB."""
    data = bytearray(size)
    done = file.readinto(data)
    if done < size:
        view = memoryview(data)
        while done < size and (count := file.readinto(view[done:])):
            done += count
        view.release()
        del data[done:]
    return data


class PrivateContents:
    """The contents of a file in private memory; each range is read when it is requested, by any thread."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        """Duplicate the descriptor of an opened file of this size; nothing is read."""
        self.data = _allocate(size)
        self._descriptor = os.dup(file.fileno())

    def load(self, start: int, stop: int) -> None:
        """Read a range of bytes.

        Raises:
            CorruptResult: The file is shorter.
        """
        with memoryview(self.data) as whole, whole[start:stop] as view:
            done = 0
            while done < len(view):
                count = os.preadv(self._descriptor, [view[done:]], start + done)
                if not count:
                    message = "the file was truncated while it was read"
                    raise CorruptResult(message)
                done += count

    def close(self) -> None:
        """Close the descriptor; the memory stays."""
        os.close(self._descriptor)


def _allocate(size: int) -> mmap.mmap:
    """Private memory, in huge pages where the system has them."""
    data = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without huge pages
            data.madvise(mmap.MADV_HUGEPAGE)
    return data


def _reserve(file: io.FileIO, size: int) -> None:
    """Reserve space; a failure means that it is reserved while it is written."""
    fallocate = _fallocate()
    if fallocate is not None:
        fallocate(file.fileno(), _KEEP_SIZE, 0, size)


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """`fallocate(2)` of Linux: `os.posix_fallocate` would write a file system without it full of zeros."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    function = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if function is None or ctypes.sizeof(ctypes.c_void_p) < 8:  # noqa: PLR2004 - other types of arguments
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    found: Callable[[int, int, int, int], int] = function
    return found
