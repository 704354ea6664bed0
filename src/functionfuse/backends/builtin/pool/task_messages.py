"""Making messages of units: what many of them share is pickled once, and sent to each worker once."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from functionfuse._graph.capture import build_dict
from functionfuse._graph.graph import Number, Ref
from functionfuse._graph.nodes import ATOMS, Container
from functionfuse._transport.protocol import Lent, Work, flat
from functionfuse._transport.shared_memory import THRESHOLD, OwnSegment, Segment, pack
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from functionfuse._kernel.units import Unit
    from functionfuse._transport.shared_memory import Parcel, Space

__all__ = ["Packing", "own"]

_KEPT: Final = 64  # arguments; their parcels take at most as much memory as they do themselves
_MANY_TOOLS: Final = 1_000  # then both sides forget them all: a graph of a million lambdas fits
_LITERALS: Final = frozenset({list, tuple, set, frozenset})
_PLAIN_BUILDS: Final = (*_LITERALS, build_dict)


class Packing:
    """What was pickled in a run, by the identity of the objects, which it holds."""

    def __init__(self, space: Space) -> None:  # noqa: D107
        self._space = space
        self._tools: dict[int, tuple[Any, int, Parcel]] = {}
        self._numbers = count()
        self._lent: OrderedDict[int, tuple[Any, Lent]] = OrderedDict()

    def work(self, unit: Unit, inputs: Sequence[Parcel], known: set[int]) -> Work:
        """A unit for a worker; what it names is there as long as this is.

        Args:
            unit: The unit.
            inputs: The values of its step's parents.
            known: The tools that the worker has; those that go along are added.

        Raises:
            EngineError: A part of it cannot be pickled.
        """
        if len(self._tools) > _MANY_TOOLS:
            self._tools.clear()
        used: dict[int, Parcel] = {}

        def tool(value: Any) -> int:
            number, used[number] = self._tool(value)
            return number

        try:
            fields = flat(unit, tool, self._lend)
        except Exception as error:
            message = f"{self._culprit(unit)} cannot be sent to another process: {error}. {_ADVICE}"
            raise EngineError(message) from error
        forget = len(known) > _MANY_TOOLS
        if forget:
            known.clear()
        new = used.keys() - known
        known |= new
        return Work(forget, {number: used[number] for number in new}, fields, tuple(inputs))

    def _tool(self, value: Any) -> tuple[int, Parcel]:
        entry = self._tools.get(id(value))
        if entry is None:
            entry = self._tools[id(value)] = value, next(self._numbers), self._packed(value)
        return entry[1:]

    def _packed(self, value: Any) -> Parcel:
        return own(pack(value, self._space, cloudpickle.dumps))

    def _lend(self, value: Any) -> Any:
        """What stands for an argument: itself, if plain pickle knows it everywhere."""
        kind = type(value)
        if kind in ATOMS:
            large = (kind is str or kind is bytes) and len(value) >= THRESHOLD
            return self._lend_object(value) if large else value
        if kind is Number or (kind is Ref and _is_plain(value.path)):
            return value
        if kind in _LITERALS:
            return value if _is_plain(value) else kind(map(self._lend, value))
        if kind is dict:
            return {self._lend(key): self._lend(part) for key, part in value.items()}
        if kind is Container:
            build: Any = value.build
            build = build if build in _PLAIN_BUILDS else self._lend_object(build)
            return Container(build, tuple(map(self._lend, value.parts)))
        return self._lend_object(value)

    def _lend_object(self, value: Any) -> Lent:
        entry = self._lent.get(id(value))
        if entry is not None:
            self._lent.move_to_end(id(value))
            return entry[1]
        lent = Lent(self._packed(value))
        self._lent[id(value)] = value, lent
        if len(self._lent) > _KEPT:
            self._lent.popitem(last=False)
        return lent

    def _culprit(self, unit: Unit) -> str:
        """Which part of a unit cannot be pickled."""
        for part in unit.parts or (unit,):
            step = part.step
            where = f"of node {step.name!r} ({step.function} at {step.place})"
            arguments = [*enumerate(step.args, 1), *step.kwargs.items()]
            for name, value in arguments:
                if not self._is_sendable(value):
                    return f"argument {name!r} {where}"
            if not self._is_sendable(part.setup):
                return f"what a plugin does first {where}"
            if not self._is_sendable(part.storage):
                return f"the storage {where}"
        return f"the function {where}"

    def _is_sendable(self, value: Any) -> bool:
        try:
            self._lend(value)
        except Exception:  # noqa: BLE001 - whatever the user's classes raise
            return False
        return True


_ADVICE: Final = "Make it within a @workflow function that needs it, or run with kind='threads' or without workers"


def own(parcel: Parcel) -> Parcel:
    """A parcel whose segment goes when nobody here needs it any more."""
    return OwnSegment(parcel.path, parcel.sizes) if isinstance(parcel, Segment) else parcel


def _is_plain(values: Collection[Any]) -> bool:
    return not values or ATOMS.issuperset(map(type, values))
