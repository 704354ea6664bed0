"""Shared memory between processes of one machine: small values are bytes, large ones files in memory.

A file is written once, by the process that computed the value, and mapped copy-on-write by each process that uses it:
a node can change its array, and the change is not visible to other nodes.
The coordinator passes bytes and paths on without unpickling them.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.pickle_buffers import PROTOCOL, split_buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "THRESHOLD",
    "BufferPool",
    "OwnedSharedBuffer",
    "Payload",
    "SharedBuffer",
    "open_payload",
    "pickle_value",
    "unpickle",
]

#: From this size on, a file costs less than sending the bytes through a socket twice.
THRESHOLD: Final = 64 * 1024
#: Below this size a copy costs no more than a mapping does, which holds a file descriptor as long as it lives.
_MIN_MAPPED: Final = 1024 * 1024
_ALIGNMENT: Final = 64
_NO_SPACE_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SharedBuffer:
    """A file with a pickle stream and its buffers."""

    __slots__ = ("path", "sizes")

    def __init__(self, path: str, sizes: tuple[int, ...]) -> None:
        self.path = path
        self.sizes = sizes

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedBuffer, (self.path, self.sizes)

    def open(self) -> list[memoryview]:
        """The stream and the buffers, writable; changes do not reach the file."""
        starts, end = _layout(self.sizes)
        data = memoryview(_read_or_map(self.path, end))
        return [data[start : start + size] for start, size in zip(starts, self.sizes, strict=True)]


class OwnedSharedBuffer(SharedBuffer):
    """A shared buffer whose file is deleted when this object is; mappings stay valid."""

    __slots__ = ()

    def __del__(self) -> None:
        with suppress(OSError):
            os.unlink(self.path)


#: A pickled value, or the file that contains it.
Payload = bytes | SharedBuffer


class BufferPool:
    """Folders for shared buffers; if one is full, the next is used."""

    def __init__(self, folders: Sequence[str], owner: str) -> None:
        """Use some folders.

        Args:
            folders: The folders, those in memory first.
            owner: A prefix of file names that no other process has.
        """
        self._folders = folders
        self._names = (f"{owner}-{number}" for number in count())

    def write(self, parts: Sequence[bytes | memoryview]) -> SharedBuffer:
        """Write a stream and its buffers.

        Raises:
            OSError: All folders are full.
        """
        name = next(self._names)
        sizes = tuple(memoryview(part).nbytes for part in parts)
        *first, last = (os.path.join(folder, name) for folder in self._folders)
        for path in first:
            try:
                _write(path, parts, sizes)
            except OSError as error:
                if error.errno not in _NO_SPACE_ERRORS:
                    raise
            else:
                return SharedBuffer(path, sizes)
        _write(last, parts, sizes)
        return SharedBuffer(last, sizes)


def pickle_value(value: Any, buffers: BufferPool, dumps: Callable[..., bytes]) -> Payload:
    """Pickle a value; large buffers are written to a file in memory without an intermediate copy."""

    def dump(keep_buffer: Callable[[pickle.PickleBuffer], bool]) -> bytes:
        return dumps(value, protocol=PROTOCOL, buffer_callback=keep_buffer)

    stream, large = split_buffers(dump, THRESHOLD)
    if not large and len(stream) < THRESHOLD:
        return stream
    return buffers.write([stream, *large])


def unpickle(payload: Payload) -> Any:
    """Unpickle a payload; each call returns an independent value."""
    stream, buffers = open_payload(payload)
    return pickle.loads(stream, buffers=buffers)


def open_payload(payload: Payload) -> tuple[bytes | memoryview, list[memoryview]]:
    """The stream of a payload, and its buffers."""
    if isinstance(payload, bytes):
        return payload, []
    stream, *buffers = payload.open()
    return stream, buffers


def _layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """The offset of each part of a file, and the end of the last one."""
    starts, end = list[int](), 0
    for size in sizes:
        starts.append(end + -end % _ALIGNMENT)
        end = starts[-1] + size
    return starts, end


def _write(path: str, parts: Sequence[bytes | memoryview], sizes: Sequence[int]) -> None:
    starts, _ = _layout(sizes)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        for part, start in zip(parts, starts, strict=True):
            _write_all(descriptor, memoryview(part).cast("B"), start)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: memoryview, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written


def _read_or_map(path: str, size: int) -> mmap.mmap | bytearray:
    with open(path, "rb", buffering=0) as file:
        if size >= _MIN_MAPPED:
            with suppress(OSError):  # no file descriptors or mappings left: a copy needs none
                return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        data = bytearray(size)
        view = memoryview(data)
        while view:
            view = view[file.readinto(view) :]
        return data
