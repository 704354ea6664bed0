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

import cloudpickle

from functionfuse._graph.graph import Number, Ref
from functionfuse._graph.nodes import ATOMS, Container

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from functionfuse._graph.graph import Graph, Step
    from functionfuse._kernel.units import Unit

    KeepBuffer = Callable[[pickle.PickleBuffer], object]

__all__ = ["Lending", "Lent", "Pack", "unpack"]

T = TypeVar("T")
_MANY: Final = 100  # parts of a container from which on none of them is looked at by itself
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})
_TEXTS: Final = frozenset({str, bytes})
_SMALL: Final = (ATOMS - _TEXTS) | {
    Number,
    Ref,
    type,
    FunctionType,
    BuiltinFunctionType,
    ModuleType,
}


@dataclass(eq=False, slots=True, weakref_slot=True)
class Lent(Generic[T]):
    """A large object, and what stands for it in an engine."""

    value: Any  # kept, so that its id stays its own
    sent: T


class Pack(Protocol[T]):
    """Pickles something, see `Lending.pack`."""

    def __call__(
        self, value: Any, keep_buffer: KeepBuffer | None, /
    ) -> tuple[bytes, Sequence[Lent[T]]]:
        """Give the bytes, and what is not in them."""


@dataclass(frozen=True, slots=True)
class _Apart:
    """An object that was pickled by itself."""

    value: Any  # kept, so that its id stays its own
    stream: bytes
    large: Sequence[Any]  # what is large by itself, and not in the stream

    @property
    def nbytes(self) -> float:
        return len(self.stream) + sum(map(_nbytes, self.large))


class Lending(Generic[T]):
    """Pickles the units of a run, and has what is large in them sent once."""

    def __init__(
        self,
        graph: Graph,
        send: Callable[[Any], T],
        least: int,
        reducers: Mapping[type, Callable[..., Any]] | None = None,
    ) -> None:
        """Begin a run.

        Args:
            graph: What is run: after the last step that takes an object, the object is let go.
            send: Sends an object, and gives what stands for it.
            least: The bytes from which on an object is large.
            reducers: How objects of some types are pickled, as in `copyreg.dispatch_table`.
        """
        self._graph = graph
        self._send = send
        self._least = least
        self._reducers = reducers
        self._lent: WeakValueDictionary[int, Lent[T]] = WeakValueDictionary()
        self._apart: dict[int, _Apart | None] = {}  # None: it is small
        self._uses: Counter[int] | None = None  # units to come that take an object, by its id
        self._kept: dict[int, Sequence[Lent[T]]] = {}  # for those units

    def concerns(self, unit: Unit) -> bool:
        """Tell whether a unit takes anything that may be large."""
        return any(True for step in _steps(unit) for _ in self._objects(step))

    def pack(
        self, value: Any, unit: Unit, keep_buffer: KeepBuffer | None
    ) -> tuple[bytes, Sequence[Lent[T]]]:
        """Pickle what travels for a unit; gives that, and what `unpack` needs beside it.

        Args:
            value: What travels.
            unit: The unit.
            keep_buffer: Takes the buffers that shall not be in the bytes; those for which it returns None.
        """
        with self.packing(unit) as pack:
            return pack(value, keep_buffer)

    @contextmanager
    def packing(self, unit: Unit) -> Iterator[Pack[T]]:
        """Pickle several things that travel for a unit, each by a call of what this gives, as of `pack`."""
        objects = [found for step in _steps(unit) for found in self._objects(step)]
        lent: list[Lent[T]] = []

        def pack(value: Any, keep_buffer: KeepBuffer | None) -> tuple[bytes, Sequence[Lent[T]]]:
            stream, large = self._dump(value, self._apart, keep_buffer)
            found = [self._lend(each) for each in large]
            lent.extend(found)
            return stream, found

        if not unit.load:
            for found in objects:
                self._look_at(found)
        yield pack
        if objects:
            self._keep(objects, lent)

    def end(self) -> None:
        """Keep nothing: the run is over, and some units may never have come."""
        self._kept.clear()
        self._apart.clear()

    def _objects(self, step: Step) -> Iterator[Any]:
        return _objects((*step.args, *step.kwargs.values()), self._least)

    def _look_at(self, value: Any) -> None:
        """Pickle an object by itself if it does not tell how large it is."""
        if id(value) in self._apart or type(value) in _TEXTS or _tells_size(value):
            return
        apart = _Apart(value, *self._dump(value, {}, None))
        self._apart[id(value)] = apart if apart.nbytes >= self._least else None

    def _dump(
        self,
        value: Any,
        apart: Mapping[int, _Apart | None],
        keep_buffer: KeepBuffer | None,
    ) -> tuple[bytes, list[Any]]:
        with io.BytesIO() as file:
            pickler = _Pickler(file, keep_buffer, self._reducers, apart, self._least)
            pickler.dump(value)
            return file.getvalue(), pickler.large

    def _lend(self, value: Any) -> Lent[T]:
        lent = self._lent.get(id(value))
        if lent is None:
            lent = self._lent[id(value)] = Lent(value, self._send(value))
        return lent

    def _keep(self, objects: Collection[Any], lent: Sequence[Lent[T]]) -> None:
        """Keep what was sent as long as another unit takes one of the objects."""
        if self._uses is None:
            self._uses = Counter(id(found) for step in self._graph for found in self._objects(step))
        for number in map(id, objects):
            self._uses[number] -= 1
            if self._uses[number] > 0:
                self._kept[number] = lent
            else:
                self._kept.pop(number, None)
                self._apart.pop(number, None)


