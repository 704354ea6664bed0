"""Making messages of units: what many of them share is pickled once, and sent to each worker once."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.pickler import dumps
from functionfuse._graph.containers import build_dict
from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import ATOMS, Container
from functionfuse._transport.protocol import PickledArgument, TaskMessage, encode_unit
from functionfuse._transport.shared_memory import (
    THRESHOLD,
    OwnedSharedBuffer,
    SharedBuffer,
    pickle_value,
)
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from functionfuse._kernel.units import Unit
    from functionfuse._transport.shared_memory import BufferPool, Payload

__all__ = ["MessageBuilder", "owned"]

_MAX_CACHED_ARGUMENTS: Final = (
    64  # arguments; their parcels take at most as much memory as they do themselves
)
_MAX_SHARED_OBJECTS: Final = (
    1_000  # then both sides forget them all: a graph of a million lambdas fits
)
_LITERALS: Final = frozenset({list, tuple, set, frozenset})
_PLAIN_BUILDS: Final = (*_LITERALS, build_dict)


class MessageBuilder:
    """What was pickled in a run, by the identity of the objects, which it holds."""

    def __init__(self, buffers: BufferPool) -> None:  # noqa: D107
        self._buffers = buffers
        self._shared: dict[int, tuple[Any, int, Payload]] = {}
        self._numbers = count()
        self._arguments: OrderedDict[int, tuple[Any, PickledArgument]] = OrderedDict()

    def work(self, unit: Unit, inputs: Sequence[Payload], known: set[int]) -> TaskMessage:
        """A unit for a worker; what it names is there as long as this is.

        Args:
            unit: The unit.
            inputs: The values of its step's parents.
            known: The tools that the worker has; those that go along are added.

        Raises:
            EngineError: A part of it cannot be pickled.
        """
        if len(self._shared) > _MAX_SHARED_OBJECTS:
            self._shared.clear()
        used: dict[int, Payload] = {}

        def share(value: Any) -> int:
            number, used[number] = self._share(value)
            return number

        try:
            fields = encode_unit(unit, share, self._encode_argument)
        except Exception as error:
            message = f"{self._find_unpicklable(unit)} cannot be sent to another process: {error}. {_ADVICE}"
            raise EngineError(message) from error
        reset = len(known) > _MAX_SHARED_OBJECTS
        if reset:
            known.clear()
        new = used.keys() - known
        known |= new
        return TaskMessage(reset, {number: used[number] for number in new}, fields, tuple(inputs))

    def _share(self, value: Any) -> tuple[int, Payload]:
        entry = self._shared.get(id(value))
        if entry is None:
            entry = self._shared[id(value)] = value, next(self._numbers), self._pickled(value)
        return entry[1:]

    def _pickled(self, value: Any) -> Payload:
        return owned(pickle_value(value, self._buffers, dumps))

    def _encode_argument(self, value: Any) -> Any:
        """What stands for an argument: itself, if plain pickle knows it everywhere."""
        kind = type(value)
        if kind in ATOMS:
            large = (kind is str or kind is bytes) and len(value) >= THRESHOLD
            return self._pickle_argument(value) if large else value
        if kind is ResultRef or (kind is ItemRef and _is_plain(value.path)):
            return value
        if kind in _LITERALS:
            return value if _is_plain(value) else kind(map(self._encode_argument, value))
        if kind is dict:
            return {
                self._encode_argument(key): self._encode_argument(part)
                for key, part in value.items()
            }
        if kind is Container:
            build: Any = value.build
            build = build if build in _PLAIN_BUILDS else self._pickle_argument(build)
            return Container(build, tuple(map(self._encode_argument, value.parts)))
        return self._pickle_argument(value)

    def _pickle_argument(self, value: Any) -> PickledArgument:
        entry = self._arguments.get(id(value))
        if entry is not None:
            self._arguments.move_to_end(id(value))
            return entry[1]
        argument = PickledArgument(self._pickled(value))
        self._arguments[id(value)] = value, argument
        if len(self._arguments) > _MAX_CACHED_ARGUMENTS:
            self._arguments.popitem(last=False)
        return argument

    def _find_unpicklable(self, unit: Unit) -> str:
        """Which part of a unit cannot be pickled."""
        for part in unit.subunits or (unit,):
            node = part.node
            where = f"of node {node.name!r} ({node.function} at {node.location})"
            arguments = [*enumerate(node.args, 1), *node.kwargs.items()]
            for name, value in arguments:
                if not self._is_picklable(value):
                    return f"argument {name!r} {where}"
            if not self._is_picklable(part.setup):
                return f"what a plugin does first {where}"
            if not self._is_picklable(part.storage):
                return f"the storage {where}"
        return f"the function {where}"

    def _is_picklable(self, value: Any) -> bool:
        try:
            self._encode_argument(value)
        except Exception:  # noqa: BLE001 - whatever the user's classes raise
            return False
        return True


_ADVICE: Final = "Make it within a @workflow function that needs it, or run with kind='threads' or without workers"


def owned(payload: Payload) -> Payload:
    """A parcel whose segment goes when nobody here needs it any more."""
    return (
        OwnedSharedBuffer(payload.path, payload.sizes)
        if isinstance(payload, SharedBuffer)
        else payload
    )


def _is_plain(values: Collection[Any]) -> bool:
    return not values or ATOMS.issuperset(map(type, values))
