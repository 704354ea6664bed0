"""Large results are returned immediately and verified in the background; nothing computed from damage is stored."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import CorruptResult
from functionfuse.storage import storage_factory
from functionfuse.storage.file_format.file_format import DEFERRED
from functionfuse.storage.kinds import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

LARGE = np.ones(DEFERRED // 8 + 1_000)


@pytest.fixture
def storage(tmp_path: Path) -> Any:
    """A storage with one large result."""
    made = FileStorage(tmp_path / "storage")
    made.save("w", "large", LARGE)
    return made


def damage(tmp_path: Path) -> None:
    """Change a byte in the middle of the large result."""
    with (tmp_path / "storage" / "w" / "large").open("r+b") as file:
        file.seek(DEFERRED // 2)
        file.write(b"\xff")


def test_an_intact_result_stays_unchanged(storage: FileStorage) -> None:
    """wait_verified() raises nothing, and changes of the reader in memory are not damage."""
    first = storage.read_task("w", "large")
    first[:] = 7
    storage.wait_verified()
    assert 1 == storage.read_task("w", "large").max()
    assert 7 == first.min()
    storage.wait_verified()


def test_wait_verified_reports_damage_once(storage: FileStorage, tmp_path: Path) -> None:
    """The error names the file; the file is moved aside; after that all is well."""
    damage(tmp_path)
    storage.read_task("w", "large")
    with pytest.raises(CorruptResult, match=r"storage/w/large' is damaged.*was moved aside"):
        storage.wait_verified()
    storage.wait_verified()
    assert [] == storage.list_tasks("w")
    assert [".damaged-"] == [name[:9] for name in os.listdir(tmp_path / "storage" / "w")]


def test_nothing_is_saved_until_damage_is_known(storage: FileStorage, tmp_path: Path) -> None:
    """Each save refuses, also by a copy, until wait_verified() has reported the damage."""
    damage(tmp_path)
    value = storage.read_task("w", "large")
    for each in (storage, storage, pickle.loads(pickle.dumps(storage))):
        with pytest.raises(CorruptResult, match=r"cannot save w/sum.*was moved aside"):
            each.save("w", "sum", value.sum())
    with pytest.raises(CorruptResult):
        storage.wait_verified()
    storage.save("w", "sum", 3)
    assert ["sum"] == storage.list_tasks("w")


class Shelf:
    """A storage of a user, without verification."""

    always_read = False

    def __init__(self) -> None:
        """Keep results in memory."""
        self.results: dict[str, Any] = {}

    def save(self, workflow_name: str, task_name: str, obj: Any) -> None:
        """Keep a result."""
        self.results[f"{workflow_name}/{task_name}"] = obj

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Return a result, or raise KeyError."""
        return self.results[f"{workflow_name}/{task_name}"]


def elsewhere(tmp_path: Path) -> list[Any]:
    """Storages in other folders than the damaged result."""
    memory = {"kind": "memory", "options": {"name": str(tmp_path)}}
    return [FileStorage(tmp_path / "other"), storage_factory(memory)]


def test_nothing_is_saved_in_another_storage_either(storage: FileStorage, tmp_path: Path) -> None:
    """A value from one storage is saved in no other until its verification is done."""
    for other in elsewhere(tmp_path):
        storage.save("w", "large", LARGE)
        damage(tmp_path)
        value = storage.read_task("w", "large")
        with pytest.raises(CorruptResult, match="storage/w/large' is damaged"):
            other.save("w", "sum", value.sum())
        assert [] == other.list_tasks("w")
        with pytest.raises(CorruptResult, match="storage/w/large' is damaged"):
            other.wait_verified()
        storage.wait_verified()  # it has been reported
        other.save("w", "sum", 3)
        assert ["sum"] == other.list_tasks("w")


def test_a_run_stores_nothing_of_a_damaged_result_that_was_read_before(
    storage: FileStorage, tmp_path: Path
) -> None:
    """In no storage, also in one that is not ours; the run fails, and the next one does not."""
    shelf = Shelf()
    for other in (*elsewhere(tmp_path), shelf):
        storage.save("w", "large", LARGE)
        damage(tmp_path)
        value = storage.read_task("w", "large")
        flow = LocalWorkflow(total(value).set_name("total"), workflow_name="w")
        flow.set_storage(other)
        with pytest.raises(CorruptResult, match="storage/w/large' is damaged"):
            flow.run()
        flow = LocalWorkflow(total(LARGE).set_name("total"), workflow_name="w")
        flow.set_storage(other)
        assert LARGE.sum() == flow.run()
    assert {"w/total": LARGE.sum()} == shelf.results


def test_a_run_does_not_end_before_verification(storage: FileStorage, tmp_path: Path) -> None:
    """Also a run that saves nothing, in another storage than the damaged result is in."""
    other = FileStorage(tmp_path / "other")
    other.save("w", "total", 3)
    damage(tmp_path)
    storage.read_task("w", "large")
    flow = LocalWorkflow(total(0).set_name("total"), workflow_name="w")
    flow.set_storage(other)
    with pytest.raises(CorruptResult, match="storage/w/large' is damaged"):
        flow.run()
    assert 3 == flow.run()


