"""Recovery from damaged results on an engine that schedules, in any order of completion."""

from __future__ import annotations

import pickle
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ordered_engine import OrderedWorkflow

from functionfuse import workflow
from functionfuse.errors import CorruptResult, DamagedResultWarning
from functionfuse.testing.programs import Program, describe
from functionfuse.testing.strategies import graphs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ordered_engine import Handle


class MemoryStorage:
    """Pickled results by name, some of them damaged until they are stored again."""

    always_read = False

    def __init__(self, results: Mapping[str, bytes] = {}, damaged: Iterable[str] = ()) -> None:
        """Keep a copy of these."""
        self.results = dict(results)
        self.damaged = set(damaged)

    def save(self, workflow_name: str, task_name: str, obj: Any) -> None:
        """Store a result."""
        self.results[task_name] = pickle.dumps(obj)
        self.damaged.discard(task_name)

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Load a result, unless it is damaged."""
        if task_name in self.damaged:
            message = "damaged"
            raise CorruptResult(message)
        return pickle.loads(self.results[task_name])

    def file_exists(self, workflow_name: str, task_name: str) -> bool:
        """Tell whether there is a result."""
        return task_name in self.results

    def list_tasks(self, workflow_name: str, pattern: str = "") -> list[str]:
        """The names of the results."""
        return list(self.results)


@workflow
class Total:
    """A sum of numbers."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.total = 0

    def add(self, number: int) -> int:
        """Add a number; return the sum."""
        self.total += number
        return self.total


@workflow
def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def test_a_unit_says_nothing_of_a_later_unit_of_its_parent() -> None:
    """A node that is computed again is in flight until its own unit is done, though users of its first value are."""
    total: Any = Total()
    first, second = total.add(1).set_name("first"), total.add(2).set_name("second")
    targets = double(first).set_name("user"), second, double(second).set_name("last")
    # the calls before are done, and their only user is in flight, when damage of "second" shows:
    # they are made again; the user is done before them, with the value of the first time
    order = deque(["Total_0000", "first", "second", "user"])

    def choose(pending: list[Handle]) -> Handle:
        wanted = order.popleft() if order else pending[0].unit.node.name
        return next(handle for handle in pending if handle.unit.node.name == wanted)

    storage = MemoryStorage({"second": pickle.dumps(3)}, damaged=["second"])
    made = OrderedWorkflow(*targets, choose=choose)
    made.set_storage(storage)

    with pytest.warns(DamagedResultWarning, match="'second'"):
        assert [2, 3, 6] == made.run()
    assert not order


# each damaged result that is loaded is a warning, which other tests look at
@pytest.mark.filterwarnings("ignore::functionfuse.errors.DamagedResultWarning")
@settings(max_examples=100, deadline=None)
@given(graphs(), st.data(), st.randoms(use_true_random=False))
def test_any_part_may_be_damaged_in_any_order(
    program: Program, data: st.DataObject, random: Any
) -> None:
    """With any missing or damaged results, and any order in which units end, the results are the same."""
    storage = MemoryStorage()
    made = OrderedWorkflow(*program.nodes(), choose=random.choice)
    made.set_storage(storage)
    made.run()
    fates = st.sampled_from(["stored", "missing", "damaged"])
    for name in [*storage.results]:
        fate = data.draw(fates, f"fate of {name!r}")
        if fate == "missing":
            del storage.results[name]
        elif fate == "damaged":
            storage.damaged.add(name)
    found = made.run()
    values = [found] if len(program.targets) == 1 else found

    assert [describe(value) for value in program.values()] == [describe(each) for each in values]
