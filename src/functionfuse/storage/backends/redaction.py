"""Secret redaction: mask secrets in options and texts, and resolve them from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MASK", "environment_secrets", "literal_secrets", "mask_secrets", "resolve_variables"]

MASK: Final = "***"
_FROM_ENVIRONMENT: Final = "env:"
_SECRET_NAME: Final = re.compile(
    r"secret|token|passw|passphrase|key|credential|auth|sas|signature|connection_string",
    re.IGNORECASE,
)
_SHORTEST: Final = (
    4  # characters; shorter values are not secrets, and masking them would garble all texts
)


def mask_secrets(value: Any, name: str = "") -> Any:
    """Replace every secret by a mask; references like `"env:NAME"` are shown."""
    if isinstance(value, Mapping):
        return {inner: mask_secrets(item, _named(name, inner)) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_secrets(item, name) for item in value]
    if value is None or isinstance(value, bool) or _variable(value):
        return value
    return MASK if _SECRET_NAME.search(name) else value


def literal_secrets(value: Any, name: str = "") -> Iterator[str]:
    """The secrets that the options themselves contain."""
    for leaf, where in _leaves(value, name):
        if _SECRET_NAME.search(where) and not _variable(leaf) and len(leaf) >= _SHORTEST:
            yield leaf


def environment_secrets(value: Any) -> Iterator[str]:
    """The values of environment variables to which options refer."""
    for leaf, _ in _leaves(value):
        found = os.environ.get(_variable(leaf) or "", "")
        if len(found) >= _SHORTEST:
            yield found


def resolve_variables(value: Any, name: str = "") -> Any:
    """Replace `"env:NAME"` in options by environment variables.

    Raises:
        StorageError: A variable is not set.
    """
    if isinstance(value, Mapping):
        return {inner: resolve_variables(item, str(inner)) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(resolve_variables(item, name) for item in value)
    variable = _variable(value)
    if not variable:
        return value
    if variable not in os.environ:
        message = f"option {name!r} refers to the environment variable {variable}, which is not set in this process"
        raise StorageError(message)
    return os.environ[variable]


def _variable(value: object) -> str | None:
    """The environment variable to which a value refers."""
    if isinstance(value, str) and value.startswith(_FROM_ENVIRONMENT):
        return value.removeprefix(_FROM_ENVIRONMENT)
    return None


def _named(outer: str, inner: object) -> str:
    """The name of a nested option: all values within a secret are secret."""
    return f"{outer} {inner}"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _leaves(item, _named(name, inner))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item, name)
    elif isinstance(value, bytes):
        yield value.decode(errors="replace"), name
    elif isinstance(value, str):
        yield value, name
