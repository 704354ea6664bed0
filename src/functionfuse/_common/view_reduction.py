"""Reduction of memory views and arrays for picklers, where pickle's own reduction changes their type.

The pickles need only the standard library and numpy.
"""

from __future__ import annotations

import array
import operator
import pickle
from typing import Any, Final

from functionfuse._common.pickle_buffers import PROTOCOL

__all__ = ["reduce_array", "reduce_memoryview"]

_BYTES: Final = "B"


def reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    """Reduce a memory view to its bytes and its format; cloudpickle reduces it to `bytes`.

    A view that is not contiguous becomes contiguous.

    Raises:
        PicklingError: Its format has no equivalent in another process.
    """
    data = view if view.c_contiguous else _contiguous(view)
    try:
        if data.format == _BYTES and data.ndim == 1:
            return memoryview, (pickle.PickleBuffer(data),)
        if data.nbytes == 0:  # cannot be cast
            return _reduce_empty(data)
        cast = operator.methodcaller("cast", data.format, data.shape)
        cast(data.cast(_BYTES))  # raises if it could not be unpickled
        return cast, (data.cast(_BYTES),)
    except (TypeError, ValueError) as error:
        message = f"a memoryview of format {view.format!r} and shape {view.shape}: {error}"
        raise pickle.PicklingError(message) from error


def _contiguous(view: memoryview) -> memoryview:
    data: memoryview = memoryview(bytearray(view.tobytes())).cast(view.format, view.shape)  # type: ignore[call-overload]
    return data.toreadonly() if view.readonly else data


def _reduce_empty(view: memoryview) -> tuple[Any, ...]:
    if view.ndim != 1:
        message = "an empty view of several dimensions"
        raise TypeError(message)
    if view.readonly:
        return operator.methodcaller("toreadonly"), (memoryview(array.array(view.format)),)
    return memoryview, (array.array(view.format),)


def reduce_array(values: Any) -> Any:
    """Reduce an `ndarray` in a foreign byte order; None if pickle's own reduction is right.

    numpy unpickles times and views that are not contiguous in the native byte order, as another dtype.
    """
    if type(values).__module__ != "numpy":
        return None
    dtype = values.dtype
    if dtype.isnative or dtype.hasobject:
        return None
    contiguous = values.flags.c_contiguous or values.flags.f_contiguous
    if dtype.kind in "mM":
        numbers = values.copy().view(f"{dtype.byteorder}i8")
        return operator.methodcaller("view", dtype), (numbers,)
    return None if contiguous else values.copy().__reduce_ex__(PROTOCOL)
