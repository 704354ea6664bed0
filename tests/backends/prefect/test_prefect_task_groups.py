"""Task groups on Prefect: requested by a query, or of cheap nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prefect_helpers import collect, edges, log_messages, make, task_runs

from functionfuse import workflow
from functionfuse.errors import OptionError
from functionfuse.storage import storage_factory

pytest.importorskip("prefect")

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from functionfuse.backends.addons.prefectback import PrefectWorkflow


@workflow
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class TestFused:
    """A task group is one task run that reports the status of each of its nodes."""

    def test_one_task_run(self, server: SyncPrefectClient) -> None:
        """Twelve fused nodes are one task run, named after the first and the last, with its edges."""
        source = add(1, 1).set_name("source")
        prepared = [add(source, number).set_name(f"prep_{number}") for number in range(12)]
        fused = make(collect(prepared).set_name("use"), workflow_name="fused")
        fused.query("prep_.*").fuse()
        assert (([2 + number for number in range(12)],), {}) == fused.run()
        group = "prep_0 .. prep_11 (12 nodes)"
        runs = task_runs(server, "fused", 3)
        assert {"source": {}, group: {"inputs": {"source"}}, "use": {"parts": {group}}} == edges(
            runs
        )

    def test_log_and_page(self, server: SyncPrefectClient) -> None:
        """Each node of a group has its line in the log of the task run, and in its page."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterTaskRunId

        nodes = [add(number, 1).set_name(f"prep_{number}") for number in range(3)]
        fused = make(*nodes, workflow_name="fused-log")
        fused.query().fuse()
        assert [1, 2, 3] == fused.run()
        run = task_runs(server, "fused-log", 1)["prep_0 .. prep_2 (3 nodes)"]
        messages = "\n".join(log_messages(server, run, 2))
        pages = server.read_artifacts(
            artifact_filter=ArtifactFilter(task_run_id=ArtifactFilterTaskRunId(any_=[run.id]))
        )
        assert 1 == len(pages)
        for number in range(3):
            assert f"Node 'prep_{number}' computed in " in messages
            assert f"| prep\\_{number} | add | computed |" in str(pages[0].data)

    def test_failure(self, server: SyncPrefectClient) -> None:
        """A failure inside makes the task run Failed, and names its node."""

        @workflow
        def divide(a: int, b: int) -> float:
            """Divide."""
            return a / b

        bad = divide(add(1, 1).set_name("prep_good"), 0).set_name("prep_bad")
        failing = make(bad, workflow_name="fused-failure")
        failing.query().fuse()
        with pytest.raises(ZeroDivisionError) as raised:
            failing.run()
        assert raised.value.__notes__[0].startswith("in node 'prep_bad' (")
        run = task_runs(server, "fused-failure", 1)["prep_good .. prep_bad (2 nodes)"]
        assert "Failed" == run.state_name

    def test_retries(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """A group that is retried starts from the instance's state before the group."""

        @workflow
        class Counter:
            """Counts."""

            def __init__(self) -> None:
                self.count = 0

            def up(self) -> int:
                """Count, and fail at the second call."""
                self.count += 1
                flag = tmp_path / "called"
                if self.count > 1 and not flag.exists():
                    flag.touch()
                    message = "not yet"
                    raise RuntimeError(message)
                return self.count

        counter = Counter()
        targets = [counter.up(), counter.up(), counter.up()]
        counting = make(*targets, workflow_name="fused-retries")
        counting.query(".*up.*").set_task_args({"retries": 1}).fuse()
        assert [1, 2, 3] == counting.run()

    def test_cached_nodes_are_not_fused(self, server: SyncPrefectClient) -> None:
        """A node whose result Prefect shall keep is a task run of its own."""
        from prefect.cache_policies import INPUTS

        nodes = [add(number, 1).set_name(f"n{number}") for number in range(3)]
        kept = make(*nodes, workflow_name="fused-kept")
        kept.query("n2").set_task_args({"cache_policy": INPUTS})
        kept.query().fuse()
        assert [1, 2, 3] == kept.run()
        assert {"n0 .. n1 (2 nodes)", "n2"} == set(task_runs(server, "fused-kept", 2))


class TestAuto:
    """`fuse="auto"`, or a number of seconds: cheap nodes form groups as soon as their durations are known."""

    def make(self, *nodes: Any, name: str, fuse: Any = 3600) -> PrefectWorkflow:
        """A workflow on Prefect; an hour makes every node cheap on any machine."""
        from functionfuse.backends.addons.prefectback import PrefectWorkflow

        return PrefectWorkflow(*nodes, workflow_name=name, fuse=fuse)

    def chain(self, length: int) -> Any:
        """Nodes one after the other."""
        node: Any = 0
        for number in range(length):
            node = add(node, 1).set_name(f"n{number}")
        return node

    def test_second_run(self, server: SyncPrefectClient) -> None:
        """The first run measures; the second is one task run, as its plan says."""
        made = self.make(self.chain(5), name="auto")
        assert "with n0" not in str(made.plan())
        assert 5 == made.run()
        assert {f"n{number}" for number in range(5)} == set(task_runs(server, "auto", 5))
        assert 5 == str(made.plan()).count("with n0")
        assert 5 == made.run()
        assert {"n0 .. n4 (5 nodes)"} == set(task_runs(server, "auto", 1))
        assert made.report is not None
        assert [f"n{number}" for number in range(5)] == made.report.names("computed")

    def test_stored_durations(self, server: SyncPrefectClient, tmp_path: Path) -> None:
        """Another process knows from the storage what nodes of a function take."""
        storage = storage_factory({"kind": "file", "options": {"path": str(tmp_path)}})
        first = self.make(self.chain(3), name="auto-stored")
        first.set_storage(storage)
        assert 3 == first.run()
        second = self.make(self.chain(6), name="auto-stored")
        second.set_storage(storage)
        assert 6 == second.run()
        group = "n3 .. n5 (3 nodes)"
        assert {"n2", group} == set(task_runs(server, "auto-stored", 2))
        assert [f"n{number}" for number in range(6)] == storage.list_tasks("auto-stored")

    def test_nothing_is_cheap(self, server: SyncPrefectClient) -> None:
        """Nodes that take longer than the threshold stay task runs of their own."""
        made = self.make(self.chain(3), name="auto-long", fuse=1e-12)
        made.run()
        assert 3 == made.run()
        assert {"n0", "n1", "n2"} == set(task_runs(server, "auto-long", 3))

    def test_options_that_hold_for_one_node(self, server: SyncPrefectClient) -> None:
        """A node with a timeout or retries is not grouped; tags become those of the group."""
        nodes = [add(number, 1).set_name(f"n{number}") for number in range(6)]
        made = self.make(*nodes, name="auto-options")
        made.query("n[01]").set_task_args({"timeout_seconds": 60})
        made.query("n2").set_task_args({"retries": 1})
        made.query("n[345]").set_task_args({"tags": ["cheap"]})
        made.run()
        assert [1, 2, 3, 4, 5, 6] == made.run()
        runs = task_runs(server, "auto-options", 4)
        group = "n3 .. n5 (3 nodes)"
        assert {"n0", "n1", "n2", group} == set(runs)
        assert "cheap" in runs[group].tags

    def test_engine_overhead(self, server: SyncPrefectClient) -> None:
        """By default a node that costs less than a task run is cheap: those of a chain of additions."""
        made = self.make(self.chain(20), name="auto-overhead", fuse="auto")
        made.run()
        assert 20 == made.run()
        assert {"n0 .. n19 (20 nodes)"} == set(task_runs(server, "auto-overhead", 1))

    @pytest.mark.parametrize("fuse", ["always", 0, -1.0, float("nan"), True])
    def test_neither_auto_nor_seconds(self, fuse: Any) -> None:
        """Something else is refused when the workflow is made."""
        with pytest.raises(OptionError, match="'auto' or a number of seconds"):
            self.make(add(1, 1), name="auto-refused", fuse=fuse)
