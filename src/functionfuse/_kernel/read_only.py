"""Read-only arguments: arrays and frames as views that cannot be written, containers as copies.

As in Ray's object store, whose arrays are read-only. No large data is copied.
"""

from __future__ import annotations

import copy
import sys
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.global_references import is_generator
from functionfuse._graph.nodes import ATOMS
from functionfuse._kernel.argument_sources import Owner
from functionfuse._kernel.value_copies import view_read_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse._kernel.argument_sources import Source

__all__ = ["has_instances", "is_read_only_error", "read_only"]

#: What a node gets of values without arrays of numpy, by exact types.
_COPIES: Final[dict[type, Callable[[Any], Any]]] = {
    set: set,
    deque: copy.copy,
    array: copy.copy,
    bytearray: bytearray,
    memoryview: memoryview.toreadonly,
}
_ERRORS: Final = ("read-only", "readonly", "read only")


def read_only(value: Any) -> Any:
    """A value with read-only arrays."""
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is dict:
        return {key: read_only(part) for key, part in value.items()}
    if kind is list or kind is tuple:
        return kind(value) if ATOMS.issuperset(map(type, value)) else kind(map(read_only, value))
    if kind in _COPIES:
        return _COPIES[kind](value)
    if _is_array(value):
        return _view(value) if value.flags.writeable else value
    return _view_of_object(value)


def _view_of_object(value: Any) -> Any:
    """A frame, or an object that may have arrays."""
    if type(value).__module__.startswith("polars") and hasattr(value, "clone"):
        return value.clone()  # frames share columns, which cannot be written
    if is_generator(value):  # its state is there to be changed
        return value
    try:
        return view_read_only(value)
    except Exception:  # noqa: BLE001 - whatever its classes raise
        return value


def has_instances(source: Source) -> bool:
    """Tell whether an argument is or contains an instance of a decorated class: its methods change its arrays."""
    if type(source) is Owner:
        return source.is_instance
    return isinstance(source, tuple) and any(map(has_instances, source))


def is_read_only_error(error: Exception) -> bool:
    """Tell whether an exception says that an array cannot be written."""
    text = str(error)
    return any(each in text for each in _ERRORS)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _view(array: Any) -> Any:
    """A view of an array; of a masked array a copy, since views of one share a mask that can be written."""
    view = array.copy() if hasattr(array, "mask") else array.view()
    view.flags.writeable = False
    return view
