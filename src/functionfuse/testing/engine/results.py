"""Result tests: iterators and other single-use values that nodes return."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import re
from collections import OrderedDict, defaultdict, deque, namedtuple
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.errors import GraphError
from functionfuse.testing.engine.suite import WORKFLOW, Suite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from functionfuse.storage.base import Storage

__all__ = ["ResultTests"]


@dataclass(frozen=True)
class Table:
    """A record with a field that may be an iterator."""

    rows: Any
    title: str = "rows"


class Countdown:
    """An iterator of a class."""

    def __init__(self, start: int) -> None:
        self.left = start

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left


Pair = namedtuple("Pair", "numbers more")  # noqa: PYI024 - its fields may be anything


def _numbers() -> Iterator[int]:
    yield from range(3)


async def _later() -> AsyncIterator[int]:
    for number in range(3):
        yield number


async def _coroutine() -> Any:
    return _later()


def _cyclic() -> Any:
    value: list[Any] = [_numbers()]
    value.append(value)
    return [*value[:1], len(value[1])]


def _shared() -> Any:
    numbers = _numbers()
    return [numbers, {"same": numbers}]


def _file() -> Any:
    return io.TextIOWrapper(io.BytesIO(b"text"))  # a real one would warn that it is not closed


def _object_array() -> Any:
    array = np.empty(2, dtype=object)
    array[:] = [_numbers(), "x"]
    return array


#: Functions with single-use results, and the values that all consumers get.
REUSABLE: Final[dict[str, tuple[Callable[[], Any], Any]]] = {
    "generator": (_numbers, [0, 1, 2]),
    "generator expression": (lambda: (n * n for n in range(3)), [0, 1, 4]),
    "map": (lambda: map(int, "12"), [1, 2]),
    "filter": (lambda: filter(None, [0, 1]), [1]),
    "zip": (lambda: zip("ab", [1, 2], strict=True), [("a", 1), ("b", 2)]),
    "zip with an endless one": (lambda: zip("ab", itertools.count()), [("a", 0), ("b", 1)]),
    "enumerate": (lambda: enumerate("a"), [(0, "a")]),
    "reversed": (lambda: reversed([1, 2]), [2, 1]),
    "iterator of a list": (lambda: iter([1, 2]), [1, 2]),
    "iterator of a dict": (lambda: iter({"a": 1}.items()), [("a", 1)]),
    "iterator of a function": (lambda: iter(io.StringIO("ab").read, ""), ["ab"]),
    "islice": (lambda: itertools.islice(itertools.count(), 2), [0, 1]),
    "repeat": (lambda: itertools.repeat("a", 2), ["a", "a"]),
    "tee": (lambda: itertools.tee([1, 2]), ([1, 2], [1, 2])),
    "groups": (
        lambda: itertools.groupby([1, 3, 2], lambda n: n % 2),
        [(1, [1, 3]), (0, [2])],
    ),
    "csv": (lambda: csv.reader(["a,b", "1,2"]), [["a", "b"], ["1", "2"]]),
    "csv of dicts": (lambda: csv.DictReader(["a,b", "1,2"]), [{"a": "1", "b": "2"}]),
    "matches": (lambda: map(re.Match.group, re.finditer(".", "ab")), ["a", "b"]),
    "class": (lambda: Countdown(3), [2, 1, 0]),
    "flat array": (lambda: np.arange(3).flat, [0, 1, 2]),
    "asynchronous generator": (_later, [0, 1, 2]),
    "asynchronous generator of a coroutine": (_coroutine, [0, 1, 2]),
    "list": (lambda: [1, [map(int, "12")]], [1, [[1, 2]]]),
    "tuple": (lambda: (1, (iter("a"),)), (1, (["a"],))),
    "dict": (lambda: {"a": {"b": iter("a")}}, {"a": {"b": ["a"]}}),
    "ordered dict": (lambda: OrderedDict(a=iter("a")), OrderedDict(a=["a"])),
    "default dict": (lambda: defaultdict(list, a=iter("a")), defaultdict(list, a=["a"])),
    "deque": (lambda: deque([iter("a")], 3), deque([["a"]], 3)),
    "named tuple": (lambda: Pair(iter("a"), 1), Pair(["a"], 1)),
    "namespace": (lambda: SimpleNamespace(rows=iter("a")), SimpleNamespace(rows=["a"])),
    "dataclass": (lambda: Table([iter("a")]), Table([["a"]])),
    "iterator of iterators": (lambda: map(iter, ["ab", "c"]), [["a", "b"], ["c"]]),
    "twice": (_shared, [[0, 1, 2], {"same": [0, 1, 2]}]),
    "in itself": (_cyclic, [[0, 1, 2], 2]),
}


@workflow
def returned(name: str) -> Any:
    """A result."""
    return REUSABLE[name][0]()


@workflow
def taken(value: Any) -> Any:
    """What a consumer gets."""
    return value


@workflow
def read_file(file: Any) -> Any:
    """Read on from the position of a file in memory."""
    return file.read()


@workflow
def memory_file(kind: Any, content: Any) -> Any:
    """A file in memory that was read from."""
    file = kind(content)
    file.read(1)
    return file


@dataclass(frozen=True)
class Refused:
    """A function whose result is refused, with the advice of the error."""

    function: Callable[..., Any]
    advice: str


async def _future() -> Any:
    return {"a": asyncio.get_running_loop().create_future()}


async def _nothing() -> None:
    pass


class _Holder:
    """An object with an attribute."""

    def __init__(self, items: Any) -> None:
        self.items = items


@contextmanager
def _entered() -> Iterator[int]:
    yield 1


def _reader_of(rows: Any) -> Callable[[], Any]:
    return lambda: next(rows)


REFUSED: Final = {
    "file": Refused(_file, r"file\.read\(\)"),
    "file in a dict": Refused(lambda: {"a": [_file()]}, r"result\['a'\]\[0\].*file\.read"),
    "count": Refused(itertools.count, "never ends"),
    "cycle": Refused(lambda: Table(itertools.cycle("ab")), r"result\.rows.*never ends"),
    "endless map": Refused(lambda: map(str, itertools.repeat(1)), "never ends"),
    "endless chain": Refused(lambda: itertools.chain([1], itertools.count()), "never ends"),
    "set": Refused(lambda: {iter("a")}, "set cannot hold"),
    "key": Refused(lambda: {(1, iter("a")): 1}, "key of a dict cannot hold"),
    "array": Refused(_object_array, "ndarray cannot hold"),
    "future": Refused(_future, r"result\['a'\].*event loop has ended"),
    "coroutine": Refused(lambda: [_nothing()], "await"),
    "object": Refused(lambda: _Holder(map(str, "ab")), "attribute 'items'"),
    "context manager": Refused(lambda: [_entered()], "generator in its result .*attribute 'gen'"),
    "function": Refused(lambda: _reader_of(zip("ab", strict=True)), "variable 'rows'"),
    "asynchronous generator": Refused(lambda: {"a": _later()}, r"result\['a'\].*async for"),
}


@workflow
def refused(name: str) -> Any:
    """A result that is refused."""
    return REFUSED[name].function()


class ResultTests(Suite):
    """Return values."""

    #: The names of the iterators to try: all are drained by the kernel, on every engine.
    reusable: ClassVar[Sequence[str]] = (
        *("generator", "zip", "groups", "csv", "class", "flat array"),
        *("asynchronous generator", "asynchronous generator of a coroutine"),
        *("tuple", "default dict", "dataclass", "twice"),
    )
    #: The names of the refused results to try.
    refused: ClassVar[Sequence[str]] = ("file in a dict", "cycle", "object")

    def test_iterators_as_results(self, storage: Storage) -> None:
        """An iterator as a result, also in containers, is the list of its items for every consumer and after a resume."""
        roots = [returned(name).set_name(name) for name in self.reusable]
        expected = [REUSABLE[name][1] for name in self.reusable]
        for resumed in (False, True):
            made = self.stored(storage, taken(roots), taken({"again": roots}))
            one, other = made.run()
            for name, value, given, again in zip(
                self.reusable, expected, one, other["again"], strict=True
            ):
                assert (name, given, again) == (name, value, value)
                assert type(given) is type(again) is type(value), name
            assert made.report is not None
            assert len(made.report.names("loaded")) == (len(roots) if resumed else 0)
            storage.remove_task(WORKFLOW, pattern="taken*")

    def test_files_in_memory(self) -> None:
        """Every consumer of a file in memory reads from the position at which the node returned it."""
        files = [memory_file(io.BytesIO, b"abc"), memory_file(io.StringIO, "abc")]

        given = self.compute(*[read_file(file) for file in files * 2])

        assert given == [b"bc", "bc"] * 2

    def test_single_use_results_are_refused(self) -> None:
        """A result that one consumer would use up, such as an open file, is an error with its place and the remedy."""
        for name in self.refused:
            with pytest.raises(GraphError, match=REFUSED[name].advice) as caught:
                self.compute(taken(refused(name).set_name("wrong")))
            assert "in node 'wrong'" in caught.value.__notes__[-1], name
