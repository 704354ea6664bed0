"""Serializer protocol and registry, and the hooks of one save and one read.

A serializer is a class, which is not instantiated::

    class Picture:
        serializer_class = Image.Image      # or "PIL.Image.Image", or a tuple of these
        name = "pictures"                   # stored in the result file

        @classmethod
        def pickle(cls, obj, protocols):
            filename = generate_name()
            with protocols[FOLDER_PROTOCOL].open(filename, "wb") as file:
                obj.save(file, "png")
            return cls.name, filename       # or None to pickle this value

        @classmethod
        def unpickle(cls, pid, protocols): ...

        @classmethod
        def remove(cls, pid, protocols): ...

A serializer whose values read their files on use has `lazy = True`; such values raise the exception
that `protocols[FOLDER_PROTOCOL].corrupt(problem)` returns when a file is damaged.
The second item that `pickle` returns is stored in the result file, with its checksum, signature and
allowed types; serializers also apply to values within it.
`remove` is called if that item consists of literals; the folder itself is removed in any case.
"""

from __future__ import annotations

import ast
import contextlib
import math
import sys
import uuid
from contextvars import ContextVar, Token
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
    """A unique file name."""
    return str(uuid.uuid4())


class ResultFolder(Protocol):
    """The sidecar folder of one save of one result.

    It can be pickled, so that a lazy value finds its data in another process; its `repr` has no secrets.
    """

    @property
    def filesystem(self) -> Any:
        """The fsspec file system of this process."""

    @property
    def path(self) -> str:
        """The path of the folder on the file system."""

    def open(self, name: str, mode: str) -> Any:
        """Open a file of the folder; the first write creates the folder."""

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file, by one request."""

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file, by one request."""

    def remove(self, name: str) -> None:
        """Remove a file or a folder with its contents, or everything for ""; a missing one is ignored."""

    def corrupt(self, problem: str) -> CorruptResult:
        """The error to raise when a lazy value finds a damaged file after it was returned.

        It names the result, which this call marks as damaged, so that a run computes it again.
        """

    def check(self) -> None:
        """Raise if the result is marked as damaged.

        Raises:
            CorruptResult: The result is marked.
        """


class Serializer(Protocol):
    """Protocol of serializers: usually a class with class methods."""

    serializer_class: Any
    name: str

    def pickle(self, obj: Any, protocols: MutableMapping[str, Any]) -> tuple[str, Any] | None:
        """Write a value; returns the name and the argument of `unpickle`, or None to pickle the value."""

    def unpickle(self, pid: Any, protocols: MutableMapping[str, Any]) -> Any:
        """Read a value that `pickle` wrote."""

    def remove(self, pid: Any, protocols: MutableMapping[str, Any]) -> None:
        """Remove the files that `pickle` wrote."""


class Serializers:
    """Registry of the serializers of a storage; false if empty."""

    def __init__(self) -> None:  # noqa: D107
        self._by_name: dict[str, Serializer] = {}
        self._by_class: list[tuple[type | str, Serializer]] = []

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._by_name)})"

    def register(self, *serializers: Any) -> None:
        """Register serializers; a later one for the same type takes precedence.

        Raises:
            OptionError: An object does not implement the serializer protocol.
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
        """The serializers for a type: those of the type itself, then those of its base classes."""
        classes = [(_resolve(candidate), serializer) for candidate, serializer in self._by_class]
        return [
            serializer
            for base in kind.__mro__
            for candidate, serializer in classes
            if candidate is base
        ]

    def named(self, name: str) -> Serializer:
        """The serializer with a name.

        Raises:
            StorageError: No such serializer is registered.
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
        """The hook of one save."""
        return SaveSession(self, protocols)

    def reading(self, protocols: Mapping[str, Any]) -> ReadSession:
        """The hook of one read."""
        return ReadSession(self, protocols)

    def remove(self, written: Mapping[str, Sequence[str]], protocols: Mapping[str, Any]) -> None:
        """Call `remove` of serializers; unregistered ones are skipped.

        Args:
            written: `SaveSession.written` of the save. Invalid references are skipped:
                without a signing key they may be forged.
            protocols: The protocols of the save.

        Raises:
            CorruptResult: A reference is invalid.
            FileNotFoundError: A file is missing.
            StorageError: A serializer failed.
        """
        for name, pids in written.items():
            if serializer := self._by_name.get(name):
                for pid in _literals(pids):
                    _remove(serializer, pid, dict(protocols))


