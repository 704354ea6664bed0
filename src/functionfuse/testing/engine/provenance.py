"""Provenance tests: a resumed run gives what a fresh run gives, and computes no more than that takes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import StaleResultWarning
from functionfuse.events import NodeFinished, NodeKept
from functionfuse.storage import storage_factory
from functionfuse.testing.engine.suite import WORKFLOW, Suite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functionfuse.backends.base import Workflow
    from functionfuse.events import Event
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

    Branch = tuple[Callable[[], Any], ...]

__all__ = ["ProvenanceTests"]


# ---- early cutoff ----


@workflow
def tenth(journal: Journal, number: int) -> int:
    """Hide the last digit of a number."""
    journal.write("tenth")
    return number // 10


@workflow
def plus(journal: Journal, name: str, *numbers: int) -> int:
    """Add numbers."""
    journal.write(name)
    return sum(numbers)


@workflow
class Sum:
    """A sum that methods add to."""

    def __init__(self, start: int) -> None:
        self.sum = start

    def add(self, journal: Journal, number: int) -> int:
        """Add a number."""
        journal.write("add")
        self.sum += number
        return self.sum


# ---- the same fingerprint everywhere ----


@workflow
def parts(count: int, *, scale: float = 2.0) -> dict[str, list[float]]:
    """Make numbers."""
    return {"numbers": [number * scale for number in range(count)]}


@workflow
def collect(values: Any, **named: Any) -> list[Any]:
    """Collect values."""
    return [values, *named.values()]


def replacement(values: Any, **named: Any) -> list[Any]:
    """Another way to collect values."""
    return [*named.values(), values]


def varied() -> list[Any]:
    """Nodes of all kinds: items, containers, defaults, instances, methods, literals of some types."""
    first = parts(3).set_name("first")
    fused = collect(first["numbers"][1], more={"all": [first, Color.RED]}).set_name("fused-a")
    again = collect([fused, np.arange(3)], point=Point(1, "x")).set_name("fused-b")
    replaced = collect(again, key=len).set_name("replaced")
    instance: Any = Sum(first["numbers"][0])
    return [replaced, instance.add(_NO_JOURNAL, first["numbers"][2]).set_name("method")]


class _NoJournal:
    def write(self, line: str) -> None:
        """Do nothing."""


_NO_JOURNAL: Final[Any] = _NoJournal()


# ---- edits ----


class Color(Enum):
    """An enumeration, as an argument."""

    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Point:
    """A data class, as an argument."""

    x: int
    label: str


@workflow
def show(*args: Any, **kwargs: Any) -> str:
    """Show everything that it is given."""
    return repr((args, kwargs))


@workflow
def show_reversed(*args: Any, **kwargs: Any) -> str:
    """Show the same in another order."""
    return repr((kwargs, args))


@workflow
def pair(first: Any, second: Any = 0) -> dict[str, list[Any]]:
    """Two values as items."""
    return {"a": [first, second], "b": [second, first]}


@workflow
class History:
    """An instance that remembers its calls."""

    def __init__(self, start: Any) -> None:
        self.calls = [start]

    def call(self, value: Any) -> list[Any]:
        """Remember a value."""
        self.calls.append(value)
        return list(self.calls)


def history(start: int, *values: int, earlier: int = 0) -> Any:
    """The last of some calls on an instance."""
    instance: Any = History(start)
    for value in range(earlier):
        instance.call(-value)
    for value in values:
        last = instance.call(value)
    return last


def chain(value: int, length: int = 3) -> Any:
    """A value through some nodes."""
    node: Any = value
    for _ in range(length):
        node = pair(node)["a"][0]
    return show(node)


def table(*rows: int) -> Any:
    """Some rows in a list."""
    return show([pair(row) for row in rows])


#: Each branch of the graph with its versions: the second and later ones are edits.
BRANCHES: Final[dict[str, Branch]] = {
    "scalar": (
        lambda: show(C=10),
        lambda: show(C=0.001),
        lambda: show(C="10"),
        lambda: show(C=True),
    ),
    "type": (lambda: show(1), lambda: show(1.0), lambda: show(Color.RED), lambda: show(Color.BLUE)),
    "item": (
        lambda: show(pair(1, 2)["a"]),
        lambda: show(pair(1, 2)["b"]),
        lambda: show(pair(1, 2)["b"][0]),
        lambda: show(pair(1, 2)),
    ),
    "rows": (
        lambda: table(1, 2),
        lambda: table(1, 2, 3),
        lambda: table(3, 1, 2),
        lambda: show({"a": pair(3), "b": pair(1)}),
    ),
    "upstream": (lambda: chain(1), lambda: chain(2), lambda: chain(2, 4), lambda: chain(2, 1)),
    "default": (
        lambda: show(pair(1)),
        lambda: show(pair(1, second=5)),
        lambda: show(pair(5, 1)),
        lambda: show(pair(1, pair(5))),
    ),
    "instance": (
        lambda: history(1, 2),
        lambda: history(3, 2),
        lambda: history(3, 2, earlier=2),
        lambda: history(3, 2, 2),
    ),
    "literal": (
        lambda: show(np.arange(4).tolist(), Point(1, "x"), {1, 2}),
        lambda: show(np.arange(4).tolist(), Point(1, "y"), {1, 2}),
        lambda: show(np.arange(4).tolist(), Point(1, "y"), {1, 3}),
        lambda: show(np.arange(4)[::-1].tolist(), Point(1, "y"), {1, 3}),
    ),
    "array": (
        lambda: show(np.zeros(3)),
        lambda: show(np.zeros(3, "f4")),
        lambda: show(np.zeros((3, 1), "f4")),
        lambda: show(np.eye(3)[0]),
    ),
    "function": (
        lambda: show(1, x=2),
        lambda: show_reversed(1, x=2),
        lambda: show_reversed(1, y=2),
        lambda: show_reversed(2, y=1),
    ),
}


def versions(number: int) -> list[Any]:
    """The graph after some edits of each branch."""
    return [made[number]().set_name(name) for name, made in BRANCHES.items()]


# ---- changed code ----


def scaling(factor: int) -> Any:
    """A function whose code depends on a factor."""

    @workflow
    def scaled(journal: Journal, number: int) -> int:
        journal.write("scaled")
        return number * factor

    return scaled


class ProvenanceTests(Suite):
    """Fingerprints of results, and stale results."""

    def test_fingerprints(self, storage: Storage, tmp_path: Path) -> None:
        """A result has the same fingerprint as with every other backend: functions, methods, fused and replaced ones."""
        reference = storage_factory(str(tmp_path / "reference"))
        for made, used in (
            (self.stored(storage, *varied()), storage),
            (LocalWorkflow(*varied(), workflow_name=WORKFLOW), reference),
        ):
            made.set_storage(used)
            made.replace_func("replaced", replacement)
            made.query("fused-.*").fuse()
            made.run()

        names = ["first", "fused-a", "fused-b", "method", "replaced"]
        expected = reference.info_many(WORKFLOW, names)
        found = storage.info_many(WORKFLOW, names)
        for name in names:
            assert expected[name]["fingerprint"] == found[name]["fingerprint"]
            assert expected[name]["fingerprint"]["derivation"]

    def test_early_cutoff(self, storage: Storage, journal: Journal) -> None:
        """If a stale node gets the same value again, its dependents are kept; otherwise they are computed, with all that they take."""
        seen: list[Event] = []

        def make(number: int) -> Workflow[Any]:
            first = tenth(journal, number).set_name("first")
            other = plus(journal, "other", 1).set_name("other")
            middle = plus(journal, "middle", first, other).set_name("middle")
            instance: Any = Sum(1)
            made = self.stored(
                storage,
                plus(journal, "last", middle, other).set_name("last"),
                instance.add(journal, middle).set_name("method"),
            )
            made.add_observer(seen.append)
            return made

        assert make(10).run() == [3, 3]
        with journal.added() as lines:
            made = make(15)
            assert made.run() == [3, 3]
        assert lines == ["tenth"]
        assert made.report is not None
        assert made.report.summary().endswith("1 computed, 2 loaded, 3 skipped")
        with journal.added() as lines:
            assert make(15).run() == [3, 3]
        assert lines == []

        seen.clear()
        with journal.added() as lines:
            assert make(27).run() == [4, 4]
        assert sorted(lines) == ["add", "last", "middle", "tenth"]
        finished = [event.record.name for event in seen if isinstance(event, NodeFinished)]
        assert sorted(finished) == ["Sum_0000", "first", "last", "method", "middle", "other"]
        assert not any(isinstance(event, NodeKept) for event in seen)

    def test_edits(self, storage: Storage) -> None:
        """Whatever is changed in the graph, the next run gives the values of a fresh one."""
        for number in range(4):
            fresh = LocalWorkflow(*versions(number), workflow_name="fresh").run()

            assert self.stored(storage, *versions(number)).run() == fresh, number

    def test_changed_code(self, storage: Storage, journal: Journal) -> None:
        """Results of changed code are loaded with one warning, and computed with on_stale="recompute"."""

        def make(factor: int, **options: Any) -> Workflow[Any]:
            scaled = scaling(factor)
            nodes = [scaled(journal, number).set_name(f"scaled-{number}") for number in (1, 2)]
            made = self.new_workflow(*nodes)
            made.set_storage(storage, **options)
            return made

        make(2).run()
        with journal.added() as lines, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert make(3).run() == [2, 4]
        assert lines == []
        found = [each for each in caught if each.category is StaleResultWarning]
        assert len(found) == 1
        assert "scaled-1" in str(found[0].message)

        with journal.added() as lines:
            assert make(3, on_stale="recompute").run() == [3, 6]
            assert make(3).run() == [3, 6]
        assert lines == ["scaled", "scaled"]
