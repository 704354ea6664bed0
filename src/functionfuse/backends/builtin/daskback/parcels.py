"""What travels to a worker, and what is done with it there."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
from dask.sizeof import sizeof
from distributed import get_worker
from distributed.protocol.serialize import serialize

from functionfuse.errors import EngineError
from functionfuse.kernel import Stateful, Together, execute
from functionfuse.nodes import ATOMS
from functionfuse.travel import described, dump_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from functionfuse.kernel import Unit

__all__ = ["NodeFailed", "Parcel", "give", "pack", "run_unit"]

_LARGE: Final = 1_000_000  # bytes from which on a literal travels once, for all nodes that take it


# ---- going there ----


class Parcel:
    """Something that was pickled once, by the client.

    Schedulers hand it on as it is: they look into nothing, and need none of the user's modules.
    """

    __slots__ = ("_buffers", "_stream")

    def __init__(self, stream: bytes, buffers: Sequence[Any]) -> None:  # noqa: D107
        self._stream = stream
        self._buffers = buffers

    @property
    def nbytes(self) -> int:
        """How large it is."""
        return len(self._stream) + sum(memoryview(buffer).nbytes for buffer in self._buffers)

    def open(self, literals: Sequence[Parcel] = ()) -> Any:
        """Make what it holds, anew and for the caller alone.

        Args:
            literals: The parcels of the large objects that are not in it.
        """
        buffers = map(bytearray, self._buffers)
        if not literals:
            return pickle.loads(self._stream, buffers=buffers)
        return _Unpickler(self._stream, buffers, literals).load()

    def __reduce__(self) -> tuple[Any, ...]:
        return Parcel, (self._stream, tuple(map(pickle.PickleBuffer, self._buffers)))


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: bytes, buffers: Iterable[Any], literals: Sequence[Parcel]) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._literals = literals
        self._made: dict[int, Any] = {}

    def persistent_load(self, pid: Any) -> Any:
        if pid not in self._made:
            self._made[pid] = self._literals[pid].open()
        return self._made[pid]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Leaves large objects out, wherever they are: among the arguments, or what a function refers to."""

    def __init__(self, keep: Callable[[Any], int], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._keep = keep

    def persistent_id(self, obj: Any) -> int | None:
        return self._keep(obj) if _is_large(obj) else None


def _is_large(obj: Any) -> bool:
    kind = type(obj)
    if kind is bytes or kind is bytearray or kind is str:
        return len(obj) >= _LARGE
    # of the class: an object may give anything when it is asked for what it has not
    return hasattr(kind, "nbytes") and kind is not memoryview and _nbytes(obj) >= _LARGE


def _nbytes(obj: Any) -> float:
    try:
        return float(obj.nbytes)
    except Exception:  # noqa: BLE001 - not known, then
        return 0


def pack(value: Any, literals: list[Any] | None = None) -> Parcel:
    """Pickle something.

    Args:
        value: What to pickle.
        literals: Takes the large objects in it, which are left out then.
    """
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    options: dict[str, Any] = {"protocol": 5, "buffer_callback": buffers.append}
    if literals is None:
        pickler = cloudpickle.Pickler(file, **options)
    else:
        numbers: dict[int, int] = {}

        def keep(obj: Any) -> int:
            if id(obj) not in numbers:
                numbers[id(obj)] = len(literals)
                literals.append(obj)
            return numbers[id(obj)]

        pickler = _Pickler(keep, file, **options)
    pickler.dump(value)
    return Parcel(file.getvalue(), [buffer.raw() for buffer in buffers])


# ---- there ----


def give(parcel: Parcel) -> Parcel:
    """Have a parcel: a task like any other, so a worker that dies does not take it along for good."""
    return parcel


def run_unit(topic: str, run: str, parcel: Parcel, literals: int, *inputs: Any) -> Any:
    """Run a unit; its record goes to the client as an event, which comes before the news that the task is done.

    Args:
        topic: The topic that the client listens to.
        run: What the client calls its run.
        parcel: The unit.
        literals: How many of the inputs are large literals; the others are its parents' values.
        inputs: What Dask puts in for the futures.

    Raises:
        NodeFailed: Whatever went wrong, as something that surely arrives.
    """
    worker = get_worker()
    try:
        unit = _opened(parcel, inputs[:literals])
        value, record = execute(unit, inputs[literals:])
        if not worker.address.startswith("inproc:"):
            _check_sendable(unit, value)
    except BaseException as error:  # noqa: BLE001 - the node's own
        failed = NodeFailed(described(error)[:_SUMMARY], dump_error(error))
        # Dask carries a traceback, of which this is the end
        raise failed.with_traceback(error.__traceback__) from None
    worker.log_event(topic, (run, worker.get_current_task(), pickle.dumps(record)))
    return value


def _opened(parcel: Parcel, literals: Sequence[Parcel]) -> Unit:
    try:
        unit: Unit = parcel.open(literals)
    except Exception as error:
        message = (
            f"a worker cannot make the node again that it was sent ({described(error)}): "
            "its modules must be installed there, or be sent with Client.upload_file"
        )
        raise EngineError(message) from error
    return unit


def _check_sendable(unit: Unit, value: Any) -> None:
    """See now that a value can go to other workers: on the way, it would be an endless attempt."""
    for name, part in _parts(unit, value):
        if type(part) not in ATOMS and (reason := _why_not_sent(part)):
            message = (
                f"the result of node {name!r} cannot be sent to other workers ({reason}): "
                "return something that can be pickled"
            )
            raise EngineError(message)


def _parts(unit: Unit, value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind is Together:
        names = {part.step.number: part for part in unit.parts}
        for number, own in value.values.items():
            yield from _parts(names[number], own)
    elif kind is Stateful:
        yield unit.step.name, value.value
        yield unit.step.name, value.state
    else:
        yield unit.step.name, value


def _why_not_sent(value: Any) -> str:
    try:
        cloudpickle.Pickler(_Nowhere(), protocol=5, buffer_callback=_aside).dump(value)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        try:  # what has no pickle, but a way of Dask's own
            serialize(value, serializers=("dask",), on_error="raise")
        except Exception:  # noqa: BLE001 - as above
            return described(error)
    return ""


class _Nowhere:
    """A file that keeps nothing."""

    @staticmethod
    def write(data: Any) -> int:
        return len(data)


def _aside(_: Any) -> None:
    """Take a buffer, so that it is not copied."""


# ---- coming back ----

_SUMMARY: Final = 1_000  # characters of what the dashboard shows


class NodeFailed(Exception):
    """Carries an exception as bytes: Dask cuts long ones, and replaces those that cannot be made again."""

    def __init__(self, summary: str, error: bytes) -> None:  # noqa: D107
        super().__init__(summary, error)
        self.summary = summary
        self.error = error

    def __str__(self) -> str:
        return self.summary

    def __repr__(self) -> str:
        return f"<{self.summary}>"


# ---- what they weigh, for Dask's memory management ----

sizeof.register(Parcel, lambda parcel: parcel.nbytes)
sizeof.register(Stateful, lambda value: sizeof(value.state) + sizeof(value.value))
sizeof.register(Together, lambda value: sum(map(sizeof, value.values.values())))
