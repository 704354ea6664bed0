"""What a pool and its workers say to each other: one message there, one back, for each unit.

All of it is made of what plain pickle takes everywhere;
the user's own objects are parcels in it, which whoever uses them opens.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from functionfuse._graph.graph import Step, new
from functionfuse._graph.nodes import Kind
from functionfuse._kernel.units import Unit
from functionfuse._transport.shared_memory import unpack

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from functionfuse._kernel.units import Record
    from functionfuse._transport.shared_memory import Parcel

__all__ = ["Channel", "Hello", "Lent", "Reply", "ReplyKind", "Work", "flat", "unit_of"]

_LENGTH: Final = struct.Struct("<Q")
_AT_ONCE: Final = 64 * 1024


class Hello(NamedTuple):
    """The first message to a worker; it is answered by nothing."""

    path: list[str]
    argv: list[str]
    environment: dict[str, str | None]  # what only the start needed: how it was before
    folders: tuple[str, ...]
    name: str  # what no other worker of the pool is called


class Work(NamedTuple):
    """A unit, as it travels."""

    forget: bool  # all tools that came before
    tools: Mapping[
        int, Parcel
    ]  # what many units share and that has not come yet: functions, the storage
    unit: tuple[Any, ...]  # see `flat`
    inputs: tuple[Parcel, ...]


#: "value": what a unit gave. "error": what it raised. Else what the worker could not do:
#: "open" the unit, open an "input", "send" the value; then the parcel is a text.
ReplyKind = Literal["value", "error", "open", "input", "send"]


class Reply(NamedTuple):
    """What became of a unit."""

    kind: ReplyKind
    parcel: Parcel
    record: Record | None = None
    parent: int | None = None  # whose value the "input" is


class Channel:
    """Whole messages over a stream socket."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._ahead = b""  # of the next message, received with the last one

    def send(self, message: bytes) -> None:
        """Send a message."""
        header = _LENGTH.pack(len(message))
        if len(message) < _AT_ONCE:
            self.socket.sendall(header + message)
        else:
            self.socket.sendall(header)
            self.socket.sendall(message)

    def receive(self) -> bytes | bytearray:
        """Wait for a message.

        Raises:
            EOFError: The other side is gone.
        """
        start, self._ahead = self._ahead or self._some(), b""
        while len(start) < _LENGTH.size:
            start += self._some()
        end = _LENGTH.size + _LENGTH.unpack_from(start)[0]
        if len(start) >= end:
            self._ahead = start[end:]
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

    def _some(self) -> bytes:
        data = self.socket.recv(_AT_ONCE)
        if not data:
            raise EOFError
        return data


class Lent:
    """An object of the user's that stands in an argument; where the message is read, it is the object itself."""

    __slots__ = ("parcel",)

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, (self.parcel,)


def flat(unit: Unit, tool: Callable[[Any], int], lend: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The fields of a unit as plain pickle takes them.

    Args:
        unit: The unit.
        tool: Gives the number of what units share.
        lend: Gives what stands for an argument.
    """
    step = unit.step
    args, kwargs = step.args, step.kwargs
    if unit.load or unit.parts:  # the parts have their own
        args, kwargs = (), {}
    return (
        step.name,
        step.number,
        tool(step.func),
        tuple([lend(value) for value in args]),
        {key: lend(value) for key, value in kwargs.items()} if kwargs else {},
        step.kind.value,
        step.state,
        step.place,
        step.parents,
        unit.workflow,
        unit.engine,
        None if unit.storage is None else tool(unit.storage),
        unit.load,
        lend(unit.setup),
        unit.sole,
        tuple([flat(part, tool, lend) for part in unit.parts]),
        unit.keep,
        unit.recompute,
    )


def unit_of(fields: tuple[Any, ...], tools: Mapping[int, Any]) -> Unit:
    """A unit out of its fields."""
    name, number, func, args, kwargs, kind, state, place, parents, *rest = fields
    workflow, engine, storage, load, setup, sole, parts, keep, recompute = rest
    step = new(Step, (name, number, tools[func], args, kwargs, Kind(kind), state, place, parents))
    storage = None if storage is None else tools[storage]
    parts = tuple([unit_of(part, tools) for part in parts])
    fields = (step, workflow, engine, storage, load, setup, sole, parts, keep, recompute)
    return new(Unit, fields)
