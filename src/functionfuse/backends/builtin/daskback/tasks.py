"""Tasks on Dask's workers: pickled units, their execution, their records and exceptions."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

from dask.sizeof import sizeof
from distributed import WorkerPlugin, get_worker
from distributed.protocol.serialize import dask_deserialize, dask_serialize

from functionfuse._graph.nodes import ATOMS
from functionfuse._kernel.annotations import add_node_note
from functionfuse._kernel.kernel import execute
from functionfuse._kernel.units import GroupResult, InstanceResult
from functionfuse._transport.exceptions import (
    ExceptionEnvelope,
    PickledException,
    describe_exception,
    pickle_exception,
    unpickle_error,
)
from functionfuse._transport.pickled_value import (
    CopyPolicy,
    PickledValue,
    pickle_value,
    pickle_with,
)
from functionfuse.backends.builtin.daskback._compat import add_plugin, current_key, plugin_of
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Worker

    from functionfuse._kernel.units import Unit
    from functionfuse._transport.broadcast import Broadcaster, BroadcastRef

__all__ = [
    "TaskExceptionEnvelope",
    "hold",
    "pickle_unit",
    "run_unit",
    "unwrap",
]

T = TypeVar("T")


# ---- units, from the client ----


def pickle_unit(
    unit: Unit, broadcaster: Broadcaster[T]
) -> tuple[PickledValue, Sequence[BroadcastRef[T]]]:
    """Pickle a unit; returns also the broadcast objects that it refers to."""
    refs: Sequence[BroadcastRef[T]] = ()

    def dump(keep_buffer: Callable[[pickle.PickleBuffer], bool]) -> bytes:
        nonlocal refs
        stream, refs = broadcaster.pickle_value(unit, unit, keep_buffer)
        return stream

    return pickle_with(dump), refs


# ---- on the worker ----


def hold(pickled: PickledValue) -> PickledValue:
    """Return a pickled value: Dask repeats the task when its worker dies, so the value is not lost."""
    return pickled


def run_unit(
    topic: str, run: str, name: str, pickled: PickledValue, literals: int, *inputs: Any
) -> Any:
    """Run a unit and send its record to the client as an event, an empty one if it failed.

    Args:
        topic: The topic that the client listens to.
        run: The name of the run.
        name: The name of the unit's node.
        pickled: The unit.
        literals: How many of the inputs are broadcast objects; the others are the values of its parents.
        inputs: The results of the futures among the arguments.

    Raises:
        TaskExceptionEnvelope: The unit failed with any exception.
    """
    worker = get_worker()
    key = current_key()
    try:
        unit = _unpickle_unit(name, pickled, inputs[:literals])
        value, record = execute(unit, _unwrap_inputs(unit, inputs[literals:]))
        wrapped = _wrap_result(unit, value, in_process=worker.address.startswith("inproc:"))
    except BaseException as error:  # noqa: BLE001 - the node's own
        # with the traceback as text: Dask would pickle each frame, without end for a runaway recursion
        failed = TaskExceptionEnvelope(pickle_exception(error, with_traceback=True), key)
    else:
        _report(worker, key, topic, (run, key, pickle.dumps(record)))
        return wrapped
    _report(worker, key, topic, (run, key, b""))
    raise failed  # outside of the except block, or Dask would pickle the node's exception as its context, too


def _unpickle_unit(name: str, pickled: PickledValue, literals: Sequence[PickledValue]) -> Unit:
    try:
        unit: Unit = pickled.open(literals)
    except Exception as error:
        what = f"node {name!r}"
        raise unpickle_error(what, error, _REMEDY) from error
    return unit


_REMEDY: Final = (
    "install the modules of its function and arguments on the workers, or send them with Client.upload_file; "
    "cloudpickle.register_pickle_by_value(module) sends a module's functions themselves"
)


def _unwrap_inputs(unit: Unit, inputs: Sequence[Any]) -> list[Any]:
    try:
        return [*map(unwrap, inputs)]
    except EngineError as error:
        add_node_note(error, unit.node, unit.workflow)
        raise


# ---- results and exceptions, to the client ----


@dataclass(frozen=True, slots=True)
class _PickledResult:
    """A pickled value that Dask sends as frames: its scheduler pickles messages without buffers."""

    pickled: PickledValue


def _to_frames(result: _PickledResult) -> tuple[dict[str, Any], list[Any]]:
    header, frames = result.pickled.to_frames()
    return {"header": header}, frames


def _from_frames(header: dict[str, Any], frames: list[Any]) -> _PickledResult:
    return _PickledResult(PickledValue.from_frames(header["header"], frames))


@dataclass(frozen=True, slots=True)
class _OpaqueValue:
    """A value that stays in the process of the cluster and the client, where nothing is pickled."""

    value: Any


def _wrap_result(unit: Unit, value: Any, *, in_process: bool) -> Any:
    """Pickle a unit's value for Dask, so that a value that cannot be pickled fails this node.

    Nodes on one worker share its buffers, as all tasks of Dask do.
    """
    if type(value) in ATOMS:
        return value
    if in_process:
        return _OpaqueValue(value)
    what = f"the result of node {unit.node.name!r}"
    try:
        return _PickledResult(pickle_value(value, CopyPolicy.SHARE, what))
    except Exception as error:
        message = (
            f"the result of node {_unpicklable(unit, value)!r} cannot be sent to other workers "
            f"({describe_exception(error)}): return something that can be pickled"
        )
        raise EngineError(message) from error


def _unpicklable(unit: Unit, value: Any) -> str:
    """The name of the node whose value cannot be pickled."""
    if type(value) is GroupResult:
        names = {part.node.number: part.node.name for part in unit.subunits}
        for number, own in value.values.items():
            try:
                pickle_value(own)
            except Exception:  # noqa: BLE001 - whatever the user's classes raise
                return names[number]
    return unit.node.name


def unwrap(value: Any) -> Any:
    """The value of a unit, without the wrapper that `run_unit` returned.

    Raises:
        EngineError: It cannot be unpickled here.
    """
    if type(value) is _PickledResult:
        return value.pickled.open()
    return value.value if type(value) is _OpaqueValue else value


#: Characters on the dashboard; Dask replaces exceptions with long messages.
_MAX_SUMMARY: Final = 1_000


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


# ---- frames, and sizes for Dask's memory management ----

dask_serialize.register(_PickledResult, _to_frames)
dask_deserialize.register(_PickledResult, _from_frames)

sizeof.register(PickledValue, lambda pickled: pickled.nbytes)
sizeof.register(_PickledResult, lambda result: result.pickled.nbytes)
sizeof.register(_OpaqueValue, lambda whole: _sizeof(whole.value))


def _sizeof(value: Any) -> int:
    if type(value) is InstanceResult:
        return _sizeof(value.state) + _sizeof(value.value)
    if type(value) is GroupResult:
        return sum(map(_sizeof, value.values.values()))
    return int(sizeof(value))
