"""Copy values within a process, as pickle does, and share objects that cannot be pickled.

A copy has its own memory, or read-only views of the memory of the value.
Locks, open files, functions, classes and plain `object()`s, which are known by their identity, are shared.
"""

from __future__ import annotations

import io
import pickle
from copyreg import dispatch_table
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["copy_value", "copy_value_twice", "have_equal_pickles", "view_read_only"]

_PROTOCOL: Final = 5  # the first with out-of-band buffers
_SHARED_TYPES: Final = (type, FunctionType, BuiltinFunctionType, ModuleType)


def copy_value(value: Any) -> Any:
    """A copy of a value; no array in it shares memory with the value, unless that is read-only.

    Raises:
        Exception: Whatever the classes of its parts raise.
    """
    return _Copier(value).copy(_own_memory)


def copy_value_twice(value: Any) -> tuple[Any, Any]:
    """A copy of a value, and a second one to compare it with, whose arrays are views of the value's.

    Raises:
        Exception: Whatever the classes of its parts raise.
    """
    copier = _Copier(value)
    return copier.copy(_own_memory), copier.copy(_same_memory)


def view_read_only(value: Any) -> Any:
    """A copy of a value whose arrays are read-only views; the value itself if there are none in it.

    Raises:
        Exception: Whatever the classes of its parts raise.
    """
    copier = _Copier(value)
    return copier.copy(memoryview.toreadonly) if copier.buffers else value


def have_equal_pickles(one: Any, other: Any) -> bool:
    """Tell whether two values have equal pickles; False if they cannot be pickled."""
    try:
        first, second = _Copier(one), _Copier(other)
    except Exception:  # noqa: BLE001 - the classes of their parts raise any exception
        return False
    return first.has_equal_pickle(second)


def _own_memory(buffer: memoryview) -> memoryview | bytearray:
    return buffer if buffer.readonly else bytearray(buffer)


def _same_memory(buffer: memoryview) -> memoryview:
    return buffer


class _Copier:
    """A pickled value, which is unpickled as often as copies are needed."""

    def __init__(self, value: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        self._file = io.BytesIO()
        pickler = _Pickler(self._file, _PROTOCOL, buffer_callback=buffers.append)
        pickler.dump(value)
        self._shared = pickler.shared
        self.buffers = [buffer.raw() for buffer in buffers]

    def has_equal_pickle(self, other: _Copier) -> bool:
        """Tell whether stream, buffers and shared objects are equal."""
        shared = [*map(id, self._shared)] == [*map(id, other._shared)]
        return (
            shared
            and self._file.getbuffer() == other._file.getbuffer()
            and self.buffers == other.buffers
        )

    def copy(self, memory: Callable[[memoryview], Any]) -> Any:
        """Unpickle a copy whose arrays have this memory."""
        self._file.seek(0)
        unpickler = _Unpickler(self._file, buffers=map(memory, self.buffers))
        unpickler.shared = self._shared
        return unpickler.load()


def _shared_object(number: int) -> Any:
    """A shared object, by its number: in a stream this name represents the unpickler's list."""
    raise NotImplementedError(number)


class _Pickler(pickle.Pickler):
    """Pickles numbers in place of shared objects."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared: list[Any] = []

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, _SHARED_TYPES) and type(value) is not object:
            if isinstance(value, MethodType):
                return NotImplemented
            reduce = dispatch_table.get(type(value))
            try:
                return reduce(value) if reduce else value.__reduce_ex__(_PROTOCOL)
            except Exception:  # noqa: BLE001, S110 - it cannot be pickled
                pass
        elif value is _shared_object:
            return NotImplemented
        self.shared.append(value)
        return _shared_object, (len(self.shared) - 1,)


class _Unpickler(pickle.Unpickler):
    """Returns shared objects for their numbers."""

    shared: list[Any]

    def find_class(self, module: str, name: str, /) -> Any:
        if name == _shared_object.__name__ and module == __name__:
            return self.shared.__getitem__
        return super().find_class(module, name)
