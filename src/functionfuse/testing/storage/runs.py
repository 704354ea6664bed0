"""Run tests of storages: stored results are not computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.testing.storage.suite import HOSTILE, StorageSuite

if TYPE_CHECKING:
    from functionfuse._graph.nodes import Node
    from functionfuse.testing.storage.suite import Make

__all__ = ["Calls", "RunTests", "fan", "run"]


class Calls(list[str]):
    """Record of computed nodes; it is not pickled with their results."""


@workflow
def noted(calls: Calls, name: str, *needs: Any) -> Any:
    """Record a call; returns a large value."""
    calls.append(name)
    return {"name": name, "needs": len(needs), "array": np.full(1_000, len(name))}


def run(storage: Any, *nodes: Any) -> list[Any]:
    """The names in the results of some nodes, in a new workflow."""
    made = LocalWorkflow(*nodes, workflow_name="w")
    made.set_storage(storage)
    values = made.run()
    return [value["name"] for value in (values if len(nodes) > 1 else [values])]


def fan(calls: Calls, width: int) -> Node[Any]:
    """A node with many dependencies."""
    parts = [noted(calls, f"part {number}").set_name(f"part {number}") for number in range(width)]
    return noted(calls, "last", *parts).set_name("last")


class RunTests(StorageSuite):
    """Runs on any storage, also one that can only save and read."""

    def test_a_run_is_resumed(self, storage: Any) -> None:
        """A second run computes nothing, with the same results."""
        calls = Calls()
        assert ["last"] == run(storage, fan(calls, 3))
        assert ["part 0", "part 1", "part 2", "last"] == calls
        calls.clear()
        assert ["last"] == run(storage, fan(calls, 3))
        assert [] == calls

    def test_a_run_is_resumed_by_another_storage(self, make: Make) -> None:
        """Stored results are read by another storage object."""
        calls = Calls()
        run(make(), fan(calls, 3))
        calls.clear()
        assert ["last"] == run(make(), fan(calls, 3))
        assert [] == calls

    def test_only_what_is_missing_is_computed(self, storage: Any) -> None:
        """A new node is computed from stored results."""
        calls = Calls()
        run(storage, fan(calls, 3))
        calls.clear()
        assert ["new"] == run(storage, noted(calls, "new", fan(calls, 3)).set_name("new"))
        assert ["new"] == calls

    def test_children_get_what_was_read_back(self, storage: Any) -> None:
        """With always_read dependents get the value that is read back, not the saved object."""
        storage.always_read = True
        kept: list[Any] = []

        def keep(value: Any) -> str:
            kept.append(value)
            return "kept"

        array = np.zeros(10)
        one = workflow(lambda: array)().set_name("one")
        made = LocalWorkflow(workflow(keep)(one).set_name("two"), workflow_name="w")
        made.set_storage(storage)
        assert "kept" == made.run()
        array[:] = 1
        assert 0 == kept[0].sum()

    def test_nodes_of_any_name(self, storage: Any) -> None:
        """Nodes with any names are stored and found again."""
        calls = Calls()
        names = [name for name in HOSTILE if name]

        def make() -> list[Any]:
            return [noted(calls, name).set_name(name) for name in names]

        assert names == run(storage, *make())
        calls.clear()
        assert names == run(storage, *make())
        assert [] == calls
