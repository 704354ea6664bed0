"""Which serializer keeps which values, and what one save has written with them.

A serializer is a class; nothing is ever made of it::

    class Picture:
        serializer_class = Image.Image      # or several, or "PIL.Image.Image", or a tuple of these
        name = "pictures"                   # stands in the result file

        @classmethod
        def pickle(cls, obj, protocols):
            filename = generate_name()
            with protocols[FOLDER_PROTOCOL].open(filename, "wb") as file:
                obj.save(file, "png")
            return cls.name, filename       # or None: this one is better pickled like all else

        @classmethod
        def unpickle(cls, pid, protocols): ...

        @classmethod
        def remove(cls, pid, protocols): ...

A serializer whose values read their files when they are used says `lazy = True`, and its values raise
what `protocols[FOLDER_PROTOCOL].corrupt(problem)` returns when they meet damage.
What `pickle` returns behind the name lands in the result file, under its digest, its signature and the
gate for types; values in it are looked at like all others.
`remove` is called where that is plain literals; everything in the folder goes in any case.
"""

from __future__ import annotations

import ast
import contextlib
import math
import sys
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from functionfuse.errors import CorruptResult, FunctionFuseError, OptionError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

__all__ = [
    "FILE_PROTOCOL",
    "FOLDER_PROTOCOL",
    "S3_PROTOCOL",
    "ReadSession",
    "ResultFolder",
    "SaveSession",
    "Serializer",
    "Serializers",
    "generate_name",
    "is_literal",
    "is_pickling_result",
    "pickling_result",
]

#: An object with `open(filename, mode)` and `remove(filename)`; on local folders only.
FILE_PROTOCOL: Final = "file_protocol"
#: `{"client": s3fs.S3FileSystem, "folder": "bucket/prefix"}`; on S3 only.
S3_PROTOCOL: Final = "s3 protocol"
#: A `ResultFolder`; on every storage.
FOLDER_PROTOCOL: Final = "folder protocol"

_METHODS: Final = ("pickle", "unpickle", "remove")
_ATTRIBUTES: Final = ("serializer_class", "name", *_METHODS)
_storing: Final[ContextVar[bool]] = ContextVar("storing", default=False)


def generate_name() -> str:
    """A file name that nobody else has."""
    return str(uuid.uuid4())


class ResultFolder(Protocol):
    """The place of what one save of one result writes beside its file.

    It is pickled by recipe, so that what is read later and elsewhere finds its data;
    its `repr` shows no secret.
    """

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, of this process."""

    @property
    def path(self) -> str:
        """The folder, as the file system names it."""

    def open(self, name: str, mode: str) -> Any:
        """Open a file of the folder, which is made with the first one."""

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file, by one request."""

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file, by one request."""

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all that is in it, "": all; gone already is no error."""

    def corrupt(self, problem: str) -> CorruptResult:
        """The error to raise when a lazy value meets a damaged file after it was given out.

        It names the result, which is marked as damaged: a run computes it again.
        """

    def check(self) -> None:
        """Refuse to read a result that is marked as damaged.

        Raises:
            CorruptResult: It is.
        """


class Serializer(Protocol):
    """What a serializer has; a class with class methods will do."""

    serializer_class: Any
    name: str

    def pickle(self, obj: Any, protocols: MutableMapping[str, Any]) -> tuple[str, Any] | None:
        """Write a value; returns the name and what `unpickle` needs, None to leave it to pickle."""

    def unpickle(self, pid: Any, protocols: MutableMapping[str, Any]) -> Any:
        """Read what `pickle` wrote."""

    def remove(self, pid: Any, protocols: MutableMapping[str, Any]) -> None:
        """Remove what `pickle` wrote."""


