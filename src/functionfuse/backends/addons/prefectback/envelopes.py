"""What travels with a task run to another process: pickled once, and opened only where it is needed.

Schedulers and the like hand it on as it is, so they need none of the user's modules:
Dask's workers lose their connection over one that they do not find, and the run waits for ever.
It also arrives in memory of its own: Ray hands out arrays that nobody may write to.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

from prefect.utilities.annotations import opaque, quote

from functionfuse._common import pickler
from functionfuse._transport.broadcast import unpickle
from functionfuse._transport.exceptions import describe_exception
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functionfuse._kernel.units import Outcome
    from functionfuse._transport.broadcast import BroadcastRef, PickleFunction

__all__ = ["OpaqueResult", "PickledValue", "opaque_argument", "pickle_value"]


_OUT_OF_BAND: Final = 5  # the first protocol that knows of buffers


class PickledValue:
    """Something that is pickled."""

    __slots__ = ("_buffers", "_refs", "_stream")

    def __init__(
        self, stream: bytes, buffers: Sequence[tuple[Any, bool]], refs: Sequence[PickledValue] = ()
    ) -> None:
        """Take a pickle.

        Args:
            stream: The pickle without its buffers.
            buffers: Each with whether its maker made it read-only.
            refs: Large objects that others hold as well, and that are not in the pickle, see `Broadcaster`.
        """
        self._stream = stream
        self._buffers = buffers
        self._refs = refs

    def open(self) -> Any:
        """Make what it holds, anew and in memory of its own."""
        own = [buffer if read_only else bytearray(buffer) for buffer, read_only in self._buffers]
        if self._refs:
            return unpickle(self._stream, lambda number: self._refs[number].open(), own)
        return pickle.loads(self._stream, buffers=own)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        as_sent = pickle.PickleBuffer if protocol >= _OUT_OF_BAND else bytes
        buffers = [(as_sent(each), flag) for each, flag in self._buffers]
        return PickledValue, (self._stream, buffers, self._refs)


def pickle_value(value: Any, pack: PickleFunction[PickledValue] | None = None) -> PickledValue:
    """Pickle something.

    Args:
        value: What is sent.
        pack: Leaves out what others send as well.
    """
    buffers = list[pickle.PickleBuffer]()
    refs: Sequence[BroadcastRef[PickledValue]] = ()
    if pack is None:
        stream = pickler.dumps(value, protocol=_OUT_OF_BAND, buffer_callback=buffers.append)
    else:
        stream, refs = pack(value, buffers.append)
    views = [buffer.raw() for buffer in buffers]
    return PickledValue(
        stream, [(view, view.readonly) for view in views], [each.sent for each in refs]
    )


class OpaqueArgument(quote):  # type: ignore[misc]
    """An argument that Prefect hands on without looking into it.

    A look costs seconds for a list of a million numbers, and finds dependencies that are none:
    Prefect takes an object for the result of the task that returned the identical one.
    It can be emptied, since Prefect keeps it: in the contexts of all that the server has not been told yet.
    """

    __slots__ = ()

    def unwrap(self) -> Any:
        """What Prefect gives the function.

        Raises:
            EngineError: It cannot be unpickled here.
        """
        value = self[0][0]
        if type(value) is not PickledValue:
            return value
        try:
            return value.open()
        except Exception as error:
            message = (
                f"an argument cannot be unpickled in a worker ({describe_exception(error)}): "
                "the modules of its type must be installed there"
            )
            raise EngineError(message) from error

    def rewrap(self, value: Any) -> OpaqueArgument:
        return OpaqueArgument([value])

    def empty(self) -> None:
        """Let the argument go."""
        self[0].clear()

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect's own annotations come back wrapped once more
        content = [
            value if type(value) in {OpaqueArgument, PickledValue} else pickle_value(value)
            for value in self[0]
        ]
        return OpaqueArgument, (content,)


class OpaqueResult(opaque):  # type: ignore[misc]
    """An outcome that Prefect hands on without looking into it.

    It can be taken out, since Prefect keeps the box: in the contexts of all that the server has not been told yet.
    """

    __slots__ = ()

    def take(self) -> Outcome:
        """The outcome, which is not in the box any more."""
        outcome: Outcome = self[0].pop()
        return outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_result, (pickle_value(self[0]),)


def _restore_result(content: PickledValue) -> OpaqueResult:
    return OpaqueResult(content.open())


def opaque_argument(value: Any, depth: int) -> Any:
    """Wrap an argument.

    Args:
        value: The argument.
        depth: How often Prefect unwraps it on its way to the function.
    """
    for _ in range(depth):
        value = OpaqueArgument([value])
    return value
