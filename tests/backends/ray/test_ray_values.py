"""Values on Ray: arrays in shared memory, instances, and large functions and literals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray_nodes import Locked, Weights, both, doubled, looked_at, ones, ray_workflow, same

from functionfuse import workflow
from functionfuse.testing.engine.suite import Journal, notes_of
from functionfuse.testing.engine.transport_nodes import Noting, size_of

ray = pytest.importorskip("ray")

from functionfuse.backends.builtin.rayback import RayWorkflow  # noqa: E402 - not without Ray

pytestmark = pytest.mark.usefixtures("ray_cluster")


class TestValues:
    """Values between tasks, actors and the driver."""

    @both
    def test_arrays_can_be_changed(self, make: Any) -> None:
        """A function may write to a large array that it takes; other consumers do not see that."""
        array = ones(100_000)
        first, second = doubled(array), doubled(array)

        given = make(first, second, doubled(first), array, workflow_name="x").run()

        assert [2.0, 2.0, 4.0, 1.0] == [each[0] for each in given]
        assert all(each.flags.writeable for each in given)

    def test_arrays_anywhere_can_be_changed(self) -> None:
        """The same holds for arrays in containers and objects, large and small."""

        @workflow
        def change(parts: dict[str, Any]) -> float:
            parts["deep"][0] += 1
            parts["object"].array[:] = 3
            total: float = parts["deep"].sum() + parts["object"].array.sum()
            return total

        for count in (1, 100_000):
            weights = Weights(ones(count))

            assert (
                count + 1 + 3 * count
                == ray_workflow(change({"deep": ones(count), "object": weights})).run()
            )

    def test_read_only_arrays_are_not_copied(self) -> None:
        """An array that its maker made read-only stays in shared memory, and read-only."""

        @workflow
        def read_only() -> Any:
            array = np.ones(100_000)
            array.setflags(write=False)
            return array

        assert [(False, True), (True, False)] == ray_workflow(
            looked_at(read_only()), looked_at(ones(100_000))
        ).run()

    def test_arrays_as_ray_gives_them_out(self) -> None:
        """On request no array is copied, and writing to one is an error of the node that tries."""
        array = ones(100_000)
        nodes = looked_at(array), looked_at(np.ones(100_000)), looked_at(ones(1))

        large, literal, small = RayWorkflow(*nodes, workflow_name="x", read_only=True).run()

        assert [(False, True), (False, True), (False, False)] == [large, literal, small]
        with pytest.raises(ValueError, match="read-only") as caught:
            RayWorkflow(doubled(array).set_name("writes"), workflow_name="x", read_only=True).run()
        assert any("in node 'writes'" in note for note in notes_of(caught.value))

    @pytest.mark.parametrize("actors", [True, False])
    def test_instances_of_read_only_workflows(self, *, actors: bool) -> None:
        """Methods change the arrays that their instance has made, wherever it is."""
        weights: Any = Weights(0)
        first = weights.add(np.ones(100_000))
        made = RayWorkflow(
            first, weights.add(1), weights, workflow_name="x", read_only=True, actors=actors
        )

        *sums, instance = made.run()

        assert [100_000.0, 200_000.0, 200_000.0] == [*sums, instance.array.sum()]

    @both
    def test_state_of_arrays_can_be_changed(self, make: Any) -> None:
        """Methods change large arrays of the instance in place; a consumer sees its state at the time of the call."""
        weights = Weights(ones(100_000))
        first = weights.add(1)
        before = same(weights)
        second = weights.add(1)

        one, instance, two = make(first, before, second, workflow_name="x").run()

        assert (200_000.0, 300_000.0) == (one, two)
        assert 200_000.0 == instance.array.sum()

    def test_instances_stay_in_one_process(self) -> None:
        """The calls on an instance run in one process, so the instance may hold what cannot be pickled."""
        weights, locked = Weights(0), Locked()
        targets = [weights.where(), weights.where(), locked.next(), locked.next()]

        first, second, *counts = ray_workflow(*targets).run()

        assert first == second
        assert [1, 2] == counts

    def test_references_to_objects_of_ray(self) -> None:
        """A result may hold a reference to an object that the user put into Ray's store."""

        @workflow
        def put() -> Any:
            return {"reference": ray.put("there")}

        @workflow
        def get(value: Any) -> Any:
            return ray.get(value["reference"])

        assert "there" == ray_workflow(get(put())).run()

    def test_large_functions(self) -> None:
        """A function that holds much is sent once, not with each node."""
        table = np.ones(1_000_000)

        @workflow
        def look_up(index: int) -> float:
            value: float = table[index]
            return value

        assert [1.0] * 3 == ray_workflow(*[look_up(index) for index in range(3)]).run()

    @both
    def test_large_literals(self, make: Any) -> None:
        """A large array is an argument of functions and methods, each of which may write to its own."""
        array: Any = np.ones(100_000)
        weights = Weights(0)
        nodes = [doubled(array), doubled(array), weights.add(array), weights.add(array)]

        one, other, *sums = make(*nodes, workflow_name="x").run()

        assert [1.0, 2.0, 2.0] == [array[0], one[0], other[0]]
        assert [100_000.0, 200_000.0] == sums

    def test_large_literals_one_after_the_other(self, journal: Journal) -> None:
        """A large argument is pickled once also if few of the nodes that take it are with Ray at a time."""
        held = Noting(journal, bytes(1_000_000))

        made = ray_workflow(*[size_of(held) for _ in range(6)])

        assert [1_000_000] * 6 == made.run(max_pending_tasks=1)
        assert ["pickled"] == journal.lines()
        assert [1_000_000] * 6 == made.run(max_pending_tasks=2)
        assert ["pickled"] * 2 == journal.lines()
