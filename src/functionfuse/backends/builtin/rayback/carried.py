"""A value on its way through Ray's object store, which gives everyone who takes it memory of his own.

Ray hands out arrays as views of shared memory that nobody may write to.
On every other engine a function may write to what it takes, so what is carried is copied when it is opened.
What its maker made read-only already (an Arrow table, an array after `setflags(write=False)`) is not copied.
"""

from __future__ import annotations

import pickle
from pickle import PickleBuffer
from typing import Any

from ray import cloudpickle

from functionfuse.errors import EngineError
from functionfuse.nodes import ATOMS
from functionfuse.travel import described

__all__ = ["Carried", "carried", "opened"]

_PROTOCOL = 5  # the first that leaves buffers out of the stream, and so lets Ray write them to shared memory once


def carried(value: Any) -> Any:
    """A value as it is sent; one that nobody can write to goes as it is."""
    return value if type(value) in ATOMS else Carried(value)


def opened(value: Any) -> Any:
    """What a value was before it was sent."""
    return value.open() if type(value) is Carried else value


class Carried:
    """A value to be sent, or one that arrived and is still packed.

    It is pickled when Ray pickles it: so Ray sees the references to its own objects that it may hold.
    """

    __slots__ = ("_buffers", "_stream", "_value")

    def __init__(self, value: Any) -> None:  # noqa: D107
        self._value = value
        self._stream: bytes | None = None
        self._buffers: list[Any] = []

    def open(self) -> Any:
        """The value, in memory of its own."""
        if self._stream is None:
            return self._value
        own = [
            buffer if was_read_only else bytearray(buffer)
            for buffer, was_read_only in self._buffers
        ]
        return pickle.loads(self._stream, buffers=own)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        if self._stream is not None:
            again = [(PickleBuffer(buffer), read_only) for buffer, read_only in self._buffers]
            return _arrived, (self._stream, again)
        buffers: list[PickleBuffer] = []
        try:
            stream = cloudpickle.dumps(self._value, _PROTOCOL, buffer_callback=buffers.append)
        except Exception as error:
            message = f"the result, or the instance that it leaves, cannot be pickled to be sent: {described(error)}"
            raise EngineError(message) from error
        return _arrived, (stream, [(buffer, buffer.raw().readonly) for buffer in buffers])


def _arrived(stream: bytes, buffers: list[Any]) -> Carried:
    value = Carried(None)
    value._stream, value._buffers = stream, buffers
    return value
