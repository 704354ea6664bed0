"""Folders of worker processes: which ones a run removes, and that it removes no others."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from process_helpers import children_of, coordinator

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER = "functionfuse-pool"
SCRIPT = """
import os, time
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

@workflow
def wait():
    print("waits", flush=True)
    time.sleep(1000)

LocalWorkflow(wait(), workflow_name="w", workers=1).run()
"""


def run_workers() -> None:
    """A run with worker processes."""
    assert 1 == LocalWorkflow(workflow(lambda: 1)(), workflow_name="other", workers=2).run()


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a pool has left in its temporary folder: all its processes were killed, the reaper first."""
    temporary = tmp_path_factory.mktemp("temporary")
    with coordinator(SCRIPT, tmp_path_factory.mktemp("script"), TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        assert "waits\n" == process.stdout.readline()
        (reaper,) = children_of(process.pid, "reaper_main")
        (worker,) = children_of(process.pid, "functionfuse._transport.worker")
        for number in (reaper, process.pid, worker):
            os.kill(number, signal.SIGKILL)
    (folder,) = temporary.iterdir()
    return folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that only this test uses."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def left(left_behind: Path, temporary: Path) -> Path:
    """A folder that a pool has left, with a value in it."""
    folder = Path(shutil.copytree(left_behind, temporary / left_behind.name))
    (folder / "worker0-0").write_bytes(b"value")
    return folder


def test_a_folder_that_a_pool_has_left_is_removed(left: Path) -> None:
    """A run removes what an earlier one left that was killed with all its processes."""
    assert re.fullmatch(r"functionfuse-\d+-[0-9a-f]{16}", left.name)
    assert "700" == f"{left.stat().st_mode:o}"[-3:]

    run_workers()

    assert not left.exists()


def test_a_half_removed_folder_is_removed(left: Path) -> None:
    """A run removes the rest of a folder whose removal was interrupted."""
    (left / "worker0-0").unlink()

    run_workers()

    assert not left.exists()


def renamed(left: Path) -> Path:
    """A name that is not a pool's."""
    return left.rename(left.with_name("functionfuse-results"))


def with_a_longer_name(left: Path) -> Path:
    """A name that only begins as a pool's."""
    return left.rename(left.with_name(f"{left.name}-copy"))


def without_marker(left: Path) -> Path:
    """A pool's name, and no marker."""
    (left / MARKER).unlink()
    return left


def with_empty_marker(left: Path) -> Path:
    """A marker that does not say that it is one."""
    (left / MARKER).write_bytes(b"")
    return left


def with_marker_of_another_machine(left: Path) -> Path:
    """A folder on a shared file system, whose lock may not be seen here."""
    (left / MARKER).write_bytes((left / MARKER).read_bytes()[:-1] + b"2\n")
    return left


def with_linked_marker(left: Path) -> Path:
    """A marker that is a link to a pool's marker."""
    marker = left.with_name("marker")
    (left / MARKER).rename(marker)
    (left / MARKER).symlink_to(marker)
    return left


def with_fifo_as_marker(left: Path) -> Path:
    """A marker whose opening blocks or fails."""
    (left / MARKER).unlink()
    os.mkfifo(left / MARKER)
    return left


def open_to_others(left: Path) -> Path:
    """A folder into which others can put a marker."""
    left.chmod(0o777)
    return left


def linked(left: Path) -> Path:
    """A link with a pool's name to a folder of a pool."""
    target = left.rename(left.with_name("target"))
    left.symlink_to(target)
    return target


def of_another_user(left: Path) -> Path:
    """A folder of another user's pool."""
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(left, 4711, 4711)
    return left


@pytest.mark.parametrize(
    "change",
    [
        renamed,
        with_a_longer_name,
        without_marker,
        with_empty_marker,
        with_marker_of_another_machine,
        with_linked_marker,
        with_fifo_as_marker,
        open_to_others,
        linked,
        of_another_user,
    ],
)
def test_other_folders_stay(left: Path, change: Callable[[Path], Path]) -> None:
    """A folder that lacks one of a pool's signs stays, with what is in it."""
    kept = change(left)

    run_workers()

    assert b"value" == (kept / "worker0-0").read_bytes()


def test_a_folder_in_use_stays(left: Path) -> None:
    """The folder of a pool that runs stays."""
    with (left / MARKER).open("rb+") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)

        run_workers()

        assert (left / "worker0-0").exists()


def test_links_in_a_folder_are_not_followed(left: Path, temporary: Path) -> None:
    """Links in a pool's folder are removed, and what they lead to stays."""
    precious = temporary / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (left / "file").symlink_to(precious / "file")
    (left / "folder").symlink_to(precious)

    run_workers()

    assert not left.exists()
    assert (precious / "file").exists()


def test_folders_in_a_folder_stay(left: Path) -> None:
    """A pool makes no folder in its own: what has one is not removed."""
    (left / "folder").mkdir()
    (left / "folder" / "file").touch()

    run_workers()

    assert (left / "folder" / "file").exists()


def test_a_storage_with_the_name_of_the_library_stays(temporary: Path) -> None:
    """The user's own storage in the temporary folder is not touched by a run with workers."""
    storage = storage_factory(str(temporary / "functionfuse-results"))
    storage.save("w", "precious", 1)

    run_workers()

    assert 1 == storage.read_task("w", "precious")
    assert ["functionfuse-results"] == os.listdir(temporary)


def test_runs_at_the_same_time_leave_each_other_alone(tmp_path: Path, temporary: Path) -> None:
    """Many runs that start and end at the same time find all their values, and leave no folder."""
    script = """
import numpy
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

@workflow
def total(array): return int(array.sum())

for _ in range(5):
    array = workflow(numpy.ones)(100_000)
    assert 100_000 == LocalWorkflow(total(array), workflow_name="w", workers=1).run()
print("done")
"""
    folders = [tmp_path / f"script{number}" for number in range(3)]
    shared = tmp_path / "shared"
    for folder in (*folders, shared):
        folder.mkdir()
    with (
        coordinator(script, folders[0], TMPDIR=str(shared)) as one,
        coordinator(script, folders[1], TMPDIR=str(shared)) as two,
        coordinator(script, folders[2], TMPDIR=str(shared)) as three,
    ):
        assert ["done\n"] * 3 == [process.communicate()[0] for process in (one, two, three)]
    assert [] == os.listdir(shared)
