"""Name validation: unknown names raise an error that suggests the nearest valid ones."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["closest_names", "validate_names"]

_ENOUGH = 2_000  # names: comparing a word with a million of them would take minutes


def closest_names(word: str, names: Iterable[str]) -> list[str]:
    """Up to three names that are similar to a word."""
    candidates = [name for _, name in zip(range(_ENOUGH), names, strict=False)]
    return difflib.get_close_matches(word, candidates, n=3, cutoff=0.5)


def validate_names(given: Iterable[object], valid: Collection[str], what: str) -> None:
    """Raise unless all names are valid.

    Raises:
        OptionError: A name is unknown; the message has the nearest and all valid names.
    """
    for name in given:
        if name not in valid:
            close = closest_names(str(name), valid)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            message = f"unknown {what}: {name!r}; {hint}Valid: {', '.join(sorted(valid))}"
            raise OptionError(message)
