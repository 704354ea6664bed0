"""Garbage collection control: pause the collector while many long-lived objects are created."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["gc_paused"]

_MANY: Final = 100_000  # objects


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the collector while long-lived objects are created: a graph, the modules of a large library."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if (
            gc.get_count()[0] > _MANY and not gc.get_freeze_count()
        ):  # get_freeze_count() is slow for many frozen objects
            # move all objects to the oldest generation, instead of in three passes
            gc.freeze()
            gc.unfreeze()
        if enabled:
            gc.enable()
