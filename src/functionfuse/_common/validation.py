"""Refusing what is not understood, with the nearest names that are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["closest_names", "validate_names"]

_ENOUGH = 2_000  # comparing a word with a million names would take minutes


def closest_names(word: str, names: Iterable[str]) -> list[str]:
    """Up to three names that look like the word."""
    candidates = [name for _, name in zip(range(_ENOUGH), names, strict=False)]
    return difflib.get_close_matches(word, candidates, n=3, cutoff=0.5)


def validate_names(given: Iterable[object], valid: Collection[str], what: str) -> None:
    """Accept only valid names.

    Raises:
        OptionError: One is not; the message names the nearest, and all that are.
    """
    for name in given:
        if name not in valid:
            close = closest_names(str(name), valid)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            message = f"{name!r} is no {what}; {hint}Valid: {', '.join(sorted(valid))}"
            raise OptionError(message)
