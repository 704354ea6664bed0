"""Digests of arrays, frames and containers of numbers and texts, within a limit of time.

Values of other types have no digest: their pickles may differ although nothing was changed.
"""

from __future__ import annotations

import pickle
import sys
import time
from typing import Any, Final
from zlib import crc32

__all__ = ["digest_within"]

_BYTES_PER_SECOND: Final = 2e9  # estimated speed
_PROTOCOL: Final = 5
_LIBRARIES: Final = frozenset(
    {"builtins", "collections", "datetime", "numpy", "pandas", "polars", "pyarrow"}
)


def digest_within(value: Any, seconds: float) -> int | None:
    """The digest of a value; None if it takes longer than this, or if the value has none."""
    sink = _Sink(time.perf_counter() + seconds)
    try:
        _Pickler(sink).dump(value)
    except Exception:  # noqa: BLE001 - no time left, or pickling raises anything
        return None
    return sink.digest


class _Unsuitable(Exception):
    """A value without a digest, or too large."""


class _Sink:
    """A file that computes the checksum of the written data."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.digest = 0

    def write(self, data: Any) -> int:
        self.reserve(len(data))
        self.digest = crc32(data, self.digest)
        return len(data)

    def write_buffer(self, buffer: pickle.PickleBuffer) -> None:
        raw = buffer.raw()
        self.reserve(raw.nbytes)
        self.digest = crc32(raw, self.digest)

    def reserve(self, nbytes: int) -> None:
        """Raise if there is no time left for so many bytes."""
        if time.perf_counter() + nbytes / _BYTES_PER_SECOND > self._deadline:
            raise _Unsuitable


class _Pickler(pickle.Pickler):
    """Pickles into a sink."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__(sink, _PROTOCOL, buffer_callback=sink.write_buffer)
        self._sink = sink

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if not (_is_of_library(kind) or isinstance(value, type) or _is_of_library(value)):
            raise _Unsuitable
        if _is_array(value):
            self._sink.reserve(value.nbytes)
        return NotImplemented


def _is_of_library(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)
