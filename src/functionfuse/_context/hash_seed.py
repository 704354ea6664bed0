"""Hash seed of worker processes: hashes of texts are equal in all workers of a run."""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VARIABLE", "hash_seed", "hash_seed_set"]

VARIABLE: Final = "PYTHONHASHSEED"
_DEFAULT: Final = "6640"  # that of Dask's workers: a resumed run may use another engine
_lock: Final = Lock()
_before: list[str | None] = []  # the values before each block that is on, the same for all


def hash_seed() -> str:
    """The value of `PYTHONHASHSEED` for workers: that of this process, or a constant, so that runs can be resumed."""
    given = os.environ.get(VARIABLE, "random")
    return given if given.isdecimal() else _DEFAULT


@contextmanager
def hash_seed_set() -> Iterator[None]:
    """Set the hash seed in the environment, which processes that are started meanwhile inherit."""
    with _lock:  # runs in several threads: the last that ends restores it
        _before.append(_before[0] if _before else os.environ.get(VARIABLE))
        os.environ[VARIABLE] = hash_seed()
    try:
        yield
    finally:
        with _lock:
            before = _before.pop()
            if not _before:
                _restore(before)


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = before
