"""Broadcast of large arguments: each is sent once in a run, and the units of the nodes refer to it.

Objects are identified by `id`: the same object in two nodes is sent once, two equal objects are sent twice.
An object is large by its `nbytes` or length; an object without them is pickled, once, to measure it.
"""

from __future__ import annotations

import io
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from functionfuse._common.pickler import Pickler
from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import ATOMS, Container

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from functionfuse._common.pickler import KeepBuffer, Reducers
    from functionfuse._graph.graph import Graph, GraphNode
    from functionfuse._kernel.units import Unit

__all__ = [
    "BroadcastRef",
    "Broadcaster",
    "PickleFunction",
    "has_size",
    "is_large",
    "large_candidates",
]

T = TypeVar("T")
_MANY: Final = 100  # larger containers are not searched: their parts are pickled with them
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})
_TEXTS: Final = frozenset({str, bytes})
_WITH_LENGTH: Final = _TEXTS | {bytearray}  # in bytes
_SMALL: Final = (ATOMS - _TEXTS) | {
    ResultRef,
    ItemRef,
    type,
    FunctionType,
    BuiltinFunctionType,
    ModuleType,
}


@dataclass(eq=False, slots=True, weakref_slot=True)
class BroadcastRef(Generic[T]):
    """A large object and the engine's reference to it."""

    value: Any  # retained, so that its id is not used again
    sent: T


class PickleFunction(Protocol[T]):
    """A function that pickles values of one unit, see `Broadcaster.pickle_value`."""

    def __call__(
        self, value: Any, keep_buffer: KeepBuffer | None, /
    ) -> tuple[bytes, Sequence[BroadcastRef[T]]]:
        """Return the stream and the broadcast objects that it refers to."""


@dataclass(frozen=True, slots=True)
class _Prepickled:
    """An object that was pickled separately."""

    value: Any  # retained, so that its id is not used again
    stream: bytes
    large: Sequence[Any]  # its large parts, which are not in the stream

    @property
    def nbytes(self) -> float:
        return len(self.stream) + sum(map(_nbytes, self.large))


class Broadcaster(Generic[T]):
    """Pickles the units of a run, and broadcasts the large objects in them."""

    def __init__(
        self,
        graph: Graph,
        send: Callable[[Any], T],
        threshold: int,
        reducers: Reducers | None = None,
    ) -> None:
        """Start a run.

        Args:
            graph: The graph; an object is released after the last node with it as an argument.
            send: Sends an object and returns the engine's reference to it.
            threshold: The size in bytes from which an object is large.
            reducers: The pickler's dispatch table, if it is not the usual one.
        """
        self._graph = graph
        self._send = send
        self._threshold = threshold
        self._reducers = reducers
        self._refs: WeakValueDictionary[int, BroadcastRef[T]] = WeakValueDictionary()
        self._prepickled: dict[int, _Prepickled | None] = {}  # None: it is small
        self._uses: Counter[int] | None = None  # units not pickled yet, by the id of an argument
        self._retained: dict[int, Sequence[BroadcastRef[T]]] = {}  # for those units

    def applies_to(self, unit: Unit) -> bool:
        """Tell whether an argument of a unit may be large."""
        return any(True for node in _nodes(unit) for _ in self._objects(node))

    def pickle_value(
        self, value: Any, unit: Unit, keep_buffer: KeepBuffer | None
    ) -> tuple[bytes, Sequence[BroadcastRef[T]]]:
        """Pickle a value of a unit; returns the stream and the broadcast objects that `unpickle` needs.

        Args:
            value: The value.
            unit: The unit.
            keep_buffer: Receives the out-of-band buffers, as in `pickle.dumps`.
        """
        with self.pickling(unit) as pickle_value:
            return pickle_value(value, keep_buffer)

    @contextmanager
    def pickling(self, unit: Unit) -> Iterator[PickleFunction[T]]:
        """Pickle several values of a unit with the function that this context manager returns."""
        objects = [found for node in _nodes(unit) for found in self._objects(node)]
        refs: list[BroadcastRef[T]] = []

        def pickle_value(
            value: Any, keep_buffer: KeepBuffer | None
        ) -> tuple[bytes, Sequence[BroadcastRef[T]]]:
            stream, large = self._dump(value, self._prepickled, keep_buffer)
            found = [self._broadcast(each) for each in large]
            refs.extend(found)
            return stream, found

        if not unit.load:
            for found in objects:
                self._measure(found)
        yield pickle_value
        if objects:
            self._retain(objects, refs)

    def end(self) -> None:
        """Release all objects; after a failure, some units were never pickled."""
        self._retained.clear()
        self._prepickled.clear()

    def _objects(self, node: GraphNode) -> Iterator[Any]:
        return large_candidates((*node.args, *node.kwargs.values()), self._threshold)

    def _measure(self, value: Any) -> None:
        """Pickle an object that has no size, to measure it."""
        kind = type(value)
        if id(value) in self._prepickled or kind in _WITH_LENGTH or has_size(value):
            return
        prepickled = _Prepickled(value, *self._dump(value, {}, None))
        self._prepickled[id(value)] = prepickled if prepickled.nbytes >= self._threshold else None

    def _dump(
        self,
        value: Any,
        prepickled: Mapping[int, _Prepickled | None],
        keep_buffer: KeepBuffer | None,
    ) -> tuple[bytes, list[Any]]:
        with io.BytesIO() as file:
            pickler = _Pickler(file, keep_buffer, self._reducers, prepickled, self._threshold)
            pickler.dump(value)
            return file.getvalue(), pickler.large

    def _broadcast(self, value: Any) -> BroadcastRef[T]:
        refs = self._refs.get(id(value))
        if refs is None:
            refs = self._refs[id(value)] = BroadcastRef(value, self._send(value))
        return refs

    def _retain(self, objects: Collection[Any], refs: Sequence[BroadcastRef[T]]) -> None:
        """Retain the references as long as another unit has one of the objects as an argument."""
        if self._uses is None:
            self._uses = Counter(id(found) for node in self._graph for found in self._objects(node))
        for number in map(id, objects):
            self._uses[number] -= 1
            if self._uses[number] > 0:
                self._retained[number] = refs
            else:
                self._retained.pop(number, None)
                self._prepickled.pop(number, None)


