"""Fingerprints and early cutoff within a run: damage, failures, other runs, methods, events and bars."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import (
    DamagedResultWarning,
    IgnoredProvenanceWarning,
    StaleResultWarning,
    StorageError,
)
from functionfuse.events import Event, NodeFinished, NodeKept, RunStarted
from functionfuse.observers.progress import ProgressBar
from functionfuse.storage.kinds import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

WORKFLOW = "study"
ENGINES: tuple[dict[str, Any], ...] = ({}, {"workers": 2, "kind": "threads"}, {"workers": 2})


@workflow
def tenth(number: int) -> int:
    """Hide the last digit."""
    return number // 10


@workflow
def add(*numbers: int) -> int:
    """Add."""
    return sum(numbers)


@workflow
def invert(number: int) -> float:
    """Divide by a number."""
    return 1 / number


@workflow
class Sum:
    """A sum that methods add to."""

    def __init__(self, start: int) -> None:
        """Begin with a number."""
        self.sum = start

    def add(self, number: int) -> int:
        """Add a number."""
        self.sum += number
        return self.sum


def scaling(factor: int) -> Any:
    """A function whose code depends on a factor."""

    @workflow
    def scaled(number: int) -> int:
        return number * factor

    return scaled


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    """An empty storage."""
    return FileStorage(tmp_path / "storage")


def stored(storage: Any, *nodes: Any, **options: Any) -> LocalWorkflow:
    """A workflow with a storage."""
    made = LocalWorkflow(*nodes, workflow_name=WORKFLOW, **options)
    made.set_storage(storage)
    return made


def damage(storage: FileStorage, tmp_path: Path, name: str) -> None:
    """Change the last byte of a stored result."""
    path = tmp_path / "storage" / WORKFLOW / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)


def derivation(storage: FileStorage, name: str) -> str:
    """The derivation of a stored result."""
    found: str = storage.info(WORKFLOW, name)["fingerprint"]["derivation"]
    return found


def statuses(made: LocalWorkflow) -> dict[str, str]:
    """The status of each node in the last run."""
    assert made.report is not None
    return {name: made.report.status(name) for name in made.graph.nodes}


# ---- results that are stored since the plan was made ----


@pytest.mark.parametrize("options", ENGINES)
def test_another_result_that_is_stored_meanwhile_is_not_used(
    storage: FileStorage, options: dict[str, Any]
) -> None:
    """Only a result with the same derivation is loaded in place of a computation."""
    made = stored(storage, tenth(20).set_name("x"), **options)
    made.add_observer(
        lambda event: (
            stored(storage, tenth(30).set_name("x")).run() if type(event) is RunStarted else None
        )
    )

    assert made.run() == 2
    assert made.report is not None
    assert made.report["x"].status == "computed"
    assert storage.read_task(WORKFLOW, "x") == 2


@pytest.mark.parametrize("options", ENGINES)
def test_the_same_result_that_is_stored_meanwhile_is_loaded(
    storage: FileStorage, options: dict[str, Any]
) -> None:
    """Also in place of a stale one."""
    stored(storage, tenth(30).set_name("x")).run()
    made = stored(storage, tenth(20).set_name("x"), **options)
    made.add_observer(
        lambda event: (
            stored(storage, tenth(20).set_name("x")).run() if type(event) is RunStarted else None
        )
    )

    assert made.run() == 2
    assert made.report is not None
    assert made.report["x"].status == "loaded"


# ---- methods ----


def test_a_stale_method_that_runs_for_its_instance_is_stored_if_its_value_is_used(
    storage: FileStorage,
) -> None:
    """Otherwise its stored result stays: the run did not need it."""

    def make(start: int, *, both: bool) -> LocalWorkflow:
        instance: Any = Sum(start)
        first = instance.add(1).set_name("first")
        second = instance.add(2).set_name("second")
        return stored(storage, *((first, second) if both else (second,)))

    assert make(0, both=True).run() == [1, 3]
    assert make(10, both=False).run() == 13
    assert storage.read_task(WORKFLOW, "first") == 1
    assert make(10, both=True).run() == [11, 13]
    assert storage.read_task(WORKFLOW, "first") == 11


def test_a_fresh_method_that_runs_for_its_instance_is_not_stored_again(
    storage: FileStorage,
) -> None:
    """A later call that is new makes it run, and its stored result counts."""
    instance: Any = Sum(0)
    stored(storage, instance.add(1).set_name("first")).run()
    before = storage.info(WORKFLOW, "first")
    instance = Sum(0)
    nodes = [instance.add(1).set_name("first"), instance.add(2).set_name("second")]

    assert stored(storage, *nodes).run() == [1, 3]
    assert storage.info(WORKFLOW, "first") == before


# ---- damage ----


# code that has changed is a warning, too
@pytest.mark.filterwarnings("ignore::functionfuse.errors.StaleResultWarning")
@pytest.mark.parametrize("options", ENGINES)
def test_a_damaged_result_of_other_code_gets_the_fingerprint_of_the_code_that_ran(
    storage: FileStorage, tmp_path: Path, options: dict[str, Any]
) -> None:
    """And so do results that are computed from it afterwards: nothing is stale in the next run."""

    def make(factor: int, number: int) -> LocalWorkflow:
        scaled = scaling(factor)(3).set_name("scaled")
        return stored(storage, add(scaled, number).set_name("sum"), **options)

    assert make(2, 1).run() == 7
    damage(storage, tmp_path, "scaled")
    with pytest.warns(DamagedResultWarning, match="'scaled'"):
        assert make(5, 2).run() == 17

    made = make(5, 2)
    plan = made.plan()
    assert plan.provenance is not None
    for name in ("scaled", "sum"):
        number = made.graph.nodes[name].number
        assert derivation(storage, name) == plan.provenance.expected(number)
    with warnings.catch_warnings():
        warnings.simplefilter("error", StaleResultWarning)
        assert made.run() == 17


@pytest.mark.parametrize("options", ENGINES)
def test_a_kept_result_that_is_damaged_is_computed(
    storage: FileStorage, tmp_path: Path, options: dict[str, Any]
) -> None:
    """With all that it takes, which nothing else needed."""

    def make(number: int) -> LocalWorkflow:
        first = tenth(number).set_name("first")
        other = add(5).set_name("other")
        return stored(storage, add(first, other).set_name("sum"), **options)

    assert make(10).run() == 6
    damage(storage, tmp_path, "sum")
    with pytest.warns(DamagedResultWarning, match="'sum'"):
        assert make(11).run() == 6
    assert make(11).run() == 6


# code that has changed is a warning, too
@pytest.mark.filterwarnings("ignore::functionfuse.errors.StaleResultWarning")
@pytest.mark.parametrize("options", ENGINES)
def test_a_damaged_result_beside_a_stale_one_decides_too(
    storage: FileStorage, tmp_path: Path, options: dict[str, Any]
) -> None:
    """A loaded result of other code that is computed again changes its dependents, which waited for others only."""

    def make(factor: int, number: int, more: int) -> LocalWorkflow:
        scaled = scaling(factor)(3).set_name("scaled")
        first = tenth(number).set_name("first")
        both = add(scaled, first).set_name("both")
        return stored(storage, both, add(scaled, more).set_name("other"), **options)

    assert make(2, 10, 1).run() == [7, 7]
    damage(storage, tmp_path, "scaled")
    with pytest.warns(DamagedResultWarning, match="'scaled'"):
        values = make(5, 11, 2).run()

    assert values[1] == 17
    # whichever was done first: the value and its fingerprint belong together
    made = make(5, 11, 2)
    plan = made.plan()
    assert plan.provenance is not None
    number = made.graph.nodes["both"].number
    is_new = derivation(storage, "both") == plan.provenance.expected(number)
    assert values[0] == (16 if is_new else 7)


# ---- failures ----


@pytest.mark.parametrize("options", ENGINES)
@pytest.mark.parametrize("on_error", ["raise", "continue"])
def test_a_node_whose_stale_parent_fails_is_not_started(
    storage: FileStorage, options: dict[str, Any], on_error: Any
) -> None:
    """Its stored result stays, and is kept as soon as the parent gets its earlier value."""

    def make(number: int) -> LocalWorkflow:
        ratio = invert(number).set_name("ratio")
        total = add(ratio, 1).set_name("total")
        free = tenth(70).set_name("free")
        return stored(storage, add(total, 1).set_name("last"), free, **options)

    make(1).run()
    made = make(0)
    with pytest.raises(ZeroDivisionError):
        made.run(on_error=on_error)

    assert made.report is not None
    assert statuses(made) | {"free": ""} == {
        "ratio": "failed",
        "total": "not started",
        "last": "not started",
        "free": "",
    }
    assert "ratio" in made.report.why("last")
    again = make(1)
    assert again.run() == [3, 7]
    assert statuses(again)["total"] == "skipped"


# ---- events ----


@pytest.mark.parametrize("options", ENGINES)
def test_events_and_bar_of_kept_nodes(storage: FileStorage, options: dict[str, Any]) -> None:
    """A kept node is an event of its own unless it is loaded; the bar ends with all nodes that ran."""

    def make(number: int, last: int) -> LocalWorkflow:
        first = tenth(number).set_name("first")
        kept = add(first, 1).set_name("kept")
        again = add(kept, 2).set_name("again")
        taken = add(first, 3).set_name("taken")
        return stored(storage, again, add(taken, last).set_name("last"), **options)

    assert make(10, 1).run() == [4, 5]
    made = make(11, 2)
    seen: list[Event] = []
    text = io.StringIO()
    made.add_observer(seen.append)
    made.add_observer(ProgressBar(Console(file=text, force_terminal=True, width=200)))

    assert made.run() == [4, 6]
    assert statuses(made) == {
        "first": "computed",
        "kept": "skipped",
        "again": "loaded",
        "taken": "loaded",
        "last": "computed",
    }
    assert made.report is not None
    assert "same values" in made.report.why("kept")
    assert [event.name for event in seen if isinstance(event, NodeKept)] == ["kept"]
    finished = [event.record.name for event in seen if isinstance(event, NodeFinished)]
    assert sorted(finished) == ["again", "first", "last", "taken"]
    assert "4/4" in text.getvalue()


# ---- task groups ----


@pytest.mark.parametrize("options", ENGINES)
def test_groups_with_nodes_that_may_be_kept(storage: FileStorage, options: dict[str, Any]) -> None:
    """Nodes of the group on both sides of such a node run one by one."""

    def make(number: int, last: int) -> LocalWorkflow:
        first = tenth(number).set_name("first")
        middle = add(first, 1).set_name("middle")
        made = stored(storage, add(middle, last).set_name("last"), **options)
        made.query().fuse()
        return made

    assert make(10, 1).run() == 3
    made = make(11, 2)
    assert made.run() == 4
    assert statuses(made) == {"first": "computed", "middle": "loaded", "last": "computed"}
    assert make(35, 2).run() == 6
    assert statuses(make_and_run(make, 35, 2)) == {
        "first": "skipped",
        "middle": "skipped",
        "last": "loaded",
    }


def make_and_run(make: Callable[..., LocalWorkflow], *args: int) -> LocalWorkflow:
    """A workflow that has run."""
    made = make(*args)
    made.run()
    return made


# ---- stamps that cannot be written ----


class UnstampableStorage(FileStorage):
    """Accepts no fingerprints."""

    def stamp(
        self,
        workflow_name: str,
        fingerprints: Mapping[str, Mapping[str, Any]],
        *,
        headers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Fail."""
        message = "the disk is full"
        raise StorageError(message)


def test_stamps_that_cannot_be_written_are_a_warning(tmp_path: Path) -> None:
    """The run has its value; the next one computes the dependents."""

    def make(storage: Any, number: int) -> LocalWorkflow:
        return stored(storage, add(tenth(number).set_name("first"), 1).set_name("sum"))

    path = tmp_path / "storage"
    make(FileStorage(path), 10).run()
    with pytest.warns(IgnoredProvenanceWarning, match=r"the disk is full.*computes them again"):
        assert make(UnstampableStorage(path), 11).run() == 2
    made = make(FileStorage(path), 11)
    assert made.run() == 2
    assert statuses(made) == {"first": "loaded", "sum": "computed"}
