"""Observation tests: plans, events and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.events import (
    Event,
    NodeFailed,
    NodeFinished,
    NodeSubmitted,
    RunFinished,
    RunStarted,
)
from functionfuse.plan import Action
from functionfuse.testing.engine.options import noted
from functionfuse.testing.engine.suite import WORKFLOW, Suite

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal

__all__ = ["ObservingTests"]


@workflow
def fail(message: str, *needs: Any) -> int:
    """Raise."""
    raise ValueError(message)


def finished_after(events: list[Event], name: str) -> int:
    """The position of the event NodeFinished of a node."""
    return next(
        position
        for position, event in enumerate(events)
        if isinstance(event, NodeFinished) and event.record.name == name
    )


class ObservingTests(Suite):
    """Observation of a run."""

    # ---- events ----

    def test_events_of_one_node(self, journal: Journal) -> None:
        """An observer sees the run start, the node submitted and finished, and the run finish."""
        events: list[Event] = []
        made = self.new_workflow(noted(journal, "x").set_name("x"))
        made.add_observer(events.append)

        made.run()

        started, submitted, finished, ended = events
        assert isinstance(started, RunStarted)
        assert (started.workflow, started.plan.names(Action.COMPUTE)) == (WORKFLOW, ["x"])
        assert submitted == NodeSubmitted("x")
        assert isinstance(finished, NodeFinished)
        assert (finished.record.name, finished.record.status) == ("x", "computed")
        assert ended == RunFinished(WORKFLOW, None)

    def test_events_keep_the_order_of_the_graph(self, journal: Journal) -> None:
        """Each node is submitted before it finishes, and finishes after its dependencies."""
        events: list[Event] = []
        top = noted(journal, "x").set_name("top")
        sides = [noted(journal, "x", top).set_name(name) for name in ("left", "right")]
        made = self.new_workflow(noted(journal, "x", *sides).set_name("bottom"))
        made.add_observer(events.append)

        made.run()

        names = ("top", "left", "right", "bottom")
        ends = {name: finished_after(events, name) for name in names}
        assert ends["top"] < min(ends["left"], ends["right"])
        assert ends["bottom"] > max(ends["left"], ends["right"])
        assert all(events.index(NodeSubmitted(name)) < ends[name] for name in names)
        assert len(events) == 2 + 2 * len(names)

    def test_events_of_a_failure(self, journal: Journal) -> None:
        """An observer sees which node failed, with the exception that the caller gets."""
        events: list[Event] = []
        made = self.new_workflow(noted(journal, "x", fail("bad").set_name("bad")))
        made.add_observer(events.append)

        with pytest.raises(ValueError, match="bad") as caught:
            made.run()

        assert events[1] == NodeSubmitted("bad")
        failed, ended = events[-2:]
        assert isinstance(failed, NodeFailed)
        assert not [event for event in events if isinstance(event, NodeFinished)]
        assert (failed.record.name, failed.record.status) == ("bad", "failed")
        assert failed.error is caught.value
        assert ended == RunFinished(WORKFLOW, caught.value)

    def test_failing_observer(self, journal: Journal) -> None:
        """An exception of an observer does not fail the run, and the other observers get all events."""
        events: list[Event] = []

        def raise_always(event: Event) -> None:
            raise RuntimeError(event)

        made = self.new_workflow(noted(journal, "x"))
        made.add_observer(raise_always)
        made.add_observer(events.append)

        assert made.run() == "x"
        assert len(events) == 4

    # ---- reports ----

    def test_report(self, storage: Storage, journal: Journal, tmp_path: Path) -> None:
        """After a run the report has the status of each node; it can be printed and written as HTML."""

        def make() -> Any:
            first = noted(journal, "first").set_name("first")
            second = noted(journal, "second", first).set_name("second")
            return self.stored(storage, noted(journal, "third", second).set_name("third"))

        assert make().report is None
        made = make()
        made.run()
        assert made.report.names("computed") == ["first", "second", "third"]
        assert made.report["third"].seconds > 0
        assert made.report["third"].worker
        assert made.report["third"].nbytes > 0
        assert made.report["third"].digest == storage.info(WORKFLOW, "third")["value"]

        storage.remove_task(WORKFLOW, "third")
        made.run()
        report = made.report
        assert (report.names("loaded"), report.names("computed")) == (["second"], ["third"])
        assert report.summary() == f"workflow {WORKFLOW!r}: 1 computed, 1 loaded, 1 skipped"
        rows = {row.split()[0]: row for row in str(report).splitlines() if row.strip()}
        assert "skipped" in rows["first"]
        assert "loaded" in rows["second"]
        assert "computed" in rows["third"]
        report.to_html(tmp_path / "report.html")
        assert "<td>third</td>" in (tmp_path / "report.html").read_text()

    def test_report_of_a_failure(self, journal: Journal) -> None:
        """The report of a failed run has the failed node and the nodes that were not started."""
        done = noted(journal, "done").set_name("done")
        failed = fail("bad", done).set_name("failed")
        made = self.new_workflow(noted(journal, "never", failed).set_name("never"))

        with pytest.raises(ValueError, match="bad"):
            made.run()

        assert made.report is not None
        assert made.report.names("computed") == ["done"]
        assert made.report.names("failed") == ["failed"]
        summary = f"workflow {WORKFLOW!r}: 1 computed, 1 failed, 1 not started"
        assert made.report.summary() == summary
        assert "not started" in str(made.report).splitlines()[-1]

    # ---- plans ----

    def test_plan_is_what_happens(self, storage: Storage, journal: Journal) -> None:
        """Before each run, the plan has the nodes that the run computes, loads and skips, with reasons."""
        first = noted(journal, "first").set_name("first")
        second = noted(journal, "second", first).set_name("second")
        made = self.stored(storage, noted(journal, "third", second).set_name("third"))

        assert made.plan().names(Action.COMPUTE) == ["first", "second", "third"]
        assert made.plan()["first"].reason == "not stored; needed by 'second'"
        assert journal.lines() == []
        made.run()

        storage.remove_task(WORKFLOW, "third")
        plan = made.plan()
        assert {node.name: node.action for node in plan} == {
            "first": Action.SKIP,
            "second": Action.LOAD,
            "third": Action.COMPUTE,
        }
        assert plan["third"].reason == "not stored; a target"
        with journal.added() as lines:
            made.run()
        assert lines == ["third"]
        assert made.report is not None
        assert [record.name for record in made.report] == ["second", "third"]

        made.always_run("second")
        assert made.plan().names(Action.COMPUTE) == ["second"]
        assert "second" in str(made.plan())
        with journal.added() as lines:
            made.run()
        assert lines == ["second"]
