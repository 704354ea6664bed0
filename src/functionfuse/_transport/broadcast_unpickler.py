"""Unpickler for values with broadcast objects; without the pickler, which imports cloudpickle."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["unpickle"]


def unpickle(
    stream: bytes | memoryview,
    open_large: Callable[[int], Any],
    buffers: Iterable[Any] | None = None,
) -> Any:
    """Unpickle a value of `Broadcaster.pickle_value`.

    Args:
        stream: The pickle.
        open_large: Returns a broadcast object by its number.
        buffers: The out-of-band buffers.
    """
    return _Unpickler(stream, open_large, buffers).load()


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        stream: bytes | memoryview,
        open_large: Callable[[int], Any],
        buffers: Iterable[Any] | None,
    ) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._open_large = open_large
        self._loaded: dict[Any, Any] = {}  # one object stays one object

    def persistent_load(self, pid: Any) -> Any:
        numbered = type(pid) is int
        key = numbered, pid if numbered else pid[0]
        if key not in self._loaded:
            self._loaded[key] = self._open_large(pid) if numbered else _load_prepickled(*pid)
        return self._loaded[key]


def _load_prepickled(_: int, stream: bytes, large: Sequence[Any]) -> Any:
    return unpickle(stream, large.__getitem__)
