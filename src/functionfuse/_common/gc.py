"""The garbage collector, kept from looking again and again at what all stays."""

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
    """Make many objects that all stay: a graph, the modules of a large library."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY and not gc.get_freeze_count():  # which counts for long
            # hand everything to the oldest generation now, instead of in three passes over it
            gc.freeze()
            gc.unfreeze()
        if enabled:
            gc.enable()
