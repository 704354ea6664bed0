"""Check on a worker that a result can be pickled: Dask retries a failed transfer for ever."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from functionfuse._graph.nodes import ATOMS
from functionfuse._kernel.units import GroupResult, InstanceResult
from functionfuse._transport.exceptions import describe_exception
from functionfuse.backends.builtin.daskback._compat import has_own_serialization
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functionfuse._kernel.units import Unit

__all__ = ["check_picklable"]

_MAX_TRIED: Final = 1_000_000  # bytes up to which a value is also unpickled


def check_picklable(unit: Unit, value: Any) -> None:
    """Raise an `EngineError` if a result cannot be sent to other workers."""
    for name, part in _parts(unit, value):
        if type(part) not in ATOMS and (reason := _pickle_error(part)):
            message = (
                f"the result of node {name!r} cannot be sent to other workers ({reason}): "
                "return something that can be pickled"
            )
            raise EngineError(message)


def _parts(unit: Unit, value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind is GroupResult:
        names = {part.node.number: part for part in unit.subunits}
        for number, own in value.values.items():
            yield from _parts(names[number], own)
    elif kind is InstanceResult:
        yield unit.node.name, value.value
        yield unit.node.name, value.state
    else:
        yield unit.node.name, value


def _pickle_error(value: Any) -> str:
    try:
        _try_pickle(value)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        if not has_own_serialization(value):
            return describe_exception(error)
    return ""


def _try_pickle(value: Any) -> None:
    """Pickle a value as Dask does, and unpickle it if it is small; buffers are not copied."""
    file, buffers = _TruncatingFile(), list[pickle.PickleBuffer]()
    cloudpickle.Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    if file.size <= _MAX_TRIED:
        pickle.loads(b"".join(file.parts), buffers=buffers)


class _TruncatingFile:
    """A file that stores a limited number of bytes."""

    def __init__(self) -> None:
        self.size = 0
        self.parts: list[bytes] = []

    def write(self, data: Any) -> int:
        size = len(data)
        self.size += size
        if self.size <= _MAX_TRIED:
            self.parts.append(bytes(data))
        else:
            self.parts.clear()
        return size
