"""Storages from configuration."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import OptionError
from functionfuse.hints import check_names
from functionfuse.storage.filesystem import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functionfuse.storage.base import Storage

__all__ = ["storage_factory"]

_KINDS: Final[dict[str, Callable[..., Storage]]] = {"file": FileStorage}


def storage_factory(configuration: Mapping[str, Any]) -> Storage:
    """Make a storage.

    Args:
        configuration: `{"kind": "file", "options": {"path": "storage"}}`.

    Raises:
        OptionError: The kind or an option is not known, or one is missing.
        StorageError: The storage cannot be used.
    """
    check_names(configuration, ("kind", "options"), "key of a storage configuration")
    kind, options = configuration.get("kind"), configuration.get("options", {})
    if kind not in _KINDS:
        check_names([kind], _KINDS, "kind of storage")
    make = _KINDS[str(kind)]
    check_names(options, inspect.signature(make).parameters, f"option of a {kind!r} storage")
    try:
        return make(**options)
    except TypeError as error:
        message = f"a {kind!r} storage cannot be made of {dict(options)!r}: {error}"
        raise OptionError(message) from error
