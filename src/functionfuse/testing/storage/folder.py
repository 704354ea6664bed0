"""Local folder tests of storages: full disks, read-only folders, and leftovers of killed processes."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import CorruptResult, ResultNotFound, StorageError
from functionfuse.testing.child_processes import Child, call_in_process, say
from functionfuse.testing.storage.foreign_files import ForeignFileTests
from functionfuse.testing.storage.links import LinkTests
from functionfuse.testing.storage.sidecars import ACTIONS, Acting, Numbered, NumberedSerializer
from functionfuse.testing.storage.suite import number_of, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FolderTests"]

NOBODY: Final = 65534
DAY: Final = 24 * 3600
IS_ROOT: Final = os.geteuid() == 0


@workflow
def three() -> int:
    """A small number."""
    return 3


def run(storage: Any) -> Any:
    """Run a workflow of one node."""
    made = LocalWorkflow(three().set_name("three"), workflow_name="w")
    made.set_storage(storage)
    return made.run()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of one megabyte."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "functionfuse-test", str(folder)]
    if not IS_ROOT or subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip("only root mounts a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only."""
    paths = [folder, *folder.rglob("*")]
    modes = [(path, path.stat().st_mode) for path in paths]
    for path, mode in modes:
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes:
            path.chmod(mode)


def as_nobody(function: Callable[[Any], Any], rehearsal: Any, storage: Any) -> Any:
    """Call a function as an unprivileged user."""
    function(rehearsal)  # imports libraries that another user may not be able to read
    if IS_ROOT:
        os.setgroups([])
        os.setuid(NOBODY)
    return function(storage)


def use_what_cannot_be_written(storage: Any) -> dict[str, Any]:
    """Call all operations; returns their outcomes."""
    outcome: dict[str, Any] = {
        "read": number_of(storage.read_task("w", "node")),
        "listed": storage.list_tasks("w"),
        "exists": storage.file_exists("w", "node"),
        "run": run(storage),
    }
    calls: dict[str, Callable[[], Any]] = {
        "save": lambda: storage.save("w", "node", 2),
        "save elsewhere": lambda: storage.save("other", "node", 2),
        "new": lambda: storage.new_workflow("another"),
    }
    for name, call in calls.items():
        try:
            call()
        except StorageError as error:
            outcome[name] = str(error)
    return outcome


def read_headers(storage: Any) -> list[str]:
    """Read headers with `info` and `info_many`; returns their fingerprints, or the errors."""
    outcomes = []
    calls: list[Callable[[], Any]] = [
        lambda: storage.info("w", "node"),
        lambda: storage.info_many("w", ["node", "other"])["node"],
    ]
    for call in calls:
        try:
            outcomes.append(call()["fingerprint"]["derivation"])
        except StorageError as error:
            outcomes.append(str(error))
    return outcomes


def read_damaged(storage: Any) -> list[str]:
    """Read a result until its damage is detected, and once more."""
    outcomes = []
    for _ in range(3):
        try:
            storage.read_task("w", "large")
            storage.wait_verified()
            outcomes.append("given")
        except CorruptResult:
            outcomes.append("damaged")
    return outcomes


def save_for_ever(storage: Any) -> None:
    """Save a large result repeatedly."""
    value = np.ones(2_000_000)
    storage.save("w", "node", 1)
    say("begun")
    while True:
        storage.save("w", "node", value)


