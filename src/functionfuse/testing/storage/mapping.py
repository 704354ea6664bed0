"""Model tests of storages: operations in random order agree with a dict."""

from __future__ import annotations

import fnmatch
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from functionfuse.errors import ResultNotFound
from functionfuse.testing.storage.suite import HOSTILE, StorageSuite, long_names, names

if TYPE_CHECKING:
    from functionfuse.storage.base import Storage
    from functionfuse.testing.storage.suite import Make

__all__ = ["DictTests"]

PATTERNS = ["*", "?", "*e*", "..*", "x*", "[Nn]*", "", "a/*", "[!n]*"]


class StorageIsADict(RuleBasedStateMachine):
    """State machine with a storage and a dict: saving, reading, listing and removing agree."""

    workflows = st.sampled_from(["w", "W", "..", "", "a/b", "a", "x" * 300, "😀", "\ud800"])

    def __init__(self, make: Make) -> None:
        """Begin with nothing stored."""
        super().__init__()
        self.make = make
        self.storage: Storage = make()
        self.model: dict[str, dict[str, int]] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        for workflow in self.model:
            self.storage.remove_workflow(workflow)

    def some_name(self, data: st.DataObject, workflow: str) -> str:
        """A stored name, or any name if none is stored."""
        return data.draw(st.sampled_from([*self.model.get(workflow, {}), *HOSTILE]))

    @rule(workflow=workflows, name=names | long_names, value=st.integers())
    def save(self, workflow: str, name: str, value: int) -> None:
        """A saved value is stored, in all methods."""
        self.storage.save(workflow, name, value)
        self.model.setdefault(workflow, {})[name] = value

    @rule(workflow=workflows, data=st.data(), value=st.integers())
    def replace(self, workflow: str, data: st.DataObject, value: int) -> None:
        """A saved value replaces the one before."""
        self.save(workflow, self.some_name(data, workflow), value)

    @rule(workflow=workflows)
    def make_room(self, workflow: str) -> None:
        """new_workflow() changes no stored result."""
        self.storage.new_workflow(workflow)
        self.model.setdefault(workflow, {})

    @rule(workflow=workflows, data=st.data())
    def remove(self, workflow: str, data: st.DataObject) -> None:
        """One result is removed if it is stored."""
        name = self.some_name(data, workflow)
        if name in self.model.get(workflow, {}):
            self.storage.remove_task(workflow, name)
            del self.model[workflow][name]
        else:
            with pytest.raises(ResultNotFound):
                self.storage.remove_task(workflow, name)

    @rule(workflow=workflows, pattern=st.sampled_from(PATTERNS))
    def remove_matching(self, workflow: str, pattern: str) -> None:
        """All results that match a pattern are removed."""
        self.storage.remove_task(workflow, pattern=pattern)
        kept = self.model.get(workflow, {}).items()
        self.model[workflow] = {
            name: value for name, value in kept if not fnmatch.fnmatchcase(name, pattern)
        }

    @rule(workflow=workflows)
    def remove_workflow(self, workflow: str) -> None:
        """One workflow is removed, and no other."""
        self.storage.remove_workflow(workflow)
        self.model.pop(workflow, None)

    @rule()
    def travel(self) -> None:
        """An unpickled copy has the same results."""
        self.storage = pickle.loads(pickle.dumps(self.storage))

    @rule()
    def come_back(self) -> None:
        """Another storage with the same options has the same results."""
        self.storage = self.make()

    @rule(workflow=workflows, data=st.data())
    def look(self, workflow: str, data: st.DataObject) -> None:
        """All methods agree whether a result is stored."""
        name = self.some_name(data, workflow)
        there = name in self.model.get(workflow, {})
        assert there == self.storage.file_exists(workflow, name)
        if there:
            metadata = self.storage.info(workflow, name)
            assert (workflow, name) == (metadata["workflow"], metadata["node"])
            return
        with pytest.raises(ResultNotFound):
            self.storage.read_task(workflow, name)
        with pytest.raises(ResultNotFound):
            self.storage.info(workflow, name)

    @rule(workflow=workflows, pattern=st.sampled_from(PATTERNS))
    def search(self, workflow: str, pattern: str) -> None:
        """The names that match a pattern are listed, sorted."""
        stored = self.model.get(workflow, {})
        expected = sorted(name for name in stored if fnmatch.fnmatchcase(name, pattern))
        assert expected == self.storage.list_tasks(workflow, pattern)

    @invariant()
    def same_results(self) -> None:
        """The listed and read results are the saved ones."""
        for workflow, results in self.model.items():
            assert sorted(results) == self.storage.list_tasks(workflow)
            assert results == {name: self.storage.read_task(workflow, name) for name in results}

    @invariant()
    def same_workflows(self) -> None:
        """Workflows with results are listed, and none that was never created."""
        listed = self.storage.list_workflows()
        assert sorted(listed) == listed
        assert {name for name, results in self.model.items() if results} <= set(listed)
        assert set(listed) <= set(self.model)


