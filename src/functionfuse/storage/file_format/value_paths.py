"""Paths to parts of a value, for errors that name the part at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["part_at_fault"]

_MOST_PARTS: Final = 1_000  # of one object, so that an error takes no minutes
_DEEPEST: Final = 20
_LONGEST: Final = 100  # characters


def part_at_fault(value: Any, is_at_fault: Callable[[Any], bool]) -> tuple[str, Any]:
    """Descend from a value into its first part at fault, as long as there is one.

    Returns:
        The path to the innermost such part, as `['a'][0].name`, and the part.
    """
    path = ""
    for _ in range(_DEEPEST):
        for step, part in _parts(value):
            if is_at_fault(part):
                path, value = path + step, part
                break
        else:
            break
    return path if len(path) <= _LONGEST else f"{path[:_LONGEST]}...", value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The first parts of a container, or the attributes of an object."""
    if isinstance(value, dict):
        items: Any = ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        items = ((f"[{number}]", part) for number, part in enumerate(value))
    elif type(value).__name__ in ("Dataset", "DataArray") and hasattr(value, "variables"):
        items = ((f"[{name!r}]", part) for name, part in value.variables.items())
    else:
        items = ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())
    for _, item in zip(range(_MOST_PARTS), items, strict=False):
        yield item
