"""Large objects that several nodes take: each is sent once in a run, and the nodes' units refer to it.

An object is known by its identity, so what nodes are given twice is one object, and equal ones are two.
Whether it is large is told by its size, or by its pickle where it tells no size; then that is made once.
"""

from __future__ import annotations

import io
import pickle
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

__all__ = ["BroadcastRef", "Broadcaster", "PickleFunction", "unpickle"]

T = TypeVar("T")
_MANY: Final = 100  # parts of a container from which on none of them is looked at by itself
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})
_TEXTS: Final = frozenset({str, bytes})
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
    """A large object, and what stands for it in an engine."""

    value: Any  # kept, so that its id stays its own
    sent: T


class PickleFunction(Protocol[T]):
    """Pickles something, see `Broadcaster.pickle_value`."""

    def __call__(
        self, value: Any, keep_buffer: KeepBuffer | None, /
    ) -> tuple[bytes, Sequence[BroadcastRef[T]]]:
        """Give the bytes, and what is not in them."""


@dataclass(frozen=True, slots=True)
class _Prepickled:
    """An object that was pickled by itself."""

    value: Any  # kept, so that its id stays its own
    stream: bytes
    large: Sequence[Any]  # what is large by itself, and not in the stream

    @property
    def nbytes(self) -> float:
        return len(self.stream) + sum(map(_nbytes, self.large))


class Broadcaster(Generic[T]):
    """Pickles the units of a run, and has what is large in them sent once."""

    def __init__(
        self,
        graph: Graph,
        send: Callable[[Any], T],
        threshold: int,
        reducers: Reducers | None = None,
    ) -> None:
        """Begin a run.

        Args:
            graph: What is run: after the last step that takes an object, the object is let go.
            send: Sends an object, and gives what stands for it.
            threshold: The bytes from which on an object is large.
            reducers: How objects of some types are pickled, as in `copyreg.dispatch_table`.
        """
        self._graph = graph
        self._send = send
        self._threshold = threshold
        self._reducers = reducers
        self._refs: WeakValueDictionary[int, BroadcastRef[T]] = WeakValueDictionary()
        self._prepickled: dict[int, _Prepickled | None] = {}  # None: it is small
        self._uses: Counter[int] | None = None  # units to come that take an object, by its id
        self._retained: dict[int, Sequence[BroadcastRef[T]]] = {}  # for those units

    def applies_to(self, unit: Unit) -> bool:
        """Tell whether a unit takes anything that may be large."""
        return any(True for node in _nodes(unit) for _ in self._objects(node))

    def pickle_value(
        self, value: Any, unit: Unit, keep_buffer: KeepBuffer | None
    ) -> tuple[bytes, Sequence[BroadcastRef[T]]]:
        """Pickle what travels for a unit; gives that, and what `unpickle` needs beside it.

        Args:
            value: What travels.
            unit: The unit.
            keep_buffer: Takes the buffers that shall not be in the bytes; those for which it returns None.
        """
        with self.pickling(unit) as pickle_value:
            return pickle_value(value, keep_buffer)

    @contextmanager
    def pickling(self, unit: Unit) -> Iterator[PickleFunction[T]]:
        """Pickle several things that travel for a unit, each by a call of what this gives, as of `pickle_value`."""
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
        """Keep nothing: the run is over, and some units may never have come."""
        self._retained.clear()
        self._prepickled.clear()

    def _objects(self, node: GraphNode) -> Iterator[Any]:
        return _objects((*node.args, *node.kwargs.values()), self._threshold)

    def _measure(self, value: Any) -> None:
        """Pickle an object by itself if it does not tell how large it is."""
        if id(value) in self._prepickled or type(value) in _TEXTS or _has_size(value):
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
        """Keep what was sent as long as another unit takes one of the objects."""
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


def _objects(values: Iterable[Any], threshold: int) -> Iterator[Any]:
    """The objects among arguments that may be large: also those in containers, but not the containers."""
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
        if 0 < len(parts) <= _MANY:
            yield from _objects(parts, threshold)


def _is_large(value: Any, threshold: int) -> bool:
    kind = type(value)
    if kind in _TEXTS or kind is bytearray:
        return len(value) >= threshold
    return _has_size(value) and _nbytes(value) >= threshold


def _has_size(value: Any) -> bool:
    # its class: an object may give anything when it is asked for what it has not
    return hasattr(type(value), "nbytes") and type(value) is not memoryview


def _nbytes(value: Any) -> float:
    try:
        return float(value.nbytes if _has_size(value) else len(value))
    except Exception:  # noqa: BLE001 - not known, then
        return 0


class _Pickler(Pickler):
    """Leaves large objects out, wherever they are: among the arguments, or what a function refers to."""

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
        """A number for a large object; for one that was pickled by itself also that, in which the rest is as here."""
        prepickled = self._prepickled.get(id(obj))
        if prepickled is not None:
            return id(obj), prepickled.stream, tuple(prepickled.large)
        if not _is_large(obj, self._threshold):
            return None
        number = self._numbers.setdefault(id(obj), len(self.large))
        if number == len(self.large):
            self.large.append(obj)
        return number


def unpickle(
    stream: bytes, open_large: Callable[[int], Any], buffers: Iterable[Any] | None = None
) -> Any:
    """What was packed.

    Args:
        stream: The bytes.
        open_large: Gives one of the large objects that are not in them.
        buffers: Those that are not in them.
    """
    return _Unpickler(stream, open_large, buffers).load()


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, stream: bytes, open_large: Callable[[int], Any], buffers: Iterable[Any] | None
    ) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._open_large = open_large
        self._loaded: dict[Any, Any] = {}  # what is one object stays one

    def persistent_load(self, pid: Any) -> Any:
        numbered = type(pid) is int
        key = numbered, pid if numbered else pid[0]
        if key not in self._loaded:
            self._loaded[key] = self._open_large(pid) if numbered else _load_prepickled(*pid)
        return self._loaded[key]


def _load_prepickled(_: int, stream: bytes, large: Sequence[Any]) -> Any:
    return unpickle(stream, large.__getitem__)