def save_limited(storage: Any) -> str:
    """Save results beyond the file size limit of the system."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        storage.save("w", "node", np.zeros(12_800))  # its buffer is the end of the file
    except StorageError as error:
        return str(error)
    return "it was saved"


class FolderTests(LinkTests, ForeignFileTests):
    """Tests in addition to `StorageTests` for a storage with files in a folder: `folder/workflow/node`."""

    #: Called as `make_in(folder, **options)`.
    make_in: ClassVar[Callable[..., Any]]

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        """A folder that all users may enter, unlike those of pytest."""
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o755)  # noqa: S103
            yield Path(name)

    def test_full_disk(self, folder: Path) -> None:
        """A full disk is an error; earlier results stay, and the space is released."""
        with small_disk(folder / "disk"):
            storage = self.make_in(folder / "disk")
            storage.save("w", "node", value_of(1))
            before = os.statvfs(folder / "disk").f_bfree
            for name in ("node", "new"):
                with pytest.raises(StorageError, match=rf"cannot save w/{name} .*[Nn]o space"):
                    storage.save("w", name, value_of(2, 200_000))
            assert before == os.statvfs(folder / "disk").f_bfree
            assert 1 == number_of(storage.read_task("w", "node"))
            assert ["node"] == storage.list_tasks("w")
            storage.remove_task("w", "node")
            storage.save("w", "new", value_of(2, 90_000))

    def test_a_file_that_may_not_grow(self, folder: Path) -> None:
        """A write that the system stops midway is an error, and no part of the file stays."""
        storage = self.make_in(folder)
        storage.save("w", "node", "earlier")
        before = _files(folder)
        assert "cannot save w/node" in call_in_process(save_limited, storage)
        assert before == _files(folder)
        assert "earlier" == storage.read_task("w", "node")

    def test_a_read_only_folder(self, folder: Path) -> None:
        """Results can be read and finished runs resumed; the error of a save names the cause."""

        def fill(storage: Any, _: Path) -> None:
            storage.save("w", "node", value_of(1))
            run(storage)

        outcome = self.where_nothing_can_be_written(use_what_cannot_be_written, folder, fill)
        expected = {"read": 1, "listed": ["node", "three"], "exists": True, "run": 3}
        assert expected == {key: outcome.pop(key) for key in expected}
        assert ["new", "save", "save elsewhere"] == sorted(outcome)
        assert all("ermission denied" in message for message in outcome.values()), outcome
        assert "w/node" in outcome["save"]

    def test_stamps_that_may_not_be_read(self, folder: Path) -> None:
        """They are an error that names their folder: accepted results are not computed again without a word."""
        storages = [self.make_in(folder / name) for name in ("rehearsal", "storage")]
        for storage in storages:
            storage.save("w", "node", 1)
            storage.stamp("w", {"node": {"derivation": "accepted"}})
        stamps = folder / "storage" / "w" / ".stamps"
        mode = stamps.stat().st_mode
        stamps.chmod(0)
        try:
            outcomes = call_in_process(as_nobody, read_headers, *storages)
        finally:
            stamps.chmod(mode)
        assert all(".stamps cannot be read: Permission denied" in each for each in outcomes)
        assert ["accepted"] * 2 == read_headers(storages[1])

    def test_damage_that_cannot_be_moved_aside(self, folder: Path) -> None:
        """Detected damage is remembered if the folder is read-only."""

        def fill(storage: Any, place: Path) -> None:
            storage.save("w", "large", np.ones(3_000_000))
            with (place / "w" / "large").open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\xff")

        outcomes = self.where_nothing_can_be_written(read_damaged, folder, fill)
        assert ["damaged"] * 3 == outcomes

    def where_nothing_can_be_written(
        self,
        function: Callable[[Any], Any],
        folder: Path,
        fill: Callable[[Any, Path], None],
    ) -> Any:
        """Call a function with a storage that has results in a read-only folder."""
        storages = []
        for place in (folder / "rehearsal", folder / "storage"):
            storages.append(self.make_in(place))
            fill(storages[-1], place)
        with read_only(folder / "storage"):
            return call_in_process(as_nobody, function, *storages)

    def test_no_reader_sees_a_result_whose_sidecar_files_were_removed(self, folder: Path) -> None:
        """A workflow is removed during a save: the result is never stored incompletely."""
        storage = self.make_in(folder)
        storage.register_persistent_serializers(Acting)
        seen = list[bool]()
        ACTIONS.append(lambda: seen.append(storage.file_exists("w", "node")))  # at the second try
        ACTIONS.append(lambda: storage.remove_workflow("w"))  # at the first
        storage.save("w", "node", Numbered(1))
        assert [False] == seen
        assert 1 == storage.read_task("w", "node").number

    def test_a_workflow_is_removed_while_others_save_and_read(self, folder: Path) -> None:
        """Each read returns a complete result or raises ResultNotFound, and no save and no removal fails."""
        storage = self.make_in(folder)
        storage.register_persistent_serializers(NumberedSerializer)

        def save(number: int) -> None:
            for _ in range(40):
                storage.save("w", "node", [Numbered(number), Numbered(number)])

        def read() -> None:
            for _ in range(200):
                with suppress(ResultNotFound):
                    first, second = storage.read_task("w", "node")
                    assert first.number == second.number

        def remove() -> None:
            for _ in range(100):
                storage.remove_workflow("w")
                storage.new_workflow("w")

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(save, 1), pool.submit(save, 2), pool.submit(read)]
            calls.append(pool.submit(remove))
            for call in calls:
                call.result()
        storage.remove_workflow("w")
        assert [] == os.listdir(folder)

    def test_a_workflow_is_removed_between_two_sidecar_files(self, folder: Path) -> None:
        """The save starts again: a new folder would lack the file that was written before."""
        storage = self.make_in(folder)
        storage.register_persistent_serializers(Acting)
        ACTIONS.append(lambda: storage.remove_workflow("w"))
        storage.save("w", "node", [Numbered(2), Numbered(3)])
        assert [2, 3] == [number.number for number in storage.read_task("w", "node")]

    def test_litter_is_swept(self, folder: Path) -> None:
        """Leftovers of killed processes are removed when they are a day old, not earlier; results stay."""
        storage = self.make_in(folder)
        litter = _litter(storage, folder)
        storage.new_workflow("w")
        assert litter <= _files(folder)
        for path in litter:
            os.utime(path, (time.time() - 2 * DAY,) * 2)
        storage.new_workflow("w")
        assert not litter & _files(folder)
        assert ["node"] == storage.list_tasks("w")


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _litter(storage: Any, folder: Path) -> set[Path]:
    """Kill a process during a save, for its leftovers."""
    moments = random.Random(0)  # noqa: S311
    for _ in range(100):
        child = Child(save_for_ever, storage)
        child.receive()
        time.sleep(moments.random() * 0.05)  # any moment of a save
        child.kill()
        litter = {path for path in _files(folder) if path.name != "node"}
        if litter:
            return litter
    pytest.fail("a save leaves nothing while it is under way: this test proves nothing")
