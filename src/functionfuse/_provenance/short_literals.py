"""Short texts of literals, for messages such as `C: 10 -> 0.001`."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PosixPath, WindowsPath
from types import FunctionType
from typing import Any, Final

from functionfuse._graph.nodes import ATOMS
from functionfuse._provenance.code_names import function_name

__all__ = ["short_literal"]

_MAX_LENGTH: Final = 60  # of a text
_NUMBERS: Final = frozenset({float, bool, type(None)})  # with a short text, whatever the value
_FLAT: Final = frozenset({list, tuple, dict})
_WITH_TEXT: Final = frozenset(
    {date, datetime, time, timedelta, Decimal, Fraction, range, PosixPath, WindowsPath}
)


def short_literal(value: Any) -> str | None:
    """Return the text of a literal of a standard type that has a short one, or the name of a function or class."""
    kind = type(value)
    if kind in _NUMBERS or (kind is int and value.bit_length() <= _MAX_LENGTH):
        return repr(value)
    if isinstance(value, Enum):
        return f"{kind.__qualname__}.{value.name}"
    if kind is FunctionType or issubclass(kind, type):
        return function_name(value)
    if kind not in _WITH_TEXT and not _is_small(value, kind):
        return None
    text = repr(value)
    return text if len(text) <= _MAX_LENGTH else None


def _is_small(value: Any, kind: type) -> bool:
    """Tell whether a value is an atom, or a short container of atoms, none of which is long."""
    parts: list[Any] = [value]
    if kind in _FLAT and len(value) <= _MAX_LENGTH:
        parts = [*value, *value.values()] if kind is dict else [*value]
    return ATOMS.issuperset(map(type, parts)) and not any(map(_is_long, parts))


def _is_long(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() > 4 * _MAX_LENGTH)
    return (kind is str or kind is bytes) and len(value) > _MAX_LENGTH