class Serializers:
    """The serializers of a storage; false while there are none."""

    def __init__(self) -> None:  # noqa: D107
        self._by_name: dict[str, Serializer] = {}
        self._by_class: list[tuple[type | str, Serializer]] = []

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._by_name)})"

    def register(self, *serializers: Any) -> None:
        """Take serializers; of two for one type the later one is asked first.

        Raises:
            OptionError: Something is no serializer.
        """
        for serializer in serializers:
            _check(serializer)
        for serializer in serializers:
            for name in (serializer.name, *getattr(serializer, "former_names", ())):
                self._by_name[name] = serializer
            classes = serializer.serializer_class
            for kind in classes if isinstance(classes, tuple) else (classes,):
                self._by_class.insert(0, (kind, serializer))

    def find(self, kind: type) -> list[Serializer]:
        """The serializers for a type: those for itself, then those for its nearest base class."""
        classes = [(_resolved(candidate), serializer) for candidate, serializer in self._by_class]
        return [
            serializer
            for base in kind.__mro__
            for candidate, serializer in classes
            if candidate is base
        ]

    def named(self, name: str) -> Serializer:
        """The serializer of that name.

        Raises:
            StorageError: There is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(map(repr, self._by_name)) or "none"
            message = (
                f"a part of it was saved by the serializer {name!r}, which is not registered "
                f"(registered: {known}): call storage.register_persistent_serializers with it"
            )
            raise StorageError(message) from None

    def saving(self, protocols: Mapping[str, Any]) -> SaveSession:
        """What one save needs."""
        return SaveSession(self, protocols)

    def reading(self, protocols: Mapping[str, Any]) -> ReadSession:
        """What one read needs."""
        return ReadSession(self, protocols)

    def remove(self, written: Mapping[str, Sequence[str]], protocols: Mapping[str, Any]) -> None:
        """Let serializers remove what they wrote; who is not registered wrote in the folder only.

        Args:
            written: `SaveSession.written` of the save. A reference that no save wrote is left out:
                without a signing key it can be anybody's.
            protocols: Those of the save.

        Raises:
            CorruptResult: No save says so.
            FileNotFoundError: It is gone already.
            StorageError: A serializer cannot remove what it wrote.
        """
        for name, pids in written.items():
            if serializer := self._by_name.get(name):
                for pid in _literals(pids):
                    _remove(serializer, pid, dict(protocols))


class SaveSession:
    """One save: `persistent_id` is the hook of the pickler, which asks once for each object."""

    def __init__(self, serializers: Serializers, protocols: Mapping[str, Any]) -> None:  # noqa: D107
        self._serializers = serializers
        self._protocols = dict(protocols)
        self._found: dict[type, list[Serializer]] = {}
        self._pids: list[tuple[str, Any]] = []
        self._began = False

    def persistent_id(self, obj: Any) -> tuple[str, Any] | None:
        """What stands for a value in the pickle stream; None for what is pickled itself.

        Raises:
            StorageError: Its serializer cannot write it.
        """
        kind = type(obj)
        found = self._found.get(kind)
        if found is None:
            found = self._found[kind] = self._serializers.find(kind)
        pid = self._first(obj, found) if found else None
        if pid is not None:
            self._pids.append(pid)
        return pid

    @property
    def written(self) -> dict[str, list[str]]:
        """By serializer what it calls the values that it wrote, as far as that is literals; for the header."""
        names: dict[str, list[str]] = {}
        for name, pid in self._pids:
            names.setdefault(name, []).extend([repr(pid)] if is_literal(pid) else [])
        return names

    def undo(self) -> None:
        """Remove what was written, as far as that goes: the save has failed."""
        for name, pid in self._pids:
            with contextlib.suppress(Exception):
                self._serializers.named(name).remove(pid, self._protocols)
        if self._began:  # what failed half-way has no name yet
            with contextlib.suppress(Exception):
                self._protocols[FOLDER_PROTOCOL].remove("")

    def _first(self, obj: Any, found: list[Serializer]) -> tuple[str, Any] | None:
        """What the first serializer says that takes the value."""
        self._began = True
        for serializer in found:
            try:
                with pickling_result(now=False):  # it may send the value to where it is computed
                    pid = serializer.pickle(obj, self._protocols)
            except FunctionFuseError:
                raise
            except Exception as error:
                message = (
                    f"the serializer {serializer.name!r} cannot save a {type(obj).__qualname__} "
                    f"({type(error).__name__}: {error})"
                )
                raise StorageError(message) from error
            if pid is not None:
                return pid
        return None


class ReadSession:
    """One read: `persistent_load` is the hook of the unpickler."""

    def __init__(self, serializers: Serializers, protocols: Mapping[str, Any]) -> None:  # noqa: D107
        self._serializers = serializers
        self._protocols = dict(protocols)
        self._seen: dict[int, tuple[Any, Any]] = {}  # by identity, as they were pickled

    def persistent_load(self, pid: Any) -> Any:
        """The value that was written in place of `pid`.

        Raises:
            StorageError: No such serializer is registered, or it cannot read what it wrote.
        """
        if id(pid) not in self._seen:
            self._seen[id(pid)] = pid, self._read(*pid)
        return self._seen[id(pid)][1]

    def _read(self, name: str, pid: Any) -> Any:
        serializer = self._serializers.named(name)
        if getattr(serializer, "lazy", False):
            self._protocols[FOLDER_PROTOCOL].check()
        try:
            return serializer.unpickle(pid, self._protocols)
        except FunctionFuseError:
            raise
        except FileNotFoundError as error:
            message = f"a file of the serializer {name!r} is missing: {error}"
            raise CorruptResult(message) from error
        except Exception as error:
            message = (
                f"the serializer {name!r} cannot read what it wrote "
                f"({type(error).__name__}: {error})"
            )
            raise StorageError(message) from error


@contextlib.contextmanager
def pickling_result(*, now: bool = True) -> Iterator[None]:
    """Around the pickling of a result: what connects to a storage does not belong in its file."""
    token = _storing.set(now)
    try:
        yield
    finally:
        _storing.reset(token)


def is_pickling_result() -> bool:
    """Tell an object that is being pickled that it goes into a result file, not to a worker."""
    return _storing.get()


def _check(serializer: Any) -> None:
    missing = [name for name in _ATTRIBUTES if not hasattr(serializer, name)]
    uncallable = [name for name in _METHODS if not callable(getattr(serializer, name, len))]
    if missing or uncallable:
        message = (
            f"{serializer!r} is no serializer: it lacks {', '.join(missing + uncallable)}; "
            f"a serializer is a class with {', '.join(_ATTRIBUTES)}"
        )
        raise OptionError(message)
    classes = serializer.serializer_class
    kinds = classes if isinstance(classes, tuple) else (classes,)
    if not kinds or not all(isinstance(kind, type | str) for kind in kinds):
        message = f"serializer_class of {serializer!r} is no class: {classes!r}"
        raise OptionError(message)


def _resolved(kind: type | str) -> Any:
    """A class by name; None while its library has not been imported: then no value is of it."""
    if not isinstance(kind, str):
        return kind
    module, _, name = kind.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _remove(serializer: Serializer, pid: Any, protocols: dict[str, Any]) -> None:
    try:
        serializer.remove(pid, protocols)
    except (FunctionFuseError, OSError):
        raise
    except Exception as error:
        message = (
            f"the serializer {serializer.name!r} cannot remove what it wrote "
            f"({type(error).__name__}: {error})"
        )
        raise StorageError(message) from error


def _literals(texts: Any) -> Iterator[Any]:
    """The values of those texts that are literals, each with the one text that `repr` gives it."""
    for text in texts if isinstance(texts, list) else ():
        with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            value = ast.literal_eval(text)
            if is_literal(value) and repr(value) == text:
                yield value


def is_literal(value: Any) -> bool:
    """Tell whether a value can be written as Python and read again, the same."""
    if isinstance(value, float):
        return math.isfinite(value)
    if type(value) in (tuple, list):
        return all(map(is_literal, value))
    return value is None or type(value) in (str, bytes, int, bool)
