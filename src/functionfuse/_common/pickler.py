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
    from collections.abc import Callable, Mapping
    from pickle import PickleBuffer

    KeepBuffer = Callable[[PickleBuffer], object]
    Reducers = Mapping[type, Callable[[Any], Any]]

__all__ = ["Pickler", "dumps", "with_reducers"]

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

    def __init__(
        self,
        file: io.BytesIO,
        protocol: int | None = None,
        buffer_callback: KeepBuffer | None = None,
        reducers: Reducers | None = None,
    ) -> None:
        """Pickle into a file.

        Args:
            file: The file.
            protocol: The pickle protocol; by default, the highest.
            buffer_callback: Receives the out-of-band buffers, as in `pickle.dumps`.
            reducers: The dispatch table; by default, that of the class.
        """
        if reducers is not None:
            self.dispatch_table = reducers  # type: ignore[misc] # as pickle documents it
        super().__init__(file, protocol, buffer_callback)


def with_reducers(reducers: Reducers) -> Reducers:
    """The dispatch table of `Pickler` with reducers that come first."""
    return ChainMap(reducers, *Pickler.dispatch_table.maps)  # type: ignore[arg-type] # not written


def dumps(
    value: Any,
    *,
    protocol: int | None = None,
    buffer_callback: KeepBuffer | None = None,
    reducers: Reducers | None = None,
) -> bytes:
    """Pickle a value; the arguments are those of `Pickler`."""
    with io.BytesIO() as file:
        Pickler(file, protocol, buffer_callback, reducers).dump(value)
        return file.getvalue()