class DictTests(StorageSuite):
    """Equivalence of a storage and a dict."""

    def test_behaves_as_a_dict(self, make: Make) -> None:
        """Operations in any order, with any names, have the same results as on a dict."""

        class Machine(StorageIsADict):
            def __init__(self) -> None:
                super().__init__(make)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                deadline=None,
                max_examples=self.max_examples,
                stateful_step_count=self.steps,
                suppress_health_check=list(HealthCheck),
            ),
        )

    def test_any_name(self, storage: Storage) -> None:
        """A result is read under any name, and under no other."""
        for number, name in enumerate(HOSTILE):
            storage.save("names", name, number)

        assert sorted(HOSTILE) == storage.list_tasks("names")
        assert list(range(len(HOSTILE))) == [storage.read_task("names", name) for name in HOSTILE]
        assert all(storage.file_exists("names", name) for name in HOSTILE)

    def test_any_name_of_a_workflow(self, storage: Storage) -> None:
        """A workflow may have any name; no workflow is within another."""
        for number, name in enumerate(HOSTILE):
            storage.save(name, "node", number)

        assert sorted(HOSTILE) == storage.list_workflows()
        assert [["node"]] * len(HOSTILE) == [storage.list_tasks(name) for name in HOSTILE]
        for number, name in enumerate(HOSTILE):
            assert number == storage.read_task(name, "node")
            storage.remove_workflow(name)
        assert [] == storage.list_workflows()

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*", ["Node3", "node1", "node10", "node2", "other[1]"]),
            ("node*", ["node1", "node10", "node2"]),
            ("node?", ["node1", "node2"]),
            ("[nN]ode[23]", ["Node3", "node2"]),
            ("other[[]1]", ["other[1]"]),
            ("node1", ["node1"]),
            ("nothing*", []),
        ],
    )
    def test_patterns(self, storage: Storage, pattern: str, expected: list[str]) -> None:
        """Listing and removing have the same case-sensitive glob patterns."""
        names = ["Node3", "node1", "node10", "node2", "other[1]"]
        for name in names:
            storage.save("w", name, name)

        assert expected == storage.list_tasks("w", pattern)
        storage.remove_task("w", pattern=pattern)
        assert [name for name in names if name not in expected] == storage.list_tasks("w")

    def test_remove_task_by_name(self, storage: Storage) -> None:
        """One result is removed by its name, which is not a pattern."""
        for name in ("other[1]", "other1", "node"):
            storage.save("w", name, name)
        storage.save("another", "node", "of another")
        storage.remove_task("w", "other[1]")
        storage.remove_task(workflow_name="w", task_name="node")
        assert ["other1"] == storage.list_tasks("w")
        assert ["node"] == storage.list_tasks("another")

    def test_removing_a_workflow_removes_no_other(self, storage: Storage) -> None:
        """No other workflow is removed, even for names that a file system reads as the folder itself."""
        storage.save("w", "node", 1)
        for name in ("", ".", "..", "/", "w/..", "w/node", "W"):
            storage.remove_workflow(name)
        assert ["node"] == storage.list_tasks("w")

    @pytest.mark.parametrize("arguments", [{}, {"task_name": "node", "pattern": "*"}])
    def test_remove_task_takes_a_name_or_a_pattern(self, storage: Storage, arguments: Any) -> None:
        """remove_task() with neither name nor pattern, or both, removes nothing."""
        storage.save("w", "node", 1)
        with pytest.raises(TypeError, match="either a task_name or a pattern"):
            storage.remove_task("w", **arguments)
        assert ["node"] == storage.list_tasks("w")

    def test_what_is_not_there(self, storage: Storage) -> None:
        """A result that was never stored is an error with its name, also a FileNotFoundError; lists are empty."""
        storage.new_workflow("empty")
        for workflow in ("empty", "unknown"):
            for method in (storage.read_task, storage.remove_task, storage.info):
                with pytest.raises(ResultNotFound, match=f"{workflow}/node"):
                    method(workflow, "node")
            assert not storage.file_exists(workflow, "node")
            assert [] == storage.list_tasks(workflow)
            storage.remove_task(workflow, pattern="*")
            storage.remove_workflow(workflow)
        assert issubclass(ResultNotFound, FileNotFoundError)

    def test_info(self, storage: Storage) -> None:
        """The origin of a result is known without reading it."""
        saved = storage.save(
            "w", "node", list(range(1000)), metadata={"function": "make", "seed": 3}
        )
        metadata = storage.info("w", "node")
        expected = {"workflow": "w", "node": "node", "function": "make", "seed": 3}
        assert expected == {key: metadata[key] for key in expected}
        assert {"created", "host", "python", "functionfuse"} <= set(metadata)
        assert saved.nbytes > 1000
        assert saved.digest == metadata["value"]
        assert 32 == len(metadata["value"])

    def test_changes_are_visible_immediately(self, make: Make) -> None:
        """Saves and removals are immediately visible in another storage with the same options."""
        one, other = make(), make()
        for _ in range(3):
            assert [] == other.list_tasks("w")
            assert not other.file_exists("w", "node")
            one.save("w", "node", 1)
            assert ["node"] == other.list_tasks("w")
            assert 1 == other.read_task("w", "node")
            one.save("w", "node", 2)
            assert 2 == other.read_task("w", "node")
            one.remove_task("w", "node")
