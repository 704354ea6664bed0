"""LocalWorkflow: the conformance suite, and what is true in this process only."""

from __future__ import annotations

import threading
import time
import traceback
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalEngine, LocalWorkflow
from functionfuse.engine import Capabilities
from functionfuse.events import Event, NodeFinished, NodeSubmitted
from functionfuse.storage import storage_factory
from functionfuse.testing import EngineTests

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse._kernel.units import Unit


class TestLocalEngine(EngineTests):
    """The conformance suite."""

    max_examples = 100
    runs_side_by_side = False
    make_workflow = staticmethod(LocalWorkflow)


@workflow
def same(value: Any, *needs: Any) -> Any:
    """Give back what was taken."""
    return value


@workflow
def fail(message: str) -> None:
    """Raise."""
    raise ValueError(message)


def run(*nodes: Any) -> Any:
    """Run a new workflow."""
    return LocalWorkflow(*nodes, workflow_name="local").run()


def test_runs_in_written_order() -> None:
    """Nodes run in the order in which their calls were written, not in that of the targets."""
    done: list[int] = []
    nodes = [workflow(done.append)(number) for number in range(5)]

    run(nodes[3], *nodes[::2], nodes[1])

    assert done == [0, 1, 2, 3, 4]


def test_an_engine_that_does_more_than_call_gets_each_unit() -> None:
    """Functions are called without `submit()` only where an engine claims that this is all it does."""
    submitted: list[Unit] = []

    class Submitting(LocalEngine):
        capabilities = Capabilities(inline=True)

        def submit(self, unit: Unit, *given: Any) -> Any:
            submitted.append(unit)
            return super().submit(unit, *given)

    class SubmittingWorkflow(LocalWorkflow):
        def _engine(self) -> Any:
            return Submitting()

    made = SubmittingWorkflow(same(same([1, 2])[1]), workflow_name="submitting")

    assert 2 == made.run()
    assert ["same_0000", "same_0001"] == [unit.node.name for unit in submitted]
    assert ("submitting", "local") == (submitted[1].workflow, submitted[1].engine)


def test_the_time_of_observers_is_not_that_of_nodes() -> None:
    """A record says how long the node took, however long observers of the run take."""
    made = LocalWorkflow(same(same(1)), workflow_name="observed")
    made.add_observer(lambda _: time.sleep(0.3))

    made.run()

    assert made.report is not None
    first, second = made.report
    ended = first.started + first.seconds
    assert (
        second.started - ended >= 0.59
    )  # two events are in between; clocks differ by less than that


def test_runs_in_this_thread() -> None:
    """Nodes run in the thread that calls run(), so debuggers and thread-bound libraries work."""
    assert run(workflow(threading.get_ident)()) == threading.get_ident()


def test_values_are_handed_on_as_they_are() -> None:
    """Without a storage nothing is copied, so objects that cannot be pickled can be passed on."""
    lock = threading.Lock()

    assert run(same(same(lock))) is lock


def test_values_are_let_go() -> None:
    """A value is released after its last consumer, so that a long run fits in memory."""

    class Large:
        pass

    made: list[weakref.ref[Large]] = []

    def make() -> Large:
        large = Large()
        made.append(weakref.ref(large))
        return large

    def alive(*needs: Any) -> bool:
        return made[0]() is not None

    used = workflow(alive)(workflow(make)())

    assert run(used, workflow(alive)(used)) == [True, False]


def test_logged_result_need_not_be_storable(tmp_path: Path) -> None:
    """With a storage, nodes of always_run may return objects that cannot be pickled."""
    lock = workflow(threading.Lock)().set_name("lock")
    made = LocalWorkflow(same(3, lock).set_name("last"), workflow_name="local")
    storage = storage_factory({"kind": "file", "options": {"path": str(tmp_path)}})
    made.set_storage(storage)
    made.always_run("lock")

    assert made.run() == 3
    assert storage.list_tasks("local") == ["last"]


def test_object_that_cannot_be_copied() -> None:
    """A method works on the instance itself if it cannot be copied."""

    @workflow
    class Guarded:
        def __init__(self) -> None:
            self.lock, self.items = threading.Lock(), list[int]()

        def add(self, item: int) -> list[int]:
            with self.lock:
                self.items.append(item)
                return list(self.items)

    guarded = Guarded()

    assert run(guarded.add(1), guarded, guarded.add(2))[::2] == [[1], [1, 2]]


def test_exact_order_of_events() -> None:
    """Each node is finished before the next one is submitted."""
    events: list[Event] = []
    made = LocalWorkflow(same(same(1).set_name("a")).set_name("b"), workflow_name="local")
    made.add_observer(events.append)

    made.run()

    seen = [
        (type(event), event.name if isinstance(event, NodeSubmitted) else event.record.name)
        for event in events
        if isinstance(event, NodeSubmitted | NodeFinished)
    ]
    assert seen == [
        (NodeSubmitted, "a"),
        (NodeFinished, "a"),
        (NodeSubmitted, "b"),
        (NodeFinished, "b"),
    ]


def test_failing_observer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of an observer is logged with its traceback."""

    def raise_always(event: Event) -> None:
        message = "cannot watch"
        raise RuntimeError(message)

    made = LocalWorkflow(same(1), workflow_name="local")
    made.add_observer(raise_always)
    made.run()

    assert "cannot watch" in caplog.text
    assert "raise_always" in caplog.text


def test_traceback_leads_to_the_function() -> None:
    """The traceback of a failure ends at the user's line."""
    with pytest.raises(ValueError, match="bad") as caught:
        run(fail("bad"))

    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.name, last.line) == ("fail", "raise ValueError(message)")


def test_interruption() -> None:
    """An interruption reaches the caller, and nothing runs after it."""
    done: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    first = workflow(interrupt)()
    second = workflow(done.append)("second")

    with pytest.raises(KeyboardInterrupt):
        LocalWorkflow(first, second, workflow_name="local").run(on_error="continue")

    assert done == []
