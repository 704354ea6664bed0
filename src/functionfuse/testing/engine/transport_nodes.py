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
    """A value that refuses what an engine has no business to ask of it."""

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
        message = "nobody has to ask this"
        raise TypeError(message)


class Unloadable:
    """A value whose pickle cannot be read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse_to_load, ()


def _refuse_to_load() -> NoReturn:
    message = "not to be loaded"
    raise ValueError(message)


@dataclass(eq=False)
class Noting:
    """A large value that writes when it is pickled, and does not tell how large it is."""

    journal: Journal
    data: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        self.journal.write("pickled")
        return Noting, (self.journal, self.data)


@workflow
def same(value: Any) -> Any:
    """Give back what was taken."""
    return value


@workflow
def number_of(awkward: Awkward) -> int:
    """Look into a value."""
    return awkward.number


@workflow
def keywords(**given: Any) -> dict[str, Any]:
    """Take any keyword."""
    return given


@workflow
def lengths(*values: Any, **named: Any) -> list[int]:
    """Measure what was taken."""
    return [len(value) for value in (*values, *named.values())]


@workflow
def size_of(noting: Noting, *needs: Any, more: Any = ()) -> int:
    """Look into large values; give how many bytes they have."""
    return len(noting.data) + sum(len(other.data) for other in more)


@workflow
def noted(journal: Journal, line: str) -> str:
    """Write a line and give it back."""
    journal.write(line)
    return line


@workflow
def numbers(count: int, start: int = 0) -> Any:
    """An array."""
    import numpy as np

    return np.arange(start, start + count)


@workflow
def changed(array: Any, *needs: Any) -> int:
    """Change an array in place; give its sum."""
    array += 1
    return int(array.sum())


@workflow
def keep_a_part(array: Any) -> bool:
    """Keep a part of an array; tell whether all that was kept here is as it was."""
    _kept.append((array[:3], array[:3].tolist()))
    return all(part.tolist() == was for part, was in _kept)


_kept: list[tuple[Any, list[int]]] = []


@workflow
def total(array: Any, *needs: Any) -> int:
    """The sum of an array."""
    return int(array.sum())


@workflow
def new_lock() -> Any:
    """Something that cannot be pickled."""
    return threading.Lock()


@workflow
def is_locked(lock: Any) -> bool:
    """Look at a lock."""
    locked: bool = lock.locked()
    return locked


@workflow
class Histogram:
    """An object that changes its own array."""

    def __init__(self, counts: Any) -> None:
        """Start from an array of counts."""
        self.counts = counts

    def add(self, place: int) -> int:
        """Count one more; give the count there."""
        self.counts[place] += 1
        return int(self.counts[place])


_NOTHING: Any = object()


@workflow
def was_given(first: int, second: Any = _NOTHING) -> bool:
    """Tell whether there was a second argument."""
    return second is not _NOTHING
