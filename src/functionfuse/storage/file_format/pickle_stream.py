"""Pickle streams of results: protocol 5 with out-of-band buffers, and persistent ids for serializers."""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common import plain_pickler
from functionfuse._common.pickle_buffers import PROTOCOL, split_buffers
from functionfuse._common.script_modules import file_of_script_module, may_name_script
from functionfuse._common.script_objects import ScriptObjectError
from functionfuse._common.script_references import script_object
from functionfuse.errors import StorageError
from functionfuse.storage.file_format.data_references import DataReferenceError, reference_reducers
from functionfuse.storage.file_format.shared_tensors import tensor_reducers
from functionfuse.storage.file_format.value_paths import part_at_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist

__all__ = ["pickle_value", "unpickle_value"]

#: The name of the main module in a process that `multiprocessing` spawned; it does not exist in other processes.
_SPAWNED_MAIN: Final = "__mp_main__"
#: Bytes; smaller buffers stay in the stream: a copy costs less than another part with a digest.
_SMALL: Final = 4096


def pickle_value(value: Any, persistent_id: Callable[[Any], Any] | None) -> list[memoryview]:
    """Pickle a value; returns the stream and its buffers, which are not copied.

    Raises:
        StorageError: The value cannot be pickled.
    """
    dumps = partial(_dumps, find=_memoize(persistent_id) if persistent_id else None)
    try:
        return dumps(value)
    except DataReferenceError as error:
        raise _named(value, dumps, error, str(error)) from error
    except StorageError:  # of a serializer
        raise
    except Exception as error:
        reason = f"cannot be pickled: {error}"
        raise _named(value, dumps, error, reason) from error


def _dumps(value: Any, find: Callable[[Any], Any] | None) -> list[memoryview]:
    try:
        return _pickle_with(plain_pickler.ReferencePickler, value, find)
    except StorageError:
        raise
    except Exception:  # noqa: BLE001 - cloudpickle may do: a lambda, a closure
        from functionfuse._common import pickler
    return _pickle_with(pickler.ReferencePickler, value, find)


def _named(
    value: Any, dumps: Callable[[Any], object], error: Exception, reason: str
) -> StorageError:
    """The error for a value that cannot be pickled, with the path to the part at fault."""

    def fails(part: Any) -> bool:
        try:
            dumps(part)
        except type(error):
            return True
        except Exception:  # noqa: BLE001 - another part, with an error of its own
            return False
        return False

    path, part = part_at_fault(value, fails)
    if type(error) is DataReferenceError:
        path = path.partition("._")[0]  # the rest is within objects of a library
        return StorageError(f"{reason} (it is result{path})" if path else reason)
    where = f" with a {type(part).__qualname__} at result{path}" if path else ""
    return StorageError(f"a value of type {type(value).__qualname__}{where} {reason}")


def unpickle_value(
    stream: bytes | memoryview,
    buffers: Sequence[memoryview],
    allowed: PickleAllowlist | None,
    persistent_load: Callable[[Any], Any] | None,
) -> Any:
    """Unpickle a stream with its buffers.

    Raises:
        UntrustedResult: The stream uses types that are not allowed.
        StorageError: The stream cannot be unpickled in this process.
    """
    try:
        if allowed is not None:
            return allowed.load(stream, buffers, persistent_load)
        if persistent_load is None:
            return _load(stream, buffers)
        return _PersistentUnpickler(stream, buffers, persistent_load).load()
    except StorageError:
        raise
    except ScriptObjectError as error:
        message = f"the result is intact but cannot be unpickled here: {error}"
        raise StorageError(message) from error
    except Exception as error:
        message = (
            f"the result is intact but cannot be unpickled here ({type(error).__name__}: {error}): "
            "install or define the classes and functions that it uses, or remove the result"
        )
        raise StorageError(message) from error


def _load(stream: bytes | memoryview, buffers: Sequence[memoryview]) -> Any:
    try:
        if not may_name_script(stream):
            return pickle.loads(stream, buffers=buffers)
    except ModuleNotFoundError as error:
        if error.name != _SPAWNED_MAIN:
            raise
    return _PersistentUnpickler(stream, buffers, None).load()


class _PersistentUnpickler(pickle.Unpickler):
    """Unpickler with persistent ids, which finds what is of the script there, under any name of its module."""

    def __init__(
        self,
        stream: bytes | memoryview,
        buffers: Sequence[memoryview],
        persistent_load: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._find = persistent_load

    def persistent_load(self, pid: Any) -> Any:
        if self._find is None:
            message = "a persistent id, but no serializers are registered"
            raise pickle.UnpicklingError(message)
        return self._find(pid)

    def find_class(self, module_name: str, global_name: str) -> Any:
        file = file_of_script_module(module_name)
        if file is not None:
            return script_object(file, global_name)
        return super().find_class(
            "__main__" if module_name == _SPAWNED_MAIN else module_name, global_name
        )


def _pickle_with(pickler: Any, value: Any, find: Callable[[Any], Any] | None) -> list[memoryview]:
    """Pickle a value with one of our picklers."""

    def dump(keep_buffer: Callable[[pickle.PickleBuffer], bool]) -> bytes:
        file = io.BytesIO()
        options: Any = {"protocol": PROTOCOL, "buffer_callback": keep_buffer}
        pickling = (
            _persistent_pickler(pickler)(find, file, **options)
            if find
            else pickler(file, **options)
        )
        if reducers := reference_reducers() | tensor_reducers():
            known = getattr(pickling, "dispatch_table", copyreg.dispatch_table)
            pickling.dispatch_table = {**known, **reducers}
        pickling.dump(value)
        return file.getvalue()  # a view would keep the whole BytesIO alive

    stream, buffers = split_buffers(dump, _SMALL)
    return [memoryview(stream), *buffers]


@functools.cache
def _persistent_pickler(pickler: type[Any]) -> type[Any]:
    """A subclass of a pickler with a `persistent_id` hook."""

    class PersistentPickler(pickler):  # type: ignore[misc] # the base class is a parameter
        def __init__(self, find: Callable[[Any], Any], *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._find = find

        def persistent_id(self, obj: Any) -> Any:
            return self._find(obj)

    return PersistentPickler


def _memoize(persistent_id: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Memoize `persistent_id` by object: it may write the object, and a value may be pickled twice."""
    known: dict[int, tuple[Any, Any]] = {}  # with the object, so that its id is not reused

    def find(obj: Any) -> Any:
        found = known.get(id(obj))
        if found is None:
            pid = persistent_id(obj)
            if pid is None:
                return None
            found = known[id(obj)] = (obj, pid)
        return found[1]

    return find
