"""Failures on Ray: workers and actors that die, retries, and what cannot be pickled."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from ray_nodes import Locked, Weights, both, die, die_once, noted, ray_workflow, same

from functionfuse import workflow
from functionfuse.errors import EngineError
from functionfuse.testing.engine.suite import Journal, notes_of

ray = pytest.importorskip("ray")


if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.storage.base import Storage

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Unsendable(Exception):
    """Cannot be pickled, and has no informative representation."""

    def __init__(self) -> None:  # noqa: D107
        super().__init__(threading.Lock())


class TestFailures:
    """Failures of nodes and workers, and of pickling."""

    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_workers_that_die(self, how: str, journal: Journal) -> None:
        """A worker that ends without a word is an error that names the node; nothing is run again unasked."""
        dead = die(how, noted(journal, "before")).set_name("dead")
        made = ray_workflow(noted(journal, "after", dead))

        with pytest.raises(EngineError, match="worker of node 'dead' died") as caught:
            made.run()

        assert any("in node 'dead' (die at" in note for note in notes_of(caught.value))
        assert ["before"] == journal.lines()

    def test_workers_of_groups_that_die(self) -> None:
        """The same holds for task groups."""
        made = ray_workflow(die("exit", same(1).set_name("a")).set_name("b"))
        made.query().fuse()

        with pytest.raises(EngineError, match=r"worker of node 'a .. b \(2 nodes\)' died"):
            made.run()

    def test_actors_that_die(self) -> None:
        """The same holds for the worker of an instance, and later calls on it do not run."""
        weights: Any = Weights(0)
        weights.die().set_name("dead")

        with pytest.raises(EngineError, match="worker of node 'dead' died"):
            ray_workflow(weights.add(1)).run()

    @pytest.mark.parametrize("stored", ["stored", "not stored"])
    def test_retries(self, tmp_path: Path, journal: Journal, storage: Storage, stored: str) -> None:
        """Nodes with retries get them, with and without a storage."""
        made = ray_workflow(die_once(str(tmp_path / "file"), journal))
        made.query().set_remote_args({"max_retries": 2})
        if stored == "stored":
            made.set_storage(storage)

        assert "done" == made.run()
        assert ["tried", "tried"] == journal.lines()

    def test_retries_after_exceptions(self, journal: Journal) -> None:
        """Ray's retry_exceptions sees the exceptions that functions raise, by their type."""

        @workflow
        def fail_twice() -> int:
            journal.write("tried")
            if len(journal.lines()) < 3:
                raise KeyError
            return len(journal.lines())

        made = ray_workflow(fail_twice())
        made.query().set_remote_args({"max_retries": 5, "retry_exceptions": [KeyError]})

        assert 3 == made.run()

    def test_functions_that_cannot_be_pickled(self, journal: Journal) -> None:
        """A function or argument that cannot be sent fails its node, by name, and no other."""
        lock = threading.Lock()
        other = noted(journal, "other")
        for node in (workflow(lambda: lock)(), same(lock)):
            made = ray_workflow(same(node.set_name("locked")), other)

            with pytest.raises(EngineError, match=r"node 'locked' cannot be sent.*lock"):
                made.run(on_error="continue")
        assert ["other", "other"] == journal.lines()

    @both
    def test_results_that_cannot_be_pickled(self, make: Any) -> None:
        """A result that cannot be sent fails its node."""
        node = workflow(threading.Lock)().set_name("locked")

        with pytest.raises(EngineError, match=r"cannot be pickled.*lock") as caught:
            make(same(node), workflow_name="x").run()
        assert any("in node 'locked'" in note for note in notes_of(caught.value))

    def test_instances_that_cannot_be_pickled(self) -> None:
        """An instance that cannot be pickled fails in a node that takes it as an argument, not in its methods."""
        locked = Locked()

        with pytest.raises(EngineError, match=r"its instance, cannot be pickled.*lock"):
            ray_workflow(same(locked)).run()

    def test_exceptions_that_cannot_be_pickled(self) -> None:
        """An exception that holds what cannot be sent keeps its type."""

        @workflow
        def refuse() -> None:
            raise Unsendable

        with pytest.raises(Unsendable, match="lock") as caught:
            ray_workflow(refuse().set_name("x")).run()
        assert any("in node 'x'" in note for note in notes_of(caught.value))

    def test_traceback(self) -> None:
        """The cause of an exception shows where it was raised in the worker."""
        with pytest.raises(ZeroDivisionError) as caught:
            ray_workflow(workflow(divide)(1, 0)).run()

        assert "return a / b" in str(caught.value.__cause__)

    @both
    def test_exit(self, make: Any) -> None:
        """A BaseException that is not an `Exception` arrives unchanged."""
        with pytest.raises(SystemExit) as caught:
            make(workflow(sys.exit)(7), workflow_name="x").run()

        assert 7 == caught.value.code


def divide(a: float, b: float) -> float:
    """Divide."""
    return a / b
