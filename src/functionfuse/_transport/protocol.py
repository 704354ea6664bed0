"""Messages between a process pool and its workers: one task message and one reply for each unit.

Messages contain only what plain pickle loads in every process.
The user's objects in them are payloads, which are pickled separately and unpickled where they are used.
"""

from __future__ import annotations

import struct
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from functionfuse._graph.graph import GraphNode, new_tuple
from functionfuse._graph.nodes import Kind
from functionfuse._kernel.units import Unit
from functionfuse._transport import broadcast_unpickler
from functionfuse._transport.shared_memory import open_payload, unpickle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._kernel.units import Record
    from functionfuse._transport.shared_memory import Payload

__all__ = [
    "Channel",
    "Handshake",
    "PickledArgument",
    "Reply",
    "ReplyKind",
    "TaskMessage",
    "decode_unit",
    "encode_unit",
]

_LENGTH: Final = struct.Struct("<Q")
_CODE: Final = "parts"  # the field of a fingerprint that is as long as the project
_CHUNK_SIZE: Final = 64 * 1024


class Handshake(NamedTuple):
    """The first message to a worker, without a reply."""

    path: list[str]
    argv: list[str]
    environment: dict[
        str, str | None
    ]  # variables that were set for the start, with their values before
    folders: tuple[str, ...]
    name: str  # unique in the pool


class TaskMessage(NamedTuple):
    """A unit and the values of its inputs."""

    reset: bool  # forget all shared objects of earlier messages
    #: What many units share and this worker does not have yet: functions, the storage.
    shared_objects: Mapping[int, Payload]
    unit: tuple[Any, ...]  # see `encode_unit`
    inputs: tuple[Payload, ...]


#: "value": the unit's value. "error": its exception. "message": a log record or warning, while the unit runs.
#: Else what the worker could not do, with a text as payload:
#: "open" the unit, open an "input", "send" the value.
ReplyKind = Literal["value", "error", "message", "open", "input", "send"]


class Reply(NamedTuple):
    """The outcome of a unit."""

    kind: ReplyKind
    payload: Payload
    record: Record | None = None
    parent: int | None = None  # the node of the "input"


class Channel:
    """Length-prefixed messages over a stream socket."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._lock = Lock()  # threads of nodes send log records
        self._buffered = b""  # of the next message, received with the last one

    def send(self, message: bytes) -> None:
        """Send a message."""
        header = _LENGTH.pack(len(message))
        with self._lock:
            if len(message) < _CHUNK_SIZE:
                self.socket.sendall(header + message)
            else:
                self.socket.sendall(header)
                self.socket.sendall(message)

    @property
    def has_received(self) -> bool:
        """The next message has arrived with the last one, at least in part."""
        return bool(self._buffered)

    def receive(self) -> bytes | bytearray:
        """Wait for a message.

        Raises:
            EOFError: The other process has closed the socket.
        """
        start, self._buffered = self._buffered or self._receive_some(), b""
        while len(start) < _LENGTH.size:
            start += self._receive_some()
        end = _LENGTH.size + _LENGTH.unpack_from(start)[0]
        if len(start) >= end:
            self._buffered = start[end:]
            return start[_LENGTH.size : end]
        message = bytearray(end - _LENGTH.size)
        done = len(start) - _LENGTH.size
        message[:done] = start[_LENGTH.size :]
        view = memoryview(message)[done:]
        while view:
            received = self.socket.recv_into(view)
            if not received:
                raise EOFError
            view = view[received:]
        return message

    def _receive_some(self) -> bytes:
        data = self.socket.recv(_CHUNK_SIZE)
        if not data:
            raise EOFError
        return data


class PickledArgument:
    """A pickled argument, or a large part of it; unpickling the message replaces it by the object."""

    __slots__ = ("parts", "payload")

    def __init__(self, payload: Payload, parts: Sequence[PickledArgument] = ()) -> None:
        self.payload = payload
        self.parts = parts  # which are not in the payload

    def __reduce__(self) -> tuple[Any, ...]:
        if self.parts:
            return _unpickle_with_parts, (self.payload, self.parts)
        return unpickle, (self.payload,)


def _unpickle_with_parts(payload: Payload, parts: Sequence[Any]) -> Any:
    stream, buffers = open_payload(payload)
    return broadcast_unpickler.unpickle(stream, parts.__getitem__, buffers)


def encode_unit(
    unit: Unit, share: Callable[[Any], int], encode_argument: Callable[[Any], Any]
) -> tuple[Any, ...]:
    """Encode a unit as a tuple that plain pickle loads everywhere.

    Args:
        unit: The unit.
        share: Returns the number of a shared object.
        encode_argument: Encodes an argument.
    """
    node = unit.node
    args, kwargs = node.args, node.kwargs
    if unit.load or unit.subunits:  # the parts have their own
        args, kwargs = (), {}
    return (
        node.name,
        node.number,
        share(node.func),
        tuple([encode_argument(value) for value in args]),
        {key: encode_argument(value) for key, value in kwargs.items()} if kwargs else {},
        node.kind.value,
        node.state,
        node.location,
        node.parents,
        unit.workflow,
        unit.engine,
        None if unit.storage is None else share(unit.storage),
        unit.load,
        encode_argument(unit.setup),
        unit.exclusive_instance,
        tuple([encode_unit(part, share, encode_argument) for part in unit.subunits]),
        unit.outputs,
        unit.recompute,
        None if unit.context is None else share(unit.context),
        unit.guard,
        None if unit.fingerprint is None else _encode_fingerprint(unit.fingerprint, share),
        unit.replace,
    )


def _encode_fingerprint(
    fingerprint: Mapping[str, Any], share: Callable[[Any], int]
) -> tuple[Mapping[str, Any], int]:
    """A fingerprint without the parts of the code: all nodes of a function share them."""
    return {**fingerprint, _CODE: None}, share(fingerprint[_CODE])


def decode_unit(fields: tuple[Any, ...], shared_objects: Mapping[int, Any]) -> Unit:
    """Decode a unit of `encode_unit`."""
    name, number, func, args, kwargs, kind, state, location, parents, *rest = fields
    workflow, engine, storage, load, setup, exclusive_instance, subunits, *rest = rest
    outputs, recompute, context, guard, fingerprint, replace = rest
    node = new_tuple(
        GraphNode,
        (name, number, shared_objects[func], args, kwargs, Kind(kind), state, location, parents),
    )
    storage = None if storage is None else shared_objects[storage]
    subunits = tuple([decode_unit(part, shared_objects) for part in subunits])
    fields = (
        node,
        workflow,
        engine,
        storage,
        load,
        setup,
        exclusive_instance,
        subunits,
        outputs,
        recompute,
        None if context is None else shared_objects[context],
        guard,
        fingerprint and {**fingerprint[0], _CODE: shared_objects[fingerprint[1]]},
        replace,
    )
    return new_tuple(Unit, fields)
