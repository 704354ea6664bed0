"""Paths of parts within a value, for texts such as `rows[2].file`."""

from __future__ import annotations

from typing import Any

from functionfuse._graph.nodes import ATOMS

__all__ = ["Path", "format_path"]

#: The path of the whole, and the label of the part in it: an index, a text, or a tuple of a key.
Path = tuple[Any, Any]


def format_path(path: Path | None) -> str:
    """Return the text of a path."""
    labels: list[str] = []
    while path is not None:
        path, label = path
        labels.append(_format_label(label))
    return "".join(reversed(labels))


def _format_label(label: Any) -> str:
    if type(label) is int:
        return f"[{label}]"
    return f"[{_key(label[0])}]" if type(label) is tuple else str(label)


def _key(key: Any) -> str:
    return repr(key) if type(key) in ATOMS else f"<{type(key).__qualname__}>"
