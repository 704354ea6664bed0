"""Envelopes of arguments and outcomes of task runs: pickled once, and unpickled in the function that uses them.

Schedulers pass the bytes on, so they need none of the user's modules:
a worker of Dask that does not find one loses its connection, and the run waits without end.
Each value is unpickled into its own memory: arrays that Ray returns are read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from prefect.utilities.annotations import opaque, quote

from functionfuse._transport.exceptions import unpickle_error
from functionfuse._transport.pickled_value import PickledValue, pickle_value, pickle_with

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Sequence

    from functionfuse._kernel.units import Outcome
    from functionfuse._transport.broadcast import BroadcastRef, PickleFunction

__all__ = ["OpaqueResult", "opaque_argument", "pickle_argument"]


def pickle_argument(value: Any, pack: PickleFunction[PickledValue]) -> PickledValue:
    """Pickle an argument.

    Args:
        value: The argument.
        pack: Pickles it without the broadcast objects in it.
    """
    refs: Sequence[BroadcastRef[PickledValue]] = ()

    def dump(keep_buffer: Callable[[pickle.PickleBuffer], bool]) -> bytes:
        nonlocal refs
        stream, refs = pack(value, keep_buffer)
        return stream

    pickled = pickle_with(dump)
    return pickled.with_refs([each.sent for each in refs])


class OpaqueArgument(quote):  # type: ignore[misc]
    """An argument in which Prefect does not search for results of other tasks.

    The search takes seconds in a list of a million numbers, and finds dependencies that do not exist:
    an object counts as the result of the task that returned the identical one.
    The argument can be removed: Prefect keeps the contexts of task runs until the server has recorded them.
    """

    __slots__ = ()

    def unwrap(self) -> Any:
        """The argument that the function gets from Prefect.

        Raises:
            EngineError: It cannot be unpickled here.
        """
        value = self[0][0]
        if type(value) is not PickledValue:
            return value
        try:
            return value.open()
        except Exception as error:
            what, remedy = "an argument", "the modules of its type must be installed there"
            raise unpickle_error(what, error, remedy) from error

    def rewrap(self, value: Any) -> OpaqueArgument:
        return OpaqueArgument([value])

    def empty(self) -> None:
        """Release the argument."""
        self[0].clear()

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect's own annotations come back wrapped once more
        content = [
            value if type(value) in {OpaqueArgument, PickledValue} else pickle_value(value)
            for value in self[0]
        ]
        return OpaqueArgument, (content,)


class OpaqueResult(opaque):  # type: ignore[misc]
    """An outcome in which Prefect does not search for results of other tasks.

    The outcome can be removed: Prefect keeps the contexts of task runs until the server has recorded them.
    """

    __slots__ = ()

    def take(self) -> Outcome:
        """Remove and return the outcome.

        Raises:
            EngineError: It cannot be unpickled here.
        """
        outcome: Any = self[0].pop()
        return cast("Outcome", outcome.open() if type(outcome) is PickledValue else outcome)

    def __reduce__(self) -> tuple[Any, ...]:
        content = [
            outcome if type(outcome) is PickledValue else pickle_value(outcome, what=_what(outcome))
            for outcome in self[0]
        ]
        return OpaqueResult, (content,)


def _what(outcome: Outcome) -> str:
    return f"the result of node {outcome.record.name!r}"


def opaque_argument(value: Any, depth: int) -> Any:
    """Wrap an argument.

    Args:
        value: The argument.
        depth: How often Prefect unwraps it on its way to the function.
    """
    for _ in range(depth):
        value = OpaqueArgument([value])
    return value