def _steps(unit: Unit) -> Iterator[Step]:
    return (part.step for part in unit.parts or (unit,))


def _objects(values: Iterable[Any], least: int) -> Iterator[Any]:
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
        elif kind not in _SMALL and (kind not in _TEXTS or len(value) >= least):
            yield value
        if 0 < len(parts) <= _MANY:
            yield from _objects(parts, least)


def _is_large(value: Any, least: int) -> bool:
    kind = type(value)
    if kind in _TEXTS or kind is bytearray:
        return len(value) >= least
    return _tells_size(value) and _nbytes(value) >= least


def _tells_size(value: Any) -> bool:
    # its class: an object may give anything when it is asked for what it has not
    return hasattr(type(value), "nbytes") and type(value) is not memoryview


def _nbytes(value: Any) -> float:
    try:
        return float(value.nbytes if _tells_size(value) else len(value))
    except Exception:  # noqa: BLE001 - not known, then
        return 0


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Leaves large objects out, wherever they are: among the arguments, or what a function refers to."""

    def __init__(
        self,
        file: io.BytesIO,
        keep_buffer: KeepBuffer | None,
        reducers: Mapping[type, Callable[..., Any]] | None,
        apart: Mapping[int, _Apart | None],
        least: int,
    ) -> None:
        if reducers is not None:
            self.dispatch_table = reducers
        super().__init__(file, 5, keep_buffer)
        self._apart = apart
        self._least = least
        self._numbers: dict[int, int] = {}
        self.large: list[Any] = []

    def persistent_id(self, obj: Any) -> Any:
        """A number for a large object; for one that was pickled by itself also that, in which the rest is as here."""
        apart = self._apart.get(id(obj))
        if apart is not None:
            return id(obj), apart.stream, tuple(apart.large)
        if not _is_large(obj, self._least):
            return None
        number = self._numbers.setdefault(id(obj), len(self.large))
        if number == len(self.large):
            self.large.append(obj)
        return number


def unpack(
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
        self._made: dict[Any, Any] = {}  # what is one object stays one

    def persistent_load(self, pid: Any) -> Any:
        numbered = type(pid) is int
        key = numbered, pid if numbered else pid[0]
        if key not in self._made:
            self._made[key] = self._open_large(pid) if numbered else _opened_apart(*pid)
        return self._made[key]


def _opened_apart(_: int, stream: bytes, large: Sequence[Any]) -> Any:
    return unpack(stream, large.__getitem__)
