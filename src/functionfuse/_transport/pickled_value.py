"""Envelopes for values between processes: pickled in the process that made them, unpickled in the node that takes them.

An engine passes them on as bytes and buffers, so it needs none of the user's modules,
and its own rules for arrays, tensors and exceptions do not apply.
"""

from __future__ import annotations

import pickle
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common import pickler
from functionfuse._common.pickle_buffers import PROTOCOL, split_buffers
from functionfuse._transport.broadcast_unpickler import unpickle
from functionfuse._transport.buffers import copy_buffer
from functionfuse._transport.exceptions import describe_exception
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse._common.pickle_buffers import Dumps

__all__ = ["CopyPolicy", "PickledValue", "pickle_value", "pickle_with"]

#: Bytes; copying smaller buffers costs less than sending them separately.
_SMALL: Final = 4096


class CopyPolicy(Enum):
    """Which buffers of a value are copied each time that it is unpickled."""

    #: Copy all buffers but read-only ones, so that a node that writes to its copy changes no other value.
    COPY_WRITABLE = auto()
    #: None: nodes in one process get the same memory.
    SHARE = auto()


class PickledValue:
    """A pickled value: a stream of protocol 5, its buffers, and references to broadcast objects."""

    __slots__ = ("_buffers", "_refs", "_stream", "_what")

    def __init__(
        self,
        stream: bytes,
        buffers: Sequence[tuple[Any, bool]],
        what: str = "",
        refs: Sequence[PickledValue] = (),
    ) -> None:
        """Take a pickle.

        Args:
            stream: The pickle without its buffers.
            buffers: Each with whether it is used in place, and not copied.
            what: What errors call the value.
            refs: Broadcast objects, which are not in the pickle, see `Broadcaster`.
        """
        self._stream = stream
        self._buffers = buffers
        self._what = what
        self._refs = refs

    @property
    def nbytes(self) -> int:
        """Its size in bytes, without broadcast objects."""
        return len(self._stream) + sum(memoryview(buffer).nbytes for buffer, _ in self._buffers)

    def open(self, refs: Sequence[PickledValue] = ()) -> Any:
        """Unpickle the value; each call returns another one.

        Args:
            refs: Broadcast objects that were sent separately.

        Raises:
            EngineError: It cannot be unpickled here, and has a name for errors.
            Exception: It cannot be unpickled here, and has none.
        """
        refs = refs or self._refs
        buffers = [
            buffer if in_place else copy_buffer(buffer) for buffer, in_place in self._buffers
        ]
        try:
            if refs:
                return unpickle(self._stream, lambda number: refs[number].open(), buffers)
            return pickle.loads(self._stream, buffers=buffers)
        except Exception as error:
            if not self._what:
                raise
            message = (
                f"{self._what} cannot be unpickled where it is used ({describe_exception(error)}): "
                "its class must be importable there, and have the attributes that its pickle has"
            )
            raise EngineError(message) from error

    def with_refs(self, refs: Sequence[PickledValue]) -> PickledValue:
        """The same value with broadcast objects that are sent with it."""
        return PickledValue(self._stream, self._buffers, self._what, refs)

    def to_frames(self) -> tuple[tuple[Any, ...], list[Any]]:
        """What `from_frames` needs, for an engine that sends bytes and buffers itself."""
        buffers = [buffer for buffer, _ in self._buffers]
        writable = [not memoryview(buffer).readonly for buffer in buffers]
        in_place = [flag for _, flag in self._buffers]
        return (self._what, in_place, writable), [self._stream, *buffers]

    @staticmethod
    def from_frames(header: Sequence[Any], frames: Sequence[Any]) -> PickledValue:
        """The value of `to_frames`; what was writable is copied if it arrives read-only."""
        what, in_place, writable = header
        stream, *received = frames
        buffers = [
            bytearray(buffer) if write and memoryview(buffer).readonly else buffer
            for buffer, write in zip(received, writable, strict=True)
        ]
        return PickledValue(stream, [*zip(buffers, in_place, strict=True)], what)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        as_sent = pickle.PickleBuffer if protocol >= PROTOCOL else bytes
        buffers = [(as_sent(buffer), in_place) for buffer, in_place in self._buffers]
        return PickledValue, (self._stream, buffers, self._what, self._refs)


def pickle_value(
    value: Any,
    policy: CopyPolicy = CopyPolicy.COPY_WRITABLE,
    what: str = "",
    dumps: Callable[..., bytes] = pickler.dumps,
) -> PickledValue:
    """Pickle a value.

    Args:
        value: The value.
        policy: Which buffers are copied when it is unpickled.
        what: What errors call it.
        dumps: Pickles it, with the arguments of `pickle.dumps`.
    """

    def dump(keep_buffer: Callable[[pickle.PickleBuffer], bool]) -> bytes:
        return dumps(value, protocol=PROTOCOL, buffer_callback=keep_buffer)

    return pickle_with(dump, policy, what)


def pickle_with(
    dumps: Dumps, policy: CopyPolicy = CopyPolicy.COPY_WRITABLE, what: str = ""
) -> PickledValue:
    """Pickle what a function dumps; see `pickle_value`."""
    shared = policy is CopyPolicy.SHARE
    stream, buffers = split_buffers(dumps, 1 if shared else _SMALL)
    return PickledValue(stream, [(each, shared or each.readonly) for each in buffers], what)
