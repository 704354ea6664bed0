"""Storage factory: creates a storage from a path, a URL or a mapping of kind and options."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.validation import validate_names
from functionfuse.errors import OptionError
from functionfuse.storage.filesystem import CommonOptions, FilesystemStorage
from functionfuse.storage.kinds import FileStorage, FsspecStorage, MemoryStorage, S3Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse.storage.base import Storage

__all__ = ["storage_factory"]

#: Entry points with which other packages add kinds: `name = "package.module:callable"`.
_GROUP: Final = "functionfuse.storages"
#: A kind given by its path is imported when it is used: the module of the actor imports this one.
_KINDS: Final[dict[str, Callable[..., Storage] | str]] = {
    "file": FileStorage,
    "S3": S3Storage,
    "fsspec": FsspecStorage,
    "memory": MemoryStorage,
    "ray": "functionfuse.storage.ray_actor:RayStorage",
}


def storage_factory(configuration: Mapping[str, Any] | str | os.PathLike[str]) -> Storage:
    """Create a storage.

    Args:
        configuration: The path of a folder; or a URL of fsspec like `"s3://bucket/results"`;
            or `{"kind": "file", "options": {"path": "storage"}}`.

    Raises:
        OptionError: The kind or an option is unknown, or a required option is missing.
        StorageError: The storage cannot be used.
    """
    if isinstance(configuration, str | os.PathLike):
        return _from_text(os.fspath(configuration))
    if not isinstance(configuration, Mapping):
        message = f"storage_factory() takes a path, a URL or a mapping, not a value of type {type(configuration).__qualname__}"
        raise OptionError(message)
    validate_names(configuration, ("kind", "options"), "key of a storage configuration")
    return _from_options(configuration.get("kind"), configuration.get("options", {}))


def _from_text(text: str) -> Storage:
    if "://" not in text:
        return FileStorage(text)
    protocol, _, path = text.partition("://")
    if protocol in {"file", "local"}:
        return FileStorage(path)
    return S3Storage(path) if protocol == "s3" else FsspecStorage(text)


def _from_options(kind: Any, options: Any) -> Storage:
    make = _maker(kind)
    if not isinstance(options, Mapping):
        message = (
            f"options of a {kind!r} storage must be a mapping, not {type(options).__qualname__}"
        )
        raise OptionError(message)
    valid = _options_of(make)
    if valid is not None:
        validate_names(options, valid, f"option of a {kind!r} storage")
    try:
        return make(**options)
    except TypeError as error:
        # without the values: any of them may be secret
        message = f"cannot create a {kind!r} storage with options {', '.join(map(str, options)) or 'none'}: {error}"
        raise OptionError(message) from error


def _maker(kind: Any) -> Callable[..., Storage]:
    """The class or function that creates storages of a kind."""
    if isinstance(kind, str) and kind in _KINDS:
        known = _KINDS[kind]
        return _import_class(known) if isinstance(known, str) else known
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=_GROUP)}
    validate_names([kind], [*_KINDS, *found], "kind of storage")
    make: Callable[..., Storage] = found[kind].load()
    return make


def _import_class(path: str) -> Callable[..., Storage]:
    module, _, name = path.partition(":")
    make: Callable[..., Storage] = getattr(importlib.import_module(module), name)
    return make


def _options_of(make: Callable[..., Storage]) -> set[str] | None:
    """The names of the options; None if any name is accepted."""
    parameters = inspect.signature(make).parameters
    names = {
        name
        for name, parameter in parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if len(names) == len(parameters):
        return names
    is_ours = isinstance(make, type) and issubclass(make, FilesystemStorage)
    return names | CommonOptions.__annotations__.keys() if is_ours else None
