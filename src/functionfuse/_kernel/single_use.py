"""Single-use values: detect values that only one consumer can use, with the reason and the remedy."""

from __future__ import annotations

import gc
import inspect
import io
import itertools
import operator
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

__all__ = ["is_future_type", "single_use"]


def single_use(value: Any) -> str:  # noqa: PLR0911 - one for each kind
    """The reason why only one consumer can use a value, and the remedy; empty if all can, or if it can be drained."""
    kind = type(value)
    if inspect.iscoroutine(value):
        value.close()  # otherwise Python warns that it was never awaited
        return "a coroutine runs once, and nothing awaits this one: `await` it in an async function"
    if isinstance(value, AsyncIterator):
        return "an event loop has to drain it: return `[item async for item in iterator]`"
    if is_future_type(kind):
        return "its event loop has ended: `await` it in an async function"
    if _is_file(value):
        return _why_not_file(value)
    if hasattr(kind, "fetchall"):
        return "a database cursor is read once: return its rows, `cursor.fetchall()`"
    if (kind.__module__, kind.__name__) == ("numpy", "nditer"):
        return "its items are views of one buffer: return the array"
    return (
        "it never ends: return a list of the items that are used"
        if isinstance(value, Iterator) and _is_endless(value)
        else ""
    )


def is_future_type(kind: type) -> bool:
    """Whether a type is a future of asyncio, which takes long to import."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and issubclass(kind, asyncio.Future)


def _is_file(value: Any) -> bool:
    return isinstance(value, io.IOBase) or callable(getattr(value, "readline", None))


def _why_not_file(file: Any) -> str:
    """The reason why only one consumer can read a file; empty if it is closed, or open for writing only."""
    try:
        if hasattr(file, "readable") and not file.readable():
            return ""
    except ValueError:  # closed
        return ""
    if hasattr(file, "getvalue"):
        return "all share its position: return its contents, `file.getvalue()`"
    return (
        "an open file is read once, in one process: return its contents, `file.read()`, or its path"
    )


#: Iterators that end with the shortest of their sources, and iterators that end with the longest.
_SHORTEST: Final = frozenset({zip, map})
_LONGEST: Final = frozenset(
    {
        *(enumerate, filter, itertools.accumulate, itertools.chain, itertools.compress),
        *(itertools.dropwhile, itertools.filterfalse, itertools.groupby, itertools.pairwise),
        *(itertools.starmap, itertools.zip_longest, type(iter(()))),  # chain has one of a tuple
    }
)


def _is_endless(iterator: Iterator[Any]) -> bool:
    """Whether an iterator never ends: one of `itertools`, also inside of others."""
    kind = type(iterator)
    if kind in (itertools.count, itertools.cycle):
        return True
    if kind is itertools.repeat:
        return operator.length_hint(iterator, -1) < 0
    if kind not in _SHORTEST and kind not in _LONGEST:
        return False
    parts = [
        part
        for referent in gc.get_referents(
            iterator
        )  # the only access to the sources since Python 3.14
        for part in (referent if isinstance(referent, tuple) else (referent,))
    ]
    endless = [_is_endless(part) for part in parts if isinstance(part, Iterator)]
    return any(endless) and (kind in _LONGEST or all(endless))
