"""A value on its way through Ray's object store, which gives everyone who takes it memory of his own.

Ray hands out arrays as views of shared memory that nobody may write to.
On every other engine a function may write to what it takes, so what is carried is copied when it is opened.
What its maker made read-only already (an Arrow table, an array after `setflags(write=False)`) is not copied,
and nothing is in a workflow whose arrays are read-only; but for instances, whose methods change them.
"""

from __future__ import annotations

import pickle
from collections import ChainMap
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common import pickler
from functionfuse._graph.nodes import ATOMS
from functionfuse._kernel.units import GroupResult, InstanceResult
from functionfuse._transport.exceptions import describe_exception
from functionfuse.backends.builtin.rayback._compat import REFERENCE_REDUCERS
from functionfuse.backends.builtin.rayback.buffers import copy_buffer
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REDUCERS", "PickledValue", "dumps", "unwrapped", "wrapped"]

_PROTOCOL = 5  # the first that leaves buffers out of the stream, and so lets Ray write them to shared memory once


#: As on all engines, so that classes made in functions stay themselves; and Ray's references as Ray does.
REDUCERS: Final[Any] = ChainMap(pickler.Pickler.dispatch_table, REFERENCE_REDUCERS)


def dumps(value: Any, keep_buffer: Callable[[PickleBuffer], object] | None = None) -> bytes:
    """A value as bytes that `pickle.loads` reads.

    Args:
        value: The value.
        keep_buffer: Takes the buffers that shall not be in the bytes; those for which it returns None.
    """
    return pickler.dumps(value, protocol=_PROTOCOL, buffer_callback=keep_buffer, reducers=REDUCERS)


def wrapped(value: Any, what: str, *, read_only: bool) -> Any:
    """A value as it is sent, see `PickledValue`; one that nobody can write to goes as it is."""
    if type(value) in ATOMS:
        return value
    return PickledValue(value, what, read_only=read_only and not _has_instance(value))


def _has_instance(value: Any) -> bool:
    return type(value) is GroupResult or (type(value) is InstanceResult and value.state is not None)


def unwrapped(value: Any) -> Any:
    """What a value was before it was sent."""
    return value.open() if type(value) is PickledValue else value


class PickledValue:
    """A value to be sent, or one that arrived and is still packed.

    It is pickled when Ray pickles it: so Ray sees the references to its own objects that it may hold.
    """

    __slots__ = ("_buffers", "_read_only", "_stream", "_value", "_what")

    def __init__(self, value: Any, what: str, *, read_only: bool = False) -> None:
        """Take a value.

        Args:
            value: The value.
            what: What errors call it.
            read_only: Nobody may write to its arrays, so they are not copied.
        """
        self._value = value
        self._what = what
        self._read_only = read_only
        self._stream: bytes | None = None
        self._buffers: list[Any] = []

    def open(self) -> Any:
        """The value, in memory of its own."""
        if self._stream is None:
            return self._value
        own = [
            buffer if was_read_only else copy_buffer(buffer)
            for buffer, was_read_only in self._buffers
        ]
        try:
            return pickle.loads(self._stream, buffers=own)
        except Exception as error:
            message = f"{self._what} cannot be read where it is needed: {describe_exception(error)}"
            raise EngineError(message) from error

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        if self._stream is not None:
            again = [(PickleBuffer(buffer), read_only) for buffer, read_only in self._buffers]
            return _restore, (self._what, self._stream, again)
        buffers: list[PickleBuffer] = []
        try:
            stream = dumps(self._value, buffers.append)
        except Exception as error:
            message = f"{self._what} cannot be pickled to be sent: {describe_exception(error)}"
            raise EngineError(message) from error
        flags = [(buffer, self._read_only or buffer.raw().readonly) for buffer in buffers]
        return _restore, (self._what, stream, flags)


def _restore(what: str, stream: bytes, buffers: list[Any]) -> PickledValue:
    value = PickledValue(None, what)
    value._stream, value._buffers = stream, buffers  # noqa: SLF001 - of this class
    return value
