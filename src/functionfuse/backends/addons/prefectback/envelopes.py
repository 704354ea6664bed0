"""What travels with a task run to another process: pickled once, and opened only where it is needed.

Schedulers and the like hand it on as it is, so they need none of the user's modules:
Dask's workers lose their connection over one that they do not find, and the run waits for ever.
It also arrives in memory of its own: Ray hands out arrays that nobody may write to.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
from prefect.utilities.annotations import opaque, quote

from functionfuse._transport.broadcast import unpack
from functionfuse._transport.exceptions import described
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functionfuse._kernel.units import Outcome
    from functionfuse._transport.broadcast import Lent, Pack

__all__ = ["Box", "Sealed", "literal", "sealed"]


_OUT_OF_BAND: Final = 5  # the first protocol that knows of buffers


class Sealed:
    """Something that is pickled."""

    __slots__ = ("_buffers", "_lent", "_stream")

    def __init__(
        self, stream: bytes, buffers: Sequence[tuple[Any, bool]], lent: Sequence[Sealed] = ()
    ) -> None:
        """Take a pickle.

        Args:
            stream: The pickle without its buffers.
            buffers: Each with whether its maker made it read-only.
            lent: Large objects that others hold as well, and that are not in the pickle, see `Lending`.
        """
        self._stream = stream
        self._buffers = buffers
        self._lent = lent

    def open(self) -> Any:
        """Make what it holds, anew and in memory of its own."""
        own = [buffer if read_only else bytearray(buffer) for buffer, read_only in self._buffers]
        if self._lent:
            return unpack(self._stream, lambda number: self._lent[number].open(), own)
        return pickle.loads(self._stream, buffers=own)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        as_sent = pickle.PickleBuffer if protocol >= _OUT_OF_BAND else bytes
        buffers = [(as_sent(each), flag) for each, flag in self._buffers]
        return Sealed, (self._stream, buffers, self._lent)


def sealed(value: Any, pack: Pack[Sealed] | None = None) -> Sealed:
    """Pickle something.

    Args:
        value: What is sent.
        pack: Leaves out what others send as well.
    """
    buffers = list[pickle.PickleBuffer]()
    lent: Sequence[Lent[Sealed]] = ()
    if pack is None:
        stream = cloudpickle.dumps(value, protocol=_OUT_OF_BAND, buffer_callback=buffers.append)
    else:
        stream, lent = pack(value, buffers.append)
    views = [buffer.raw() for buffer in buffers]
    return Sealed(stream, [(view, view.readonly) for view in views], [each.sent for each in lent])


class _Literal(quote):  # type: ignore[misc]
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
        if type(value) is not Sealed:
            return value
        try:
            return value.open()
        except Exception as error:
            message = (
                f"an argument cannot be unpickled in a worker ({described(error)}): "
                "the modules of its type must be installed there"
            )
            raise EngineError(message) from error

    def rewrap(self, value: Any) -> _Literal:
        return _Literal([value])

    def empty(self) -> None:
        """Let the argument go."""
        self[0].clear()

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect's own annotations come back wrapped once more
        content = [
            value if type(value) in {_Literal, Sealed} else sealed(value) for value in self[0]
        ]
        return _Literal, (content,)


class Box(opaque):  # type: ignore[misc]
    """An outcome that Prefect hands on without looking into it.

    It can be taken out, since Prefect keeps the box: in the contexts of all that the server has not been told yet.
    """

    __slots__ = ()

    def take(self) -> Outcome:
        """The outcome, which is not in the box any more."""
        outcome: Outcome = self[0].pop()
        return outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (sealed(self[0]),)


def _opened(content: Sealed) -> Box:
    return Box(content.open())


def literal(value: Any, depth: int) -> Any:
    """Wrap an argument.

    Args:
        value: The argument.
        depth: How often Prefect unwraps it on its way to the function.
    """
    for _ in range(depth):
        value = _Literal([value])
    return value
