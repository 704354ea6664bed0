"""Early cutoff on an engine that schedules: any graph, edit, damage and order of completion gives the values of a fresh run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ordered_engine import OrderedWorkflow

from functionfuse import workflow
from functionfuse._graph.nodes import Kind
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import CorruptResult
from functionfuse.storage.kinds import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from functionfuse.storage.base import SavedResult


class DamagedStorage(MemoryStorage):
    """Some results are damaged until they are stored again."""

    def __init__(self) -> None:
        """Start empty and without damage."""
        super().__init__(uuid4().hex)
        self.damaged: set[str] = set()

    def save(
        self,
        workflow_name: str,
        task_name: str,
        obj: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> SavedResult:
        """Store a result."""
        self.damaged.discard(task_name)
        return super().save(workflow_name, task_name, obj, metadata=metadata)

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Load a result, unless it is damaged."""
        if task_name in self.damaged:
            message = "damaged"
            raise CorruptResult(message)
        return super().read_task(workflow_name, task_name)


@workflow
def total(values: Sequence[int], salt: int) -> int:
    """A sum that most changes of the salt do not change."""
    return sum(values) + salt // 4


@workflow
class Total:
    """Sums of what its methods are given; their results hide a part of it."""

    def __init__(self, values: Sequence[int], salt: int) -> None:
        """Begin with a sum."""
        self.sum = sum(values) + salt // 4

    def add(self, values: Sequence[int], salt: int) -> int:
        """Add values; return a tenth of the sum."""
        self.sum += sum(values) + salt // 4
        return self.sum // 10


@dataclass(frozen=True)
class Draft:
    """A call: its kind, the earlier calls whose results it takes, and its salt."""

    kind: str
    picks: tuple[int, ...]
    salt: int
    instance: int


drafts = st.builds(
    Draft,
    st.sampled_from(["function", "function", "make", "method"]),
    st.lists(st.integers(0, 20), max_size=3).map(tuple),
    st.integers(0, 9),
    st.integers(0, 20),
)


def write(program: Sequence[Draft]) -> list[Any]:
    """Record the calls of a program; return the nodes whose values it has."""
    values: list[Any] = []
    instances: list[Any] = []
    for number, draft in enumerate(program):
        taken = [values[pick % len(values)] for pick in draft.picks] if values else []
        if draft.kind == "make":
            instances.append(Total(taken, draft.salt))
        elif draft.kind == "method" and instances:
            made = instances[draft.instance % len(instances)].add(taken, draft.salt)
            values.append(made.set_name(f"method-{number}"))
        else:
            values.append(total(taken, draft.salt).set_name(f"total-{number}"))
    return values


class Study:
    """A program that is edited and run again with one storage."""

    def __init__(self, program: list[Draft], picks: list[int], *, fuses: bool, random: Any) -> None:
        """Take the values of some nodes as targets; `random` chooses the order of completion."""
        self.program, self.picks = program, picks
        self.fuses, self.random = fuses, random
        self.storage = DamagedStorage()

    def targets(self) -> list[Any]:
        """Record the calls of the program as it is now."""
        nodes = write(self.program)
        return [nodes[pick % len(nodes)] for pick in self.picks]

    def run_fresh(self) -> Any:
        """The values without a storage."""
        return LocalWorkflow(*self.targets(), workflow_name="fresh").run()

    def run(self) -> tuple[Any, set[str], set[str]]:
        """The values, the functions whose stored results were fresh, and the nodes that were computed."""
        made = OrderedWorkflow(*self.targets(), choose=self.random.choice)
        made.set_storage(self.storage)
        if self.fuses:
            made.query().fuse()
        fresh = set(self.fresh_functions(made))
        values = made.run()
        assert made.report is not None
        return values, fresh, set(made.report.names("computed"))

    def fresh_functions(self, made: OrderedWorkflow) -> Iterator[str]:
        """The functions that a run must not compute: instances are not stored."""
        provenance = made.plan().provenance
        headers = self.storage.info_many("ordered", list(made.graph.nodes))
        assert provenance is not None
        for node in made.graph:
            if node.kind is Kind.FUNCTION and node.name in headers.keys() - self.storage.damaged:
                found = headers[node.name]["fingerprint"]["derivation"]
                if found == provenance.expected(node.number):
                    yield node.name


def edit(study: Study, data: st.DataObject) -> None:
    """Change one call, and remove or damage stored results."""
    number = data.draw(st.integers(0, len(study.program) - 1), "edited")
    salt = data.draw(st.integers(0, 9), "salt")
    changed = st.just(replace(study.program[number], salt=salt))
    study.program[number] = data.draw(st.one_of(changed, drafts), "edit")
    assume(write(study.program))
    for name in study.storage.list_tasks("ordered"):
        fate = data.draw(st.sampled_from(["stored", "stored", "missing", "damaged"]), name)
        if fate == "missing":
            study.storage.remove_task("ordered", name)
        elif fate == "damaged":
            study.storage.damaged.add(name)


# each damaged result that is loaded is a warning, which other tests look at
@pytest.mark.filterwarnings("ignore::functionfuse.errors.DamagedResultWarning")
@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(drafts, min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_any_edit_gives_the_values_of_a_fresh_run(
    data: st.DataObject, program: list[Draft], random: Any
) -> None:
    """Edited graphs with stored, missing and damaged results; what is stored and fresh is not computed."""
    assume(write(program))
    picks = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=3), "targets")
    fuses = data.draw(st.booleans(), "fuses")
    study = Study(program, picks, fuses=fuses, random=random)
    study.run()
    for _ in range(data.draw(st.integers(1, 3), "number of edits")):
        edit(study, data)

        values, fresh, computed = study.run()
        assert values == study.run_fresh()
        assert not fresh & computed
        again, _, computed = study.run()
        assert again == values
        assert not computed
