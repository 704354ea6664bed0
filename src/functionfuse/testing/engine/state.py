"""Instance tests: stateful nodes whose method calls run in program order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from functionfuse import workflow
from functionfuse.testing.engine.suite import Suite

if TYPE_CHECKING:
    from functionfuse.testing.engine.suite import Journal

__all__ = ["StateTests"]


@workflow
class Tally:
    """A number that calls add to."""

    def __init__(self, start: int = 0) -> None:
        self.total = start

    def add(self, number: int, *, times: int = 1) -> int:
        """Add and return the sum so far."""
        for _ in range(times):
            self._add(number)
        return self.total

    def _add(self, number: int) -> None:
        self.total += number

    def absorb(self, other: Self) -> int:
        """Add one, then return the sum of another tally."""
        self.total += 1
        return other.total

    def __call__(self, factor: int) -> int:
        self.total *= factor
        return self.total

    def __getitem__(self, key: str) -> int:
        return {"total": self.total}[key]


@workflow
class Collector:
    """A list that calls extend and return."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def append(self, item: Any) -> list[Any]:
        """Append, and return the list itself."""
        self.items.append(item)
        return self.items


@workflow
class Noted:
    """Records its calls."""

    def __init__(self, journal: Journal, name: str) -> None:
        self.journal, self.name = journal, name
        self.journal.write(f"{name} made")

    def step(self, word: str) -> str:
        """Write a word."""
        self.journal.write(f"{self.name} {word}")
        return word


@workflow
@dataclass
class Shelf:
    """A dataclass as a stateful node."""

    name: str
    books: list[str] = field(default_factory=list)

    def put(self, book: str) -> int:
        """Add a book and return the number of books."""
        self.books.append(book)
        return len(self.books)


@workflow
def total_of(tally: Any) -> int:
    """Inspect an instance."""
    total: int = tally.total
    return total


@workflow
def totals_of(tallies: dict[str, list[Any]]) -> list[int]:
    """Inspect instances within containers."""
    return [tally.total for each in tallies.values() for tally in each]


@workflow
def same(value: Any) -> Any:
    """Return the argument."""
    return value


class StateTests(Suite):
    """Decorated classes."""

    def test_methods_share_state(self) -> None:
        """Calls on one instance see the state after earlier calls, whatever the order of the targets."""
        tally = Tally(start=10)
        first, second, third = tally.add(1), tally.add(2), tally.add(number=3, times=2)

        assert self.compute(third, first, second) == [19, 11, 13]

    def test_methods_run_in_program_order(self, journal: Journal) -> None:
        """The constructor runs first, then the calls in program order, up to the last required one."""
        noted = Noted(journal, "it")
        noted.step("one")
        second = noted.step("two")
        noted.step("three")

        assert self.compute(second) == "two"
        assert journal.lines() == ["it made", "it one", "it two"]

    def test_results_of_methods_are_nodes(self) -> None:
        """Results of methods can be arguments of functions, of later methods, and of constructors."""
        first = Tally(same(5))
        second = Tally(start=first.add(same(1)))
        back = first.add(second.add(first.add(1), times=2))

        assert self.compute(back, same({"key": back})) == [27, {"key": 27}]

    def test_instances_are_independent(self, journal: Journal) -> None:
        """Each call of a class creates a separate instance."""
        one, other = Noted(journal, "one"), Noted(journal, "other")
        targets = [one.step("a"), other.step("b"), one.step("c")]

        assert self.compute(*targets) == ["a", "b", "c"]
        lines = journal.lines()
        assert [line for line in lines if line.startswith("one")] == ["one made", "one a", "one c"]
        assert [line for line in lines if line.startswith("other")] == ["other made", "other b"]

    def test_each_run_makes_a_new_object(self) -> None:
        """A run does not reuse instances or mutable literals of the previous run."""
        tally, collector = Tally(), Collector([1])
        made = self.new_workflow(tally.add(2), collector.append(2))

        assert made.run() == [2, [1, 2]]
        assert made.run() == [2, [1, 2]]

    def test_instance_as_argument(self) -> None:
        """An instance as an argument has the state after the calls recorded before it."""
        tally = Tally(start=1)
        made = total_of(tally)
        tally.add(10)
        between = totals_of({"key": [tally]})
        tally.add(100)

        assert self.compute(total_of(tally), between, made) == [111, [11], 1]

    def test_instance_as_target(self) -> None:
        """An instance as a target has the state after the calls recorded before the workflow was created."""
        tally = Tally(start=1)
        tally.add(10)
        early = self.new_workflow(tally)
        last = tally.add(100)

        assert early.run().total == 11
        value, instance = self.compute(last, tally)
        assert (value, instance.total) == (111, 111)

    def test_item_of_instance(self) -> None:
        """An item of an instance is an item of its state at that point."""
        tally = Tally(start=1)
        before = tally["total"]
        tally.add(1)

        assert self.compute(before, same([before]), tally["total"]) == [1, [1], 2]

    def test_instance_in_its_own_method(self) -> None:
        """An instance as an argument of its own method has the state before that call."""
        tally = Tally(start=5)

        assert self.compute(tally.absorb(tally), tally.add(0)) == [5, 6]
        other = Tally(start=5)
        assert self.compute(other.absorb(other)) == 5

    def test_earlier_results_stay(self) -> None:
        """Later calls do not change the result of a method, even if it is a part of the instance."""
        collector = Collector([])
        first, second = collector.append("a"), collector.append("b")
        used = same([first])
        third = collector.append("c")

        given = self.compute(first, second, third, used, collector)

        assert given[:4] == [["a"], ["a", "b"], ["a", "b", "c"], [["a"]]]
        assert given[4].items == ["a", "b", "c"]

    def test_earlier_instances_stay(self) -> None:
        """Later calls do not change an instance that is an argument or a target."""
        collector = Collector([])
        collector.append("a")
        taken = same(collector)
        last = collector.append("b")

        instance, value = self.compute(taken, last)

        assert (instance.items, value) == (["a"], ["a", "b"])

    def test_calling_an_instance(self) -> None:
        """Calling an instance calls its `__call__`, in order with its methods."""
        tally = Tally(start=2)
        tally.add(1)
        tripled = tally(3)

        assert self.compute(tally.add(1), tripled) == [10, 9]

    def test_dataclasses(self) -> None:
        """A decorated dataclass is a stateful node with its fields as arguments."""
        shelf = Shelf(same("poems"))
        shelf.put("Odes")
        count = shelf.put("Sonnets")

        assert self.compute(count) == 2
        instance = self.compute(shelf)
        assert (instance.name, instance.books) == ("poems", ["Odes", "Sonnets"])

    def test_local_and_derived_classes(self) -> None:
        """Local classes and subclasses of decorated classes can be nodes."""
        offset = 100

        @workflow
        class Shifted(Tally):
            def add(self, number: int, *, times: int = 1) -> int:
                result: int = super().add(number, times=times)
                return result + offset

        shifted = Shifted(start=1)
        shifted.add(1)

        assert self.compute(shifted.add(1), total_of(shifted)) == [103, 3]
