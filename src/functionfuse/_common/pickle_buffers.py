"""Out-of-band buffers of pickle protocol 5: separate large buffers from the stream, without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer

__all__ = ["PROTOCOL", "Dumps", "split_buffers"]

#: The first protocol with out-of-band buffers.
PROTOCOL: Final = 5


class Dumps(Protocol):
    """A function that pickles a value with protocol 5."""

    def __call__(self, keep_buffer: Callable[[PickleBuffer], bool], /) -> bytes:
        """Return the stream; `keep_buffer` decides for each buffer whether it stays in the stream."""


def split_buffers(dumps: Dumps, threshold: int) -> tuple[bytes, list[memoryview]]:
    """Pickle a value; returns the stream, and the buffers as contiguous bytes.

    Args:
        dumps: Pickles the value.
        threshold: The size in bytes from which a buffer is out of band, at least 1:
            some engines cannot send empty buffers of several dimensions.
    """
    buffers: list[memoryview] = []

    def keep(buffer: PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < threshold:
            return True
        buffers.append(raw)
        return False

    return dumps(keep), buffers