class SaveSession:
    """One save: `persistent_id` is the hook of the pickler, which calls it once for each object."""

    def __init__(self, serializers: Serializers, protocols: Mapping[str, Any]) -> None:  # noqa: D107
        self._serializers = serializers
        self._protocols = dict(protocols)
        self._found: dict[type, list[Serializer]] = {}
        self._pids: list[tuple[str, Any]] = []
        self._began = False

    def persistent_id(self, obj: Any) -> tuple[str, Any] | None:
        """The id that replaces a value in the pickle stream; None to pickle the value.

        Raises:
            StorageError: The serializer failed.
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
        """References to written values by serializer, for the header; those of literals only."""
        names: dict[str, list[str]] = {}
        for name, pid in self._pids:
            names.setdefault(name, []).extend([repr(pid)] if is_literal(pid) else [])
        return names

    def undo(self) -> None:
        """Remove the files of a failed save, ignoring errors."""
        for name, pid in self._pids:
            with contextlib.suppress(Exception):
                self._serializers.named(name).remove(pid, self._protocols)
        if self._began:  # files of the value that failed have no reference yet
            with contextlib.suppress(Exception):
                self._protocols[FOLDER_PROTOCOL].remove("")

    def _first(self, obj: Any, found: list[Serializer]) -> tuple[str, Any] | None:
        """The id from the first serializer that accepts the value."""
        self._began = True
        for serializer in found:
            try:
                with pickling_result(now=False):  # it may send parts of the value to workers
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
        self._seen: dict[int, tuple[Any, Any]] = {}  # by identity, as `persistent_id` was called

    def persistent_load(self, pid: Any) -> Any:
        """The value for a persistent id.

        Raises:
            StorageError: The serializer is not registered, or failed.
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


class pickling_result:  # noqa: N801 - a context manager, which is faster as a class
    """Context of pickling a result, in which connections with secrets refuse to be pickled."""

    __slots__ = ("_now", "_token")

    def __init__(self, *, now: bool = True) -> None:  # noqa: D107
        self._now = now
        self._token: Token[bool]

    def __enter__(self) -> None:
        self._token = _storing.set(self._now)

    def __exit__(self, *_: object) -> None:
        _storing.reset(self._token)


def is_pickling_result() -> bool:
    """Whether an object is being pickled into a result file, not for a worker."""
    return _storing.get()


def _check(serializer: Any) -> None:
    missing = [name for name in _ATTRIBUTES if not hasattr(serializer, name)]
    uncallable = [name for name in _METHODS if not callable(getattr(serializer, name, len))]
    if missing or uncallable:
        message = (
            f"{serializer!r} does not implement the serializer protocol: "
            f"missing {', '.join(missing + uncallable)}; "
            f"a serializer is a class with {', '.join(_ATTRIBUTES)}"
        )
        raise OptionError(message)
    classes = serializer.serializer_class
    kinds = classes if isinstance(classes, tuple) else (classes,)
    if not kinds or not all(isinstance(kind, type | str) for kind in kinds):
        message = f"serializer_class of {serializer!r} must be a class, its name or a tuple of these, not {classes!r}"
        raise OptionError(message)


def _resolve(kind: type | str) -> Any:
    """Resolve a class by name; None if its library is not imported, so that no value has this type."""
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
    """Parse texts of literals; skips texts that are not the `repr` of their value."""
    for text in texts if isinstance(texts, list) else ():
        with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            value = ast.literal_eval(text)
            if is_literal(value) and repr(value) == text:
                yield value


def is_literal(value: Any) -> bool:
    """Whether a value can be written as a Python literal and parsed again without change."""
    if isinstance(value, float):
        return math.isfinite(value)
    if type(value) in (tuple, list):
        return all(map(is_literal, value))
    return value is None or type(value) in (str, bytes, int, bool)
