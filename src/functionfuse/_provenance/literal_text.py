"""Text of small literals, which says more in an explanation than a digest."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any, Final

__all__ = ["literal_text"]

_LONGEST: Final = 500
_ATOMS: Final = frozenset({int, float, complex, str, bytes, bool, type(None), type(...)})
_DEPTH: Final = 5


def literal_text(value: Any, file: str | None) -> str | None:
    """Return the text of a small literal, the same in all processes; None for any other value.

    A path in or around the folder of its module is written relative to it: a project can be moved.
    """
    if isinstance(value, str | PurePath) and file is not None:
        relative = _relative(str(value), os.path.dirname(os.path.abspath(file)))
        if relative is not None:
            return f"{type(value).__name__} of the module's folder and {relative!r}"
    if not _is_literal(value, _DEPTH):
        return None
    text = repr(value)
    return text if len(text) <= _LONGEST else None


def _is_literal(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) <= _LONGEST
    if kind in _ATOMS:
        return True
    if depth == 0 or not (kind is list or kind is tuple or kind is dict):
        return False
    members = [*value.keys(), *value.values()] if kind is dict else value
    return len(members) <= _LONGEST and all(_is_literal(each, depth - 1) for each in members)


def _relative(path: str, folder: str) -> str | None:
    if not os.path.isabs(path) or len(path) > _LONGEST or os.path.dirname(path) == path:
        return None
    inside = path == folder or path.startswith(folder + os.sep)
    around = folder.startswith(path.rstrip(os.sep) + os.sep)
    return os.path.relpath(path, folder).replace(os.sep, "/") if inside or around else None