@workflow
def total_while_another_run_fails(storage: FileStorage, folder: Path) -> Any:
    """Read a damaged result; then the damage is reported to another run."""
    value = storage.read_task("w", "large")
    flow = LocalWorkflow(total(value).set_name("total"), workflow_name="other")
    flow.set_storage(storage_factory(folder))
    with pytest.raises(CorruptResult, match="storage/w/large' is damaged"):
        flow.run()
    return value.sum()


def test_damage_is_reported_to_all_concurrent_runs(storage: FileStorage, tmp_path: Path) -> None:
    """A report of damage to one run does not hide it from another run that has used the data."""
    damage(tmp_path)
    node = total_while_another_run_fails(storage, tmp_path / "other").set_name("total")
    flow = LocalWorkflow(node, workflow_name="w")
    flow.set_storage(storage_factory(tmp_path / "third"))
    with pytest.raises(CorruptResult, match="storage/w/large' is damaged"):
        flow.run()
    assert [] == FileStorage(tmp_path / "third").list_tasks("w")


def test_a_result_that_was_replaced_is_left_alone(storage: FileStorage, tmp_path: Path) -> None:
    """The value that was read is damaged; the file that replaced it is not."""
    damage(tmp_path)
    storage.read_task("w", "large")
    (tmp_path / "new").write_bytes(b"new")
    os.replace(tmp_path / "new", tmp_path / "storage" / "w" / "large")
    with pytest.raises(CorruptResult):
        storage.wait_verified()
    left = {path.read_bytes() for path in (tmp_path / "storage" / "w").glob("large")}
    assert left <= {b"new"}  # the check may have been quicker than the replacement


@workflow
def made() -> Any:
    """Make the large result."""
    return LARGE


@workflow
def total(values: Any) -> Any:
    """Use it."""
    return values.sum()


def run(folder: Path) -> Any:
    """Run a workflow of both nodes in a storage."""
    flow = LocalWorkflow(total(made().set_name("large")).set_name("total"), workflow_name="w")
    flow.set_storage(storage_factory(folder))
    return flow.run()


def test_the_run_after_a_failed_one_computes_again(tmp_path: Path) -> None:
    """One run fails of damage, by whatever it notices first; the next one is right."""
    folder = tmp_path / "storage"
    assert LARGE.sum() == run(folder)
    (folder / "w" / "total").unlink()
    damage(tmp_path)
    with pytest.raises(CorruptResult, match="storage/w/large' is damaged"):
        run(folder)
    assert "total" not in FileStorage(folder).list_tasks("w")
    assert LARGE.sum() == run(folder)
    assert ["large", "total"] == FileStorage(folder).list_tasks("w")


def call_in_process(code: str, *arguments: object) -> str:
    """The output of a separate process."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def test_a_worker_verifies_immediately(storage: FileStorage, tmp_path: Path) -> None:
    """Its results go to other processes, which would not learn of the damage."""
    damage(tmp_path)
    (tmp_path / "recipe").write_bytes(pickle.dumps(storage))
    code = """
import pickle, sys
storage = pickle.loads(open(sys.argv[1], "rb").read())
try:
    storage.read_task("w", "large")
except Exception as error:
    print(type(error).__name__)
"""
    assert "CorruptResult\n" == call_in_process(code, tmp_path / "recipe")


def test_a_forked_process_checks_what_it_was_given(storage: FileStorage, tmp_path: Path) -> None:
    """A forked process has no threads of its parent, but their queued work."""
    damage(tmp_path)
    code = """
import os, sys, threading
from functionfuse.storage.file_format import verification
from functionfuse.storage import storage_factory
from functionfuse.storage.file_format.verification import DeferredVerification

free = threading.Event()
run = DeferredVerification.run
DeferredVerification.run = lambda check: free.wait() and run(check)  # the thread has only begun when we fork
storage = storage_factory(sys.argv[1])
value = storage.read_task("w", "large")
if os.fork():
    os.wait()
    os._exit(0)
free.set()
try:
    storage.save("w", "sum", value.sum())
except Exception as error:
    print(type(error).__name__, flush=True)
os._exit(0)
"""
    assert "CorruptResult\n" == call_in_process(code, tmp_path / "storage")
    assert [] == storage.list_tasks("w")


def test_more_results_than_a_process_may_have_files_open(tmp_path: Path) -> None:
    """A map takes a descriptor: beyond some of them, results are read into memory instead."""
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import numpy as np
from functionfuse.storage import storage_factory
storage = storage_factory(sys.argv[1])
for number in range(100):
    storage.save("w", f"node {number}", np.full(2**17, number))
values = [storage.read_task("w", f"node {number}") for number in range(100)]
print([int(value.max()) for value in values] == list(range(100)))
"""
    assert "True\n" == call_in_process(code, tmp_path / "storage")