def _nodes(unit: Unit) -> Iterator[GraphNode]:
    return (part.node for part in unit.subunits or (unit,))


def large_candidates(
    values: Iterable[Any], threshold: int, seen: set[int] | None = None
) -> Iterator[Any]:
    """The arguments that may be large, and such parts of containers, but not the containers themselves.

    Args:
        values: The arguments.
        threshold: The bytes from which an object is large.
        seen: The ids of containers whose parts were yielded; one that occurs twice is searched once.
    """
    seen = set() if seen is None else seen
    for value in values:
        kind = type(value)
        parts: Collection[Any] = ()
        if kind in _CONTAINERS:
            parts = value
        elif kind is dict:
            parts = value.values()
        elif kind is Container:
            parts = value.parts
        elif kind not in _SMALL and (kind not in _TEXTS or len(value) >= threshold):
            yield value
        if 0 < len(parts) <= _MANY and id(value) not in seen:
            seen.add(id(value))
            yield from large_candidates(parts, threshold, seen)


def is_large(value: Any, threshold: int) -> bool:
    """Tell whether an object is large by its own size."""
    kind = type(value)
    if kind in _WITH_LENGTH:
        return len(value) >= threshold
    return has_size(value) and _nbytes(value) >= threshold


def has_size(value: Any) -> bool:
    """Tell whether an object has its size in bytes."""
    # of the class: a user's `__getattr__` may return anything
    return hasattr(type(value), "nbytes") and type(value) is not memoryview


def _nbytes(value: Any) -> float:
    try:
        return float(value.nbytes if has_size(value) else len(value))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return 0


class _Pickler(Pickler):
    """Replaces large objects by persistent ids, also those that a function refers to."""

    def __init__(
        self,
        file: io.BytesIO,
        keep_buffer: KeepBuffer | None,
        reducers: Reducers | None,
        prepickled: Mapping[int, _Prepickled | None],
        threshold: int,
    ) -> None:
        super().__init__(file, 5, keep_buffer, reducers)
        self._prepickled = prepickled
        self._threshold = threshold
        self._numbers: dict[int, int] = {}
        self.large: list[Any] = []

    def persistent_id(self, obj: Any) -> Any:
        """The number of a large object, or the pickle of an object that was pickled separately."""
        prepickled = self._prepickled.get(id(obj))
        if prepickled is not None:
            return id(obj), prepickled.stream, tuple(prepickled.large)
        if not is_large(obj, self._threshold):
            return None
        number = self._numbers.setdefault(id(obj), len(self.large))
        if number == len(self.large):
            self.large.append(obj)
        return number
