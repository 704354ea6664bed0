"""Running graphs on Ray: the conformance suite, limits on pending tasks, and the cluster that a run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ray_nodes import (
    Weights,
    both,
    fail_when,
    held,
    noted,
    ray_workflow,
    same,
    task_name,
    without_actors,
)

from functionfuse.errors import FunctionFuseWarning, OptionError
from functionfuse.events import NodeFailed
from functionfuse.testing import EngineTests

ray = pytest.importorskip("ray")

from functionfuse.backends.builtin.rayback import RayWorkflow  # noqa: E402 - not without Ray

if TYPE_CHECKING:
    from functionfuse.storage.base import Storage
    from functionfuse.testing.engine.suite import Journal, Latch

pytestmark = pytest.mark.usefixtures("ray_cluster")


class TestWithActors(EngineTests):
    """The conformance suite on Ray, with an actor for each instance."""

    runs_in_other_processes = copies_values = keeps_instances = True
    max_examples = 3
    make_workflow = staticmethod(RayWorkflow)


class TestWithoutActors(EngineTests):
    """The conformance suite on Ray, where instances go from task to task."""

    runs_in_other_processes = copies_values = True
    max_examples = 5
    make_workflow = staticmethod(without_actors)


class TestRunning:
    """`run()` and its arguments."""

    def test_results_stay_in_the_storage(self, storage: Storage, journal: Journal) -> None:
        """Without return_results the targets are stored and None is given; again, nothing is even read."""
        made = ray_workflow(noted(journal, "x").set_name("x"), same([1]).set_name("y"))
        made.set_storage(storage)

        assert made.run(return_results=False) is None
        assert ["x", [1]] == [storage.read_task("ray", name) for name in "xy"]
        assert made.run(return_results=False) is None
        assert made.report is not None
        assert [] == list(made.report)
        assert ["x", [1]] == made.run()
        assert ["x"] == journal.lines()

    def test_results_need_a_storage_to_stay_in(self) -> None:
        """Without a storage, return_results=False would lose everything, and is refused."""
        with pytest.raises(OptionError, match="set_storage"):
            ray_workflow(same(1)).run(return_results=False)

    @pytest.mark.parametrize("wrong", [-1, 1.5, True, "2"])
    def test_max_pending_tasks_is_checked(self, wrong: Any) -> None:
        """A limit is a number of nodes."""
        with pytest.raises(OptionError, match="max_pending_tasks"):
            ray_workflow(same(1)).run(max_pending_tasks=wrong)

    @both
    def test_pending_tasks_are_limited(self, make: Any) -> None:
        """No more nodes than max_pending_tasks are with Ray at a time, calls on instances included."""
        weights = Weights(0)
        targets = [*(same(number) for number in range(6)), same(weights), same(weights)]
        made = make(*targets, workflow_name="x")
        pending, most = set[str](), 0

        def count(event: Any) -> None:
            nonlocal most
            name = getattr(event, "name", None)
            if name is not None:
                pending.add(name)
            elif hasattr(event, "record"):
                pending.discard(event.record.name)
            most = max(most, len(pending))

        made.add_observer(count)

        assert list(range(6)) == made.run(max_pending_tasks=2)[:6]
        assert 2 == most

    def test_nothing_new_starts(self, journal: Journal, latch: Latch, storage: Storage) -> None:
        """After a failure, what Ray has in its queue does not start either; what runs ends and is stored."""
        made = ray_workflow(fail_when(journal, "held"), *[held(latch, journal) for _ in range(12)])
        made.set_storage(storage)
        with latch.closed() as open_gate:

            def open_on_failure(event: Any) -> None:
                if isinstance(event, NodeFailed):
                    open_gate()

            made.add_observer(open_on_failure)
            with pytest.raises(ValueError, match="held"):
                made.run()

        assert {"held"} == set(journal.lines())
        assert len(journal.lines()) == len(storage.list_tasks("ray")) <= 3

    def test_names(self) -> None:
        """Ray shows nodes under their own names."""
        assert "the node" == ray_workflow(task_name().set_name("the node")).run()

    def test_a_running_ray_is_used(self) -> None:
        """The Ray that the process is connected to is used, and stays; its own address and "auto" are right."""
        before = ray.get_runtime_context().get_job_id()
        address = ray.get_runtime_context().gcs_address
        _, port = address.split(":")

        for right in (address, f"localhost:{port}", "auto", f"ray://127.0.0.1:{port}", None):
            made = RayWorkflow(same(1), workflow_name="x", ray_init_args={"address": right})
            assert 1 == made.run()
        assert before == ray.get_runtime_context().get_job_id()
        assert ray.is_initialized()

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "192.0.2.1:{port}"])
    def test_another_cluster_than_the_running_ray(self, address: str) -> None:
        """The address of another cluster is refused, instead of running on the wrong one."""
        used = ray.get_runtime_context().gcs_address
        address = address.format(port=used.split(":")[1])
        made = RayWorkflow(same(1), workflow_name="x", ray_init_args={"address": address})

        with pytest.raises(OptionError, match=f"cluster at '{address}'.*the one at '{used}'"):
            made.run()

    def test_arguments_that_a_running_ray_was_not_given(self) -> None:
        """Arguments of ray.init that come too late cause a warning at the line of the run, except with `ignore_reinit_error`."""
        late: dict[str, Any] = {"address": "local", "num_cpus": 1, "namespace": None}
        made = RayWorkflow(same(1), workflow_name="x", ray_init_args=late)

        with pytest.warns(FunctionFuseWarning, match="not used: address, num_cpus") as caught:
            assert 1 == made.run()
        assert __file__ == caught[0].filename
        quiet = {**late, "ignore_reinit_error": True}
        assert 1 == RayWorkflow(same(1), workflow_name="x", ray_init_args=quiet).run()
