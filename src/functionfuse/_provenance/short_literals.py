"""Short texts of literals, for messages such as `C: 10 -> 0.001`."""

from __future__ import annotations

from typing import Any, Final

from functionfuse._graph.nodes import ATOMS

__all__ = ["short_literal"]

_MAX_LENGTH: Final = 60  # of a text
_FLAT: Final = frozenset({list, tuple})


def short_literal(value: Any) -> str | None:
    """Return the text of an atom, or of a list, tuple or dict of atoms; None for others and for long ones."""
    kind = type(value)
    if kind is dict:
        parts = [*value, *value.values()] if len(value) < _MAX_LENGTH else [value]
    elif kind in _FLAT:
        parts = value if len(value) < _MAX_LENGTH else [value]
    else:
        parts = [value]
    if not ATOMS.issuperset(map(type, parts)) or any(map(_is_long, parts)):
        return None
    text = repr(value)
    return text if len(text) <= _MAX_LENGTH else None


def _is_long(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() > 4 * _MAX_LENGTH)
    return (kind is str or kind is bytes) and len(value) > _MAX_LENGTH
