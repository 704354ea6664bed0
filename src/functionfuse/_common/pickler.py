"""Pickler for functions and classes by value: cloudpickle's, with the file names of code objects kept.

Since 3.1.3, cloudpickle replaces the file name of every code object, to make pickles reproducible.
Without it, a traceback from a worker has no lines of the user's file, and `inspect.getsource` finds nothing.
The pickles contain nothing of this module, so they load wherever cloudpickle is installed.
"""

from __future__ import annotations

import io
from collections import ChainMap
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Final

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer

__all__ = ["Pickler", "dumps"]

_REPLACED: Final = "<dynamic-code>"  # cloudpickle's file name for all code


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    construct, fields = cloudpickle.Pickler.dispatch_table[CodeType](code)
    # exact types: a constant of a function may compare in a way of its own
    kept = [
        code.co_filename if type(field) is str and field == _REPLACED else field for field in fields
    ]
    return construct, tuple(kept)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped
    """Pickles functions and classes that cannot be imported by value, with their file names."""

    # flat, since the C pickler asks for each object; still sees what is registered with copyreg later
    dispatch_table: ClassVar[Any] = ChainMap(
        {CodeType: _reduce_code}, *cloudpickle.Pickler.dispatch_table.maps
    )


def dumps(
    value: Any,
    *,
    protocol: int | None = None,
    buffer_callback: Callable[[PickleBuffer], object] | None = None,
) -> bytes:
    """Pickle a value.

    Args:
        value: The value.
        protocol: The pickle protocol; by default, the highest.
        buffer_callback: Receives the out-of-band buffers, as in `pickle.dumps`.
    """
    with io.BytesIO() as file:
        Pickler(file, protocol, buffer_callback).dump(value)
        return file.getvalue()
