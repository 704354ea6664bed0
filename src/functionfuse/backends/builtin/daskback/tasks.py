"""Tasks on Dask's workers: pickled units, their execution, their records and exceptions."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

from dask.sizeof import sizeof
from distributed import WorkerPlugin, get_worker

from functionfuse._common import pickler
from functionfuse._kernel.kernel import execute
from functionfuse._kernel.units import GroupResult, InstanceResult
from functionfuse._transport.broadcast import unpickle
from functionfuse._transport.exceptions import (
    ExceptionEnvelope,
    PickledException,
    describe_exception,
    pickle_exception,
)
from functionfuse.backends.builtin.daskback._compat import add_plugin, current_key, plugin_of
from functionfuse.backends.builtin.daskback.picklability import check_picklable
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Worker

    from functionfuse._kernel.units import Unit
    from functionfuse._transport.broadcast import Broadcaster, BroadcastRef

__all__ = [
    "PickledValue",
    "TaskExceptionEnvelope",
    "hold",
    "pickle_unit",
    "pickle_value",
    "run_unit",
    "unwrapped",
]

T = TypeVar("T")


# ---- units, from the client ----


class PickledValue:
    """A value that the client pickled once.

    Dask passes it on without unpickling it, so its scheduler needs none of the user's modules.
    """

    __slots__ = ("_buffers", "_stream")

    def __init__(self, stream: bytes, buffers: Sequence[Any]) -> None:  # noqa: D107
        self._stream = stream
        self._buffers = buffers

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return len(self._stream) + sum(memoryview(buffer).nbytes for buffer in self._buffers)

    def open(self, literals: Sequence[PickledValue] = ()) -> Any:
        """Unpickle the value, in memory that no other value shares.

        Args:
            literals: The broadcast objects that the value refers to.
        """
        return unpickle(
            self._stream, lambda number: literals[number].open(), map(bytearray, self._buffers)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return PickledValue, (self._stream, tuple(map(pickle.PickleBuffer, self._buffers)))


def pickle_value(value: Any) -> PickledValue:
    """Pickle a value."""
    buffers = list[pickle.PickleBuffer]()
    stream = pickler.dumps(value, protocol=5, buffer_callback=buffers.append)
    return PickledValue(stream, [buffer.raw() for buffer in buffers])


def pickle_unit(
    unit: Unit, broadcaster: Broadcaster[T]
) -> tuple[PickledValue, Sequence[BroadcastRef[T]]]:
    """Pickle a unit; returns also the broadcast objects that it refers to."""
    buffers = list[pickle.PickleBuffer]()
    stream, refs = broadcaster.pickle_value(unit, unit, buffers.append)
    return PickledValue(stream, [buffer.raw() for buffer in buffers]), refs


# ---- on the worker ----


def hold(pickled: PickledValue) -> PickledValue:
    """Return a pickled value: as the result of a task, it is computed again when its worker dies."""
    return pickled


def run_unit(topic: str, run: str, pickled: PickledValue, literals: int, *inputs: Any) -> Any:
    """Run a unit and send its record to the client as an event, an empty one if it failed.

    Args:
        topic: The topic that the client listens to.
        run: The name of the run.
        pickled: The unit.
        literals: How many of the inputs are broadcast objects; the others are the values of its parents.
        inputs: The results of the futures among the arguments.

    Raises:
        TaskExceptionEnvelope: The unit failed, whatever it raised.
    """
    worker = get_worker()
    key = current_key()
    try:
        unit = _unpickle_unit(pickled, inputs[:literals])
        value, record = execute(unit, [*map(unwrapped, inputs[literals:])])
        if not worker.address.startswith("inproc:"):
            check_picklable(unit, value)
    except BaseException as error:  # noqa: BLE001 - the node's own
        failed = TaskExceptionEnvelope(pickle_exception(error, with_traceback=False), key)
        failed.__traceback__ = error.__traceback__  # Dask transports its last frames
    else:
        _report(worker, key, topic, (run, key, pickle.dumps(record)))
        return _OpaqueContainer(value) if type(value) in _CONTAINERS else value
    _report(worker, key, topic, (run, key, b""))
    raise failed  # here, where the node's exception is no context of it: Dask would pickle that too


def _unpickle_unit(pickled: PickledValue, literals: Sequence[PickledValue]) -> Unit:
    try:
        unit: Unit = pickled.open(literals)
    except Exception as error:
        message = (
            f"a worker cannot make the node again that it was sent ({describe_exception(error)}): "
            "its modules must be installed there, or be sent with Client.upload_file"
        )
        raise EngineError(message) from error
    return unit


# ---- results and exceptions, to the client ----

_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})


@dataclass(frozen=True, slots=True)
class _OpaqueContainer:
    """A container that is one pickle: Dask would pickle its parts separately, and one object twice."""

    value: Any


def unwrapped(value: Any) -> Any:
    """The value of a unit, without an opaque container around it."""
    return value.value if type(value) is _OpaqueContainer else value


_MAX_SUMMARY: Final = (
    1_000  # characters on the dashboard; Dask replaces exceptions with long messages
)


class TaskExceptionEnvelope(ExceptionEnvelope):
    """An envelope that names the Dask task in which the exception was raised."""

    def __init__(self, content: PickledException, key: str) -> None:  # noqa: D107
        super().__init__(content)
        self.args = content, key

    @property
    def key(self) -> str:
        """The key of the task."""
        key: str = self.args[1]
        return key

    def __str__(self) -> str:
        return super().__str__()[:_MAX_SUMMARY]

    def __repr__(self) -> str:
        return f"<{self}>"


def _report(worker: Worker, key: str, topic: str, message: Any) -> None:
    """Send a message to the client before the scheduler reports that the task is done."""
    messenger = plugin_of(worker, _EventPlugin.name)
    if isinstance(messenger, _EventPlugin):
        messenger.messages[key] = topic, message
        return
    worker.log_event(topic, message)
    with _adding:
        if worker not in _workers:
            _workers.add(worker)
            add_plugin(worker, _EventPlugin())


class _EventPlugin(WorkerPlugin):
    """Sends an event in the same packet as the report that its task is done.

    Workers send packets some milliseconds apart: an event in a packet of its own would delay that report.
    """

    name = "functionfuse-messenger"

    def __init__(self) -> None:
        self.messages: dict[str, tuple[str, Any]] = {}

    def setup(self, worker: Worker) -> None:
        self._worker = worker

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:  # noqa: ARG002
        if key in self.messages and finish != "executing":
            topic, message = self.messages.pop(key)
            if finish in {"memory", "error"}:
                self._worker.log_event(topic, message)


_adding: Final = Lock()
_workers: Final[WeakSet[Worker]] = WeakSet()


# ---- sizes, for Dask's memory management ----

sizeof.register(PickledValue, lambda pickled: pickled.nbytes)
sizeof.register(_OpaqueContainer, lambda whole: sizeof(whole.value))
sizeof.register(InstanceResult, lambda value: sizeof(value.state) + sizeof(value.value))
sizeof.register(GroupResult, lambda value: sum(map(sizeof, value.values.values())))
