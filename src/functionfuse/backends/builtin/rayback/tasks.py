"""Remote function and actor of Ray's workers: one for all nodes, and one for all instances of decorated classes."""

from __future__ import annotations

import pickle
import signal
import struct
import threading
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import ray

from functionfuse._graph.graph import ItemRef, ResultRef
from functionfuse._graph.nodes import ATOMS, Kind
from functionfuse._kernel.annotations import add_node_note
from functionfuse._kernel.binding import bind
from functionfuse._kernel.damage import mark_damage
from functionfuse._kernel.kernel import call, execute
from functionfuse._kernel.units import InstanceResult, Outcome, Unit
from functionfuse._transport.broadcast_unpickler import unpickle
from functionfuse._transport.exceptions import (
    ExceptionEnvelope,
    pickle_exception,
    unpickle_error,
)
from functionfuse.backends.builtin.rayback.envelopes import dumps, unwrap, wrap
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse._transport.broadcast import Broadcaster, BroadcastRef

__all__ = [
    "InstanceActor",
    "RetryableExceptionEnvelope",
    "pickle_unit",
    "run_unit",
]

T = TypeVar("T")
_OMITTED: Final = cast("Any", None)  # a node's function, which is sent separately
#: The number of large objects, and whether arrays are read-only; as bytes, which Ray does not pickle.
_HEAD: Final = struct.Struct("<I?")
_SMALL: Final = 100_000  # bytes of a pickled function that a worker keeps unpickled


class RetryableExceptionEnvelope(ExceptionEnvelope):
    """An envelope of an exception in the node's `retry_exceptions`: Ray repeats the call."""


def run_unit(code: bytes, packed: bytes, *inputs: Any) -> tuple[Any, bytes]:
    """Run a unit; returns the value in its envelope, and the pickled record.

    Args:
        code: The pickled function of the node.
        packed: The rest of the unit.
        inputs: The large objects that the unit takes, and the values of the node's parents.
    """
    return _run(_execute, code, packed, inputs)


class InstanceActor:
    """Keeps one instance; its method calls run in the order in which they were recorded."""

    def __init__(self) -> None:  # noqa: D107 - `run` creates the instance, so that its failure is that of a node
        self._instance: Any = None

    def run(
        self,
        code: bytes,
        packed: bytes,
        return_instance: bool,  # noqa: FBT001 - positional arguments are the fastest with Ray
        _before: bytes | None,
        *inputs: Any,
    ) -> tuple[Any, bytes]:
        """Create the instance, or call a method of it.

        Args:
            code: The pickled constructor or method.
            packed: The rest of the unit.
            return_instance: Other nodes take the instance in its state after this call.
            _before: The record of the previous call: if that failed, Ray does not run this one.
            inputs: The large objects, and the values of the node's parents; None for a parent that is only the instance.
        """

        def call_instance(unit: Unit, values: Sequence[Any]) -> Outcome:
            value, record = self._call(unit, values)
            return Outcome(
                InstanceResult(self._instance if return_instance else None, value), record
            )

        return _run(call_instance, code, packed, inputs)

    def _call(self, unit: Unit, inputs: Sequence[Any]) -> Outcome:
        if unit.node.kind is Kind.CONSTRUCT:
            made, record = _execute(unit, inputs)
            self._instance = made.state
            return Outcome(None, record)
        node = unit.node._replace(state=None)
        try:
            values = dict(zip(node.parents, map(unwrap, inputs), strict=True))
            args, kwargs = bind(node, values.__getitem__, exclusive_instance=False)
        except BaseException as error:
            add_node_note(error, unit.node, unit.workflow)
            mark_damage(error, unit.workflow)
            raise
        left, record = call(unit, (self._instance, *args), kwargs)
        return Outcome(left.value, record)


def _execute(unit: Unit, inputs: Sequence[Any]) -> Outcome:
    try:
        values = [unwrap(value) for value in inputs]
    except EngineError as error:
        add_node_note(error, unit.node, unit.workflow)
        raise
    return execute(unit, values)


