"""Task messages: pickle units; objects that several units share are pickled once, and sent to each worker once."""

from __future__ import annotations

import io
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.pickler import Pickler, dumps
from functionfuse._graph.containers import build_dict
from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import ATOMS, Container
from functionfuse._kernel.seeding import NodeSeeding
from functionfuse._transport.broadcast import has_size, is_large, large_candidates
from functionfuse._transport.protocol import (
    PickledArgument,
    TaskMessage,
    encode_unit,
)
from functionfuse._transport.shared_memory import (
    THRESHOLD,
    OwnedSharedBuffer,
    SharedBuffer,
    pickle_value,
)
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from functionfuse._common.pickler import KeepBuffer
    from functionfuse._kernel.units import Unit
    from functionfuse._transport.shared_memory import BufferPool, Payload

__all__ = ["MessageBuilder", "own_buffer"]

_MAX_CACHED_ARGUMENTS: Final = 64
#: When there are more, both sides drop them all, so that a graph of a million lambdas fits in memory.
_MAX_SHARED_OBJECTS: Final = 1_000
_LITERALS: Final = frozenset({list, tuple, set, frozenset})
_CONTAINERS: Final = _LITERALS | {dict, Container}
_PLAIN_BUILDS: Final = (*_LITERALS, build_dict)
_TEXTS: Final = frozenset({str, bytes, bytearray})


class MessageBuilder:
    """Builds the messages of a run, with a cache of pickled objects by identity; it holds these objects."""

    def __init__(self, buffers: BufferPool) -> None:  # noqa: D107
        self._buffers = buffers
        self._shared: dict[int, tuple[Any, int, Payload]] = {}
        self._numbers = count()
        self._arguments: OrderedDict[int, tuple[Any, PickledArgument]] = OrderedDict()

    def build(self, unit: Unit, inputs: Sequence[Payload], known: set[int]) -> TaskMessage:
        """Pickle a unit for a worker; shared buffers that it refers to exist as long as the message does.

        Args:
            unit: The unit.
            inputs: The values of its node's parents.
            known: The numbers of the shared objects that the worker has; those in this message are added.

        Raises:
            EngineError: A part of it cannot be pickled.
        """
        if len(self._shared) > _MAX_SHARED_OBJECTS:
            self._shared.clear()
        used: dict[int, Payload] = {}

        def share(value: Any) -> int:
            number, used[number] = self._share(value)
            return number

        if unit.context is not None:
            share(unit.context)  # unpickled first: it extends the search path
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
        shared = {number: payload for number, payload in used.items() if number in new}
        return TaskMessage(reset, shared, fields, tuple(inputs))

    def _share(self, value: Any) -> tuple[int, Payload]:
        entry = self._shared.get(id(value))
        if entry is None:
            entry = self._shared[id(value)] = value, next(self._numbers), self._pickled(value)
        return entry[1:]

    def _pickled(self, value: Any) -> Payload:
        return own_buffer(pickle_value(value, self._buffers, dumps))

    def _encode_argument(self, value: Any) -> Any:
        """Return what represents an argument: itself, if plain pickle can load it everywhere."""
        if _is_plain(value):
            return value
        return (
            self._pickle_parts(value) if type(value) in _CONTAINERS else self._pickle_object(value)
        )

    def _pickle_object(self, value: Any) -> PickledArgument:
        """Pickle an object, once for many nodes."""
        entry = self._arguments.get(id(value))
        if entry is not None:
            self._arguments.move_to_end(id(value))
            return entry[1]
        known = _has_known_size(value)
        argument = PickledArgument(self._pickled(value)) if known else self._pickle_parts(value)
        self._arguments[id(value)] = value, argument
        if len(self._arguments) > _MAX_CACHED_ARGUMENTS:
            self._arguments.popitem(last=False)
        return argument

    def _pickle_parts(self, value: Any) -> PickledArgument:
        """Pickle a value in one piece, since its parts may share objects; large parts are pickled separately."""
        candidates = (part for part in large_candidates((value,), THRESHOLD) if part is not value)
        separate = {id(part) for part in candidates if self._is_large(part)}
        parts: list[Any] = []

        def dump(value: Any, **options: Any) -> bytes:
            with io.BytesIO() as file:
                pickler = _PartPickler(file, value, separate, **options)
                pickler.dump(value)
                parts.extend(pickler.parts)
                return file.getvalue()

        payload = own_buffer(pickle_value(value, self._buffers, dump))
        return PickledArgument(payload, [self._pickle_object(part) for part in parts])

    def _is_large(self, part: Any) -> bool:
        """Tell whether a part is large; one of unknown size is pickled to see it."""
        if _has_known_size(part):
            return is_large(part, THRESHOLD)
        argument = self._pickle_object(part)
        return bool(argument.parts) or isinstance(argument.payload, SharedBuffer)

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
                return f"the setup of a plugin {where}"
            if not self._is_picklable(part.storage):
                return f"the storage {where}"
        return f"the function {where}"

    def _is_picklable(self, value: Any) -> bool:
        try:
            self._encode_argument(value)
        except Exception:  # noqa: BLE001 - whatever the user's classes raise
            return False
        return True


_ADVICE: Final = "Create it in the @workflow function that uses it, or run with kind='threads' or without workers"


def own_buffer(payload: Payload) -> Payload:
    """A payload whose shared buffer is deleted with the last reference in this process."""
    return (
        OwnedSharedBuffer(payload.path, payload.sizes)
        if isinstance(payload, SharedBuffer)
        else payload
    )


class _PartPickler(Pickler):
    """Replaces the large parts of a value by persistent ids."""

    def __init__(
        self,
        file: io.BytesIO,
        value: Any,
        separate: Collection[int],
        protocol: int,
        buffer_callback: KeepBuffer,
    ) -> None:
        super().__init__(file, protocol, buffer_callback)
        self._value = value
        self._separate = separate
        self._numbers: dict[int, int] = {}
        self.parts: list[Any] = []

    def persistent_id(self, obj: Any) -> int | None:
        """The number of a part that is pickled separately."""
        if obj is self._value or not (id(obj) in self._separate or is_large(obj, THRESHOLD)):
            return None
        number = self._numbers.setdefault(id(obj), len(self.parts))
        if number == len(self.parts):
            self.parts.append(obj)
        return number


def _has_known_size(value: Any) -> bool:
    return type(value) in _TEXTS or has_size(value)


def _is_plain(value: Any) -> bool:
    """Tell whether plain pickle can load a value everywhere, and it is small or a container."""
    kind = type(value)
    if kind in ATOMS:
        return kind not in _TEXTS or len(value) < THRESHOLD
    if kind is ResultRef:
        return True
    if kind is NodeSeeding or kind is ItemRef:
        return (
            all(type(key) in ATOMS for key in value.path) if kind is ItemRef else not value.plugin
        )
    parts: Collection[Any]
    if kind in _LITERALS:
        parts = value
    elif kind is dict:
        parts = [*value, *value.values()]
    elif kind is Container and value.build in _PLAIN_BUILDS:
        parts = value.parts
    else:
        return False
    try:
        return ATOMS.issuperset(map(type, parts)) or all(map(_is_plain, parts))
    except RecursionError:
        return False
