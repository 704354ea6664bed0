"""Values, functions and classes of the tests of transport between processes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from functionfuse import workflow

if TYPE_CHECKING:
    from functionfuse.testing.engine.suite import Journal


__all__ = [
    "MANY",
    "Awkward",
    "Histogram",
    "Noting",
    "Unloadable",
    "changed",
    "is_locked",
    "keep_a_part",
    "keywords",
    "lengths",
    "new_lock",
    "noted",
    "number_of",
    "numbers",
    "same",
    "size_of",
    "total",
    "was_given",
]

#: So many numbers that no engine sends them along with its own messages.
MANY = 200_000


@dataclass(eq=False)
class Awkward:
    """A value that refuses operations that engines must not use."""

    number: int

    def __eq__(self, _: object) -> bool:
        self._refuse()

    def __hash__(self) -> int:  # noqa: PLE0309 - it refuses
        self._refuse()

    def __bool__(self) -> bool:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def __repr__(self) -> str:
        self._refuse()

    def _refuse(self) -> NoReturn:
        message = "the engine must not look into this value"
        raise TypeError(message)


class Unloadable:
    """A value that cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse_to_load, ()


def _refuse_to_load() -> NoReturn:
    message = "not to be loaded"
    raise ValueError(message)


@dataclass(eq=False)
class Noting:
    """A large value that records its pickling, and hides its size."""

    journal: Journal
    data: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        self.journal.write("pickled")
        return Noting, (self.journal, self.data)


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


@workflow
def number_of(awkward: Awkward) -> int:
    """Inspect a value."""
    return awkward.number


@workflow
def keywords(**given: Any) -> dict[str, Any]:
    """A function of any keywords."""
    return given


@workflow
def lengths(*values: Any, **named: Any) -> list[int]:
    """Measure the argument."""
    return [len(value) for value in (*values, *named.values())]


@workflow
def size_of(noting: Noting, *needs: Any, more: Any = ()) -> int:
    """The number of bytes in large values."""
    return len(noting.data) + sum(len(other.data) for other in more)


@workflow
def noted(journal: Journal, line: str) -> str:
    """Write a line and return it."""
    journal.write(line)
    return line


@workflow
def numbers(count: int, start: int = 0) -> Any:
    """An array."""
    import numpy as np

    return np.arange(start, start + count)


@workflow
def changed(array: Any, *needs: Any) -> int:
    """Change an array in place; returns its sum."""
    array += 1
    return int(array.sum())


@workflow
def keep_a_part(array: Any) -> bool:
    """Keep a part of an array; returns whether all kept parts are unchanged."""
    _kept.append((array[:3], array[:3].tolist()))
    return all(part.tolist() == was for part, was in _kept)


_kept: list[tuple[Any, list[int]]] = []


@workflow
def total(array: Any, *needs: Any) -> int:
    """The sum of an array."""
    return int(array.sum())


@workflow
def new_lock() -> Any:
    """A value that cannot be pickled."""
    return threading.Lock()


@workflow
def is_locked(lock: Any) -> bool:
    """Inspect a lock."""
    locked: bool = lock.locked()
    return locked


@workflow
class Histogram:
    """A class that changes its own array."""

    def __init__(self, counts: Any) -> None:
        """Start from an array of counts."""
        self.counts = counts

    def add(self, place: int) -> int:
        """Increment a count; returns it."""
        self.counts[place] += 1
        return int(self.counts[place])


_NOTHING: Any = object()


@workflow
def was_given(first: int, second: Any = _NOTHING) -> bool:
    """Whether there was a second argument."""
    return second is not _NOTHING