def _run(
    body: Callable[[Unit, Sequence[Any]], Outcome],
    code: bytes,
    packed: bytes,
    inputs: Sequence[Any],
) -> tuple[Any, bytes]:
    """Run a function on a unit, without interrupts, and put any exception into an envelope."""
    retried: tuple[type[BaseException], ...] = ()
    _ignore_interrupts()
    try:
        literals, read_only = _HEAD.unpack_from(packed)
        unit, retried = _unpickle_unit(code, packed[_HEAD.size :], inputs[:literals])
        value, record = body(unit, inputs[literals:])
        return wrap(value, _what(unit), read_only=read_only), pickle.dumps(record)
    except BaseException as error:  # noqa: BLE001 - also SystemExit: Ray would end the worker
        kind = RetryableExceptionEnvelope if isinstance(error, retried) else ExceptionEnvelope
        envelope = kind(pickle_exception(error, with_traceback=True))
    raise envelope  # here, where the node's exception is not its context: with tblib, Ray would pickle that too


def _what(unit: Unit) -> str:
    """The name of a unit's value in errors."""
    result = f"the result of node {unit.node.name!r}"
    return result if unit.node.kind is Kind.FUNCTION else f"{result}, or its instance,"


def _ignore_interrupts() -> None:
    """Ignore interrupts by Ray: `ray.cancel` must only cancel tasks that have not started.

    They are also ignored after the function has ended, until Ray has stored its result, which would be lost.
    """
    global _running, _before  # noqa: PLW0603 - a worker runs one task at a time
    _running = ray.get_runtime_context().get_task_id()
    if (
        signal.getsignal(signal.SIGINT) is not _interrupted
        and threading.current_thread() is threading.main_thread()
    ):
        _before = signal.signal(signal.SIGINT, _interrupted)


_running: str | None = None  # the id of the last task of this package
_before: Any = None  # the signal handler for other tasks


def _interrupted(number: int, frame: Any) -> None:
    if ray.get_runtime_context().get_task_id() != _running and callable(_before):
        _before(number, frame)


# ---- units ----


def pickle_unit(
    unit: Unit,
    retried: Sequence[type[BaseException]],
    broadcaster: Broadcaster[T],
    *,
    read_only: bool,
) -> tuple[bytes, Sequence[BroadcastRef[T]]]:
    """Pickle a unit without its function; returns also the broadcast objects that it refers to.

    Args:
        unit: The unit.
        retried: The exceptions after which it is retried.
        broadcaster: Sends the large objects.
        read_only: Nodes do not write to the arrays of its value.
    """
    sent = unit._replace(node=unit.node._replace(func=_OMITTED)), tuple(retried)
    if not broadcaster.applies_to(unit):
        head = _HEAD.pack(0, read_only)
        return head + (_plain if _is_plain(unit, retried) else dumps)(sent), ()
    stream, refs = broadcaster.pickle_value(sent, unit, None)
    return _HEAD.pack(len(refs), read_only) + stream, refs


_plain: Final = partial(pickle.dumps, protocol=5)


def _is_plain(unit: Unit, retried: Sequence[type[BaseException]]) -> bool:
    """Tell whether plain `pickle` suffices, which takes a third of the time."""
    node = unit.node
    if (
        unit.storage is not None
        or unit.setup is not None
        or unit.subunits
        or node.kwargs
        or retried
    ):
        return False
    return all(
        type(value) in _PLAIN or (type(value) is ItemRef and not value.path) for value in node.args
    )


_PLAIN: Final = ATOMS | {ResultRef}


def _unpickle_unit(
    code: bytes, stream: bytes, literals: Sequence[Any]
) -> tuple[Unit, tuple[type[BaseException], ...]]:
    try:
        # the unit first: its context extends the path on which the function's module is found
        if literals:
            unit, retried = unpickle(stream, lambda number: unwrap(literals[number]))
        else:
            unit, retried = pickle.loads(stream)
        function = (_cached_loads if len(code) < _SMALL else pickle.loads)(code)
    except Exception as error:
        what = f"node {ray.get_runtime_context().get_task_name()!r}"
        raise unpickle_error(what, error, _REMEDY) from error
    return unit._replace(node=unit.node._replace(func=function)), retried


_REMEDY: Final = (
    "send the modules of its function and arguments with ray_init_args={'runtime_env': {'working_dir': '.'}}, "
    "or install them on every machine of the cluster; "
    "cloudpickle.register_pickle_by_value(module) sends a module's functions themselves"
)


@lru_cache(maxsize=1024)
def _cached_loads(code: bytes) -> Any:
    return pickle.loads(code)
