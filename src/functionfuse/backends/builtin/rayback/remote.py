"""What runs in Ray's workers: one function for all nodes, and one actor for all instances of decorated classes."""

from __future__ import annotations

import pickle
import signal
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ray import cloudpickle

from functionfuse.backends.builtin.rayback.carried import carried, opened
from functionfuse.errors import EngineError
from functionfuse.kernel import Outcome, Record, Stateful, Unit, annotate, bind, call, execute
from functionfuse.nodes import Kind
from functionfuse.travel import described, dump_error, make_sendable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functionfuse.graph import Step

__all__ = ["Ended", "InstanceActor", "Packed", "run_unit", "unpack_record"]

#: A unit as it is sent: the pickled function, which many units share, and all else.
Packed = tuple[bytes, bytes]
_SMALL: Final = 100_000  # bytes of a pickled function that a worker keeps unpickled


class Ended(Exception):
    """Carries what a node raised that is no `Exception`: Ray would take it for the end of the worker."""

    def __init__(self, error: BaseException) -> None:  # noqa: D107
        super().__init__(error)
        self.error = error


def run_unit(code: bytes, packed: bytes, *inputs: Any) -> tuple[Any, bytes]:
    """Run a unit; gives the value as it is sent, and the pickled record.

    Args:
        code: The pickled function of the step.
        packed: The rest of the unit.
        inputs: The values of the step's parents.
    """
    with _sending_errors():
        unit = _unpacked(code, packed)
        with _naming(unit):
            values = _opened(inputs)
        outcome = execute(unit, values)
        return carried(outcome.value), _pack_record(outcome.record)


class InstanceActor:
    """Keeps one instance; its calls come in the order in which they were written."""

    def __init__(self) -> None:  # noqa: D107 - the instance is made by a call, whose failure is then that of its node
        self._instance: Any = None

    def run(
        self,
        code: bytes,
        packed: bytes,
        leave: bool,  # noqa: FBT001 - Ray's actors take what comes by position fastest
        _before: bytes | None,
        *inputs: Any,
    ) -> tuple[Any, bytes]:
        """Make the instance, or call a method of it.

        Args:
            code: The pickled constructor or method.
            packed: The rest of the unit.
            leave: Somebody else takes the instance as this call leaves it.
            _before: The record of the call before: where that failed, Ray does not make this one.
            inputs: The values of the step's parents; None for the one that stands only for the instance.
        """
        with _sending_errors():
            unit = _unpacked(code, packed)
            with _naming(unit):
                values = _opened(inputs)
            if unit.step.kind is Kind.CONSTRUCT:
                outcome = execute(unit, values)
                self._instance = outcome.value.state
            else:
                outcome = self._call(unit, values)
            left = self._instance if leave else None
            return carried(Stateful(left, outcome.value.value)), _pack_record(outcome.record)

    def _call(self, unit: Unit, values: Sequence[Any]) -> Outcome:
        with _naming(unit):
            args, kwargs = bind(unit._replace(step=unit.step._replace(state=None)), values)
        return call(unit, (self._instance, *args), kwargs)


# ---- units ----


def pack(function: Any) -> bytes:
    """A function as it is sent."""
    data: bytes = cloudpickle.dumps(function)
    return data


def pack_unit(unit: Unit) -> bytes:
    """A unit as it is sent, without its function."""
    data: bytes = cloudpickle.dumps(unit._replace(step=unit.step._replace(func=_elsewhere)))
    return data


def _elsewhere() -> None:
    """Stand where the function of a step was."""


def _unpacked(code: bytes, packed: bytes) -> Unit:
    try:
        function = (_kept if len(code) < _SMALL else cloudpickle.loads)(code)
        unit: Unit = cloudpickle.loads(packed)
    except Exception as error:
        message = (
            f"the worker cannot make the node again out of what it was sent: {described(error)}. "
            "A module that workers cannot import travels by "
            "ray_init_args={'runtime_env': {'working_dir': '.'}}, or is installed on every machine of the cluster"
        )
        raise EngineError(message) from error
    step: Step = unit.step._replace(func=function)
    return unit._replace(step=step)


@lru_cache(maxsize=1024)
def _kept(code: bytes) -> Any:
    return cloudpickle.loads(code)


def _opened(inputs: Sequence[Any]) -> list[Any]:
    return [opened(value) for value in inputs]


# ---- records ----


def _pack_record(record: Record) -> bytes:
    return pickle.dumps(record)


def unpack_record(data: bytes) -> Record:
    """A record as it was before it was sent."""
    record: Record = pickle.loads(data)
    return record


# ---- errors ----


@contextmanager
def _naming(unit: Unit) -> Iterator[None]:
    """Say on what is raised in this block which node it belongs to."""
    try:
        yield
    except BaseException as error:
        annotate(error, unit.step, unit.workflow)
        raise


@contextmanager
def _sending_errors() -> Iterator[None]:
    """Let everything that is raised arrive where the workflow runs, and let nobody interrupt what has started."""
    with _uninterrupted():
        try:
            yield
        except Exception as error:
            sent = _sendable(error)
            if sent is error:
                raise
            raise sent from error
        except BaseException as error:
            raise Ended(_sendable(error)) from error


def _sendable(error: BaseException) -> BaseException:
    make_sendable(error)
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        stand_in: BaseException = pickle.loads(dump_error(error))
        return stand_in
    return error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore interrupts: `ray.cancel` sends them to what runs, while it shall only take back what does not.

    Elsewhere than in the main thread there are none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
