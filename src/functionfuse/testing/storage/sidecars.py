"""Sidecar tests of storages: results and their sidecar files stay consistent during replacement and removal."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from functionfuse.errors import CorruptResult, OptionError, ResultNotFound
from functionfuse.serializers import FOLDER_PROTOCOL, generate_name
from functionfuse.testing.child_processes import Child
from functionfuse.testing.storage.suite import StorageSuite

if TYPE_CHECKING:
    from functionfuse.testing.storage.suite import Make, RawAccess

__all__ = ["SidecarTests"]

WRITERS: Final = 3
SAVES: Final = 15  # of each writer
ACTIONS: Final[list[Any]] = []  # what `Acting` does next


class Numbered:
    """A value that is stored in a sidecar file."""

    def __init__(self, number: int) -> None:
        """Take any number."""
        self.number = number


class NumberedSerializer:
    """Write a number into a file."""

    serializer_class = Numbered
    name = "numbered"

    @classmethod
    def pickle(cls, obj: Numbered, protocols: Any) -> tuple[str, Any]:
        """Write the file."""
        filename = generate_name()
        with protocols[FOLDER_PROTOCOL].open(filename, "wb") as file:
            file.write(b"%d" % obj.number)
        return cls.name, filename

    @classmethod
    def unpickle(cls, pid: str, protocols: Any) -> Any:
        """Read the file."""
        return Numbered(int(protocols[FOLDER_PROTOCOL].read_bytes(pid)))

    @classmethod
    def remove(cls, pid: str, protocols: Any) -> None:
        """Remove the file."""
        protocols[FOLDER_PROTOCOL].remove(pid)


class LazySerializer(NumberedSerializer):
    """Serializer that reads the file only when the number is used."""

    @classmethod
    def unpickle(cls, pid: str, protocols: Any) -> Any:
        """A function that reads the file."""
        folder = protocols[FOLDER_PROTOCOL]
        return lambda: int(folder.read_bytes(pid))


class Acting(NumberedSerializer):
    """Serializer that calls actions between writing the file and the result, and before reading the file."""

    @classmethod
    def pickle(cls, obj: Numbered, protocols: Any) -> tuple[str, Any]:
        """Write the file, then act."""
        pid = super().pickle(obj, protocols)
        _act()
        return pid

    @classmethod
    def unpickle(cls, pid: str, protocols: Any) -> Any:
        """Act, then read the file."""
        _act()
        try:
            return super().unpickle(pid, protocols)
        except FileNotFoundError:
            message = "its file is missing"
            raise CorruptResult(message) from None


class ElsewhereSerializer(NumberedSerializer):
    """Serializer that stores numbers in this process."""

    numbers: ClassVar[dict[str, int]] = {}

    @classmethod
    def pickle(cls, obj: Numbered, protocols: Any) -> tuple[str, Any]:
        """Store a number."""
        name = generate_name()
        cls.numbers[name] = obj.number
        return cls.name, name

    @classmethod
    def unpickle(cls, pid: str, protocols: Any) -> Any:
        """Look a number up."""
        return Numbered(cls.numbers[pid])

    @classmethod
    def remove(cls, pid: str, protocols: Any) -> None:
        """Remove a number."""
        del cls.numbers[pid]


def _act() -> None:
    if ACTIONS:
        ACTIONS.pop()()


def write(storage: Any, writer: int) -> int:
    """Save one result repeatedly, like other writers."""
    for number in range(SAVES):
        storage.save("w", "node", [Numbered(writer)] * (number % 3 and 1) + [writer])
    return writer


def write_and_remove(storage: Any, writer: int) -> int:
    """Save and remove one result repeatedly."""
    for number in range(SAVES):
        storage.save("w", "node", [Numbered(writer), writer])
        if number % 4 == writer:
            storage.remove_task("w", pattern="*")
    return writer


def read(storage: Any, times: int) -> list[int]:
    """Read the result repeatedly; returns the writers of the values."""
    found = [storage.read_task("w", "node") for _ in range(times)]
    for value in found:
        assert {value[-1]} == {getattr(part, "number", part) for part in value}
    return [value[-1] for value in found]


class SidecarTests(StorageSuite):
    """Sidecar files of serializers."""

    @pytest.fixture
    def keeping(self, storage: Any) -> Any:
        """A storage with a serializer."""
        storage.register_persistent_serializers(NumberedSerializer)
        return storage

    def test_a_replaced_result_can_still_be_read_lazily(
        self, make: Make, raw_access: RawAccess
    ) -> None:
        """A lazy value of a replaced result can be read for the grace period, also during collections."""
        storage, sweeper = make(), make(grace=0)
        storage.register_persistent_serializers(LazySerializer)
        sweeper.register_persistent_serializers(LazySerializer)
        storage.save("w", "node", Numbered(1))
        lazy = storage.read_task("w", "node")
        storage.save("w", "node", Numbered(2))
        storage.save("w", "node", 3)
        storage.new_workflow("w")
        assert 1 == lazy()

        sweeper.new_workflow("w")
        assert set() == sidecar_folders(raw_access)
        with pytest.raises(FileNotFoundError):
            lazy()

    def test_a_removed_result_leaves_no_file(self, keeping: Any, raw_access: RawAccess) -> None:
        """Sidecar files of a removed result and of those that it replaced are removed without a grace period."""
        for number in range(3):
            keeping.save("w", "node", Numbered(number))
        keeping.save("w", "other", Numbered(3))
        keeping.remove_task("w", "node")
        assert {"other"} == {file for file, _ in sidecar_folders(raw_access)}
        keeping.remove_task("w", "other")
        assert {} == raw_access.files()

    def test_a_result_that_is_replaced_while_it_is_read(self, make: Make) -> None:
        """A read during a replacement returns the new result, also without a grace period."""
        storage = make(grace=0)
        storage.register_persistent_serializers(Acting)
        storage.save("w", "node", Numbered(1))
        ACTIONS.append(lambda: storage.save("w", "node", Numbered(2)))
        assert 2 == storage.read_task("w", "node").number

    def test_a_result_that_is_removed_while_it_is_read(self, storage: Any) -> None:
        """A read during a removal raises ResultNotFound."""
        storage.register_persistent_serializers(Acting)
        storage.save("w", "node", Numbered(1))
        ACTIONS.append(lambda: storage.remove_task("w", "node"))
        with pytest.raises(ResultNotFound):
            storage.read_task("w", "node")

    def test_a_serializer_that_writes_elsewhere(self, make: Make, raw_access: RawAccess) -> None:
        """A serializer without sidecar files is called to remove its values."""
        storage = make()
        storage.register_persistent_serializers(ElsewhereSerializer)
        ElsewhereSerializer.numbers.clear()
        for number in range(3):
            storage.save("w", "node", Numbered(number))
        assert 2 == storage.read_task("w", "node").number
        assert [0, 1, 2] == [*ElsewhereSerializer.numbers.values()], "a reader may hold the others"
        sweeper = make(grace=0)
        sweeper.register_persistent_serializers(ElsewhereSerializer)
        sweeper.new_workflow("w")
        assert [2] == [*ElsewhereSerializer.numbers.values()]
        storage.remove_task("w", "node")
        assert ({}, {}) == (ElsewhereSerializer.numbers, raw_access.files())

    def test_a_copied_result_removes_nothing_elsewhere(
        self, make: Make, raw_access: RawAccess
    ) -> None:
        """Values that a serializer stored elsewhere belong to the result that the header names."""
        storage = make()
        storage.register_persistent_serializers(ElsewhereSerializer)
        ElsewhereSerializer.numbers.clear()
        storage.save("w", "node", Numbered(1))
        raw_access.write("w", "copy", raw_access.read("w", "node"))
        storage.remove_task("w", "copy")
        assert 1 == storage.read_task("w", "node").number

    def test_what_a_result_names_is_not_collected(self, make: Make, raw_access: RawAccess) -> None:
        """A marker of a sidecar folder in use is removed without the folder, whatever its origin."""
        storage = make(grace=0)
        storage.register_persistent_serializers(NumberedSerializer)
        storage.save("w", "node", Numbered(1))
        folder = storage.info("w", "node")["objects"]["folder"]
        markers = f"{raw_access.root}/w/.objects/.candidates"
        raw_access.filesystem.makedirs(markers, exist_ok=True)
        for kind in "ru":
            raw_access.filesystem.pipe_file(f"{markers}/{kind}{0:012x}-{folder}-node", b"")
        storage.new_workflow("w")
        assert 1 == storage.read_task("w", "node").number
        assert not [path for path in raw_access.files() if "/.candidates/" in path]

    def test_a_missing_sidecar_file_is_damage(self, storage: Any, raw_access: RawAccess) -> None:
        """A result with a missing sidecar file is damaged if it was not replaced."""
        storage.register_persistent_serializers(Acting)
        storage.save("w", "node", Numbered(1))
        (path,) = (path for path in raw_access.files() if "/.objects/" in path)
        raw_access.filesystem.rm_file(path)
        with pytest.raises(CorruptResult, match="its file is missing"):
            storage.read_task("w", "node")

    def test_a_workflow_that_is_removed_while_a_result_is_saved(self, storage: Any) -> None:
        """A save during a removal of the workflow writes the result and its sidecar files again."""
        storage.register_persistent_serializers(Acting)
        storage.save("w", "node", Numbered(1))
        ACTIONS.append(lambda: storage.remove_workflow("w"))
        storage.save("w", "node", Numbered(2))
        assert 2 == storage.read_task("w", "node").number

    def test_threads_replace_what_threads_read(
        self, keeping: Any, make: Make, raw_access: RawAccess
    ) -> None:
        """Every read returns one complete result; a final collection leaves one sidecar folder."""
        keeping.save("w", "node", [Numbered(0), 0])
        with ThreadPoolExecutor(WRITERS + 1) as pool:
            writers = [pool.submit(write, keeping, number) for number in range(WRITERS)]
            while not all(writer.done() for writer in writers):
                assert set(read(keeping, 5)) <= {*range(WRITERS)}
        assert [*range(WRITERS)] == [writer.result() for writer in writers]
        keeping.save("w", "node", [Numbered(7), 7])
        one_sidecar_folder(make, raw_access)

    def test_processes_replace_what_others_read(
        self, shared_storage: Any, make: Make, raw_access: RawAccess
    ) -> None:
        """Processes that replace one result leave a complete result and one sidecar folder."""
        shared_storage.register_persistent_serializers(NumberedSerializer)
        shared_storage.save("w", "node", [Numbered(0), 0])
        writers = [Child(write, shared_storage, number) for number in range(WRITERS)]
        readers = [Child(read, shared_storage, 3 * SAVES) for _ in range(2)]
        assert [*range(WRITERS)] == [writer.result() for writer in writers]
        for reader in readers:
            assert set(reader.result()) <= {*range(WRITERS)}
        shared_storage.save("w", "node", [Numbered(7), 7])
        one_sidecar_folder(make, raw_access)

    def test_removing_at_the_same_time(
        self, keeping: Any, make: Make, raw_access: RawAccess
    ) -> None:
        """No save fails during removals in threads and processes, and no file is left."""
        with ThreadPoolExecutor(WRITERS) as pool:
            calls = [pool.submit(write_and_remove, keeping, number) for number in range(WRITERS)]
            if self.shared:
                children = [Child(write_and_remove, keeping, number) for number in range(2)]
                assert [0, 1] == [child.result() for child in children]
            assert [*range(WRITERS)] == [call.result() for call in calls]
        keeping.save("w", "node", [Numbered(7), 7])
        one_sidecar_folder(make, raw_access)
        keeping.remove_task("w", "node")
        assert {} == raw_access.files()

    @pytest.mark.parametrize("grace", [-1, "1", None, True, float("nan")])
    def test_a_grace_period_is_a_number(self, make: Make, grace: Any) -> None:
        """An invalid grace period is refused."""
        with pytest.raises(OptionError, match="grace must be a number of seconds"):
            make(grace=grace)


def sidecar_folders(raw_access: RawAccess) -> set[tuple[str, str]]:
    """The result file and the name of each sidecar folder of workflow `w`."""
    start = f"{raw_access.root}/w/.objects/".lstrip("/")
    paths = [
        path.lstrip("/").removeprefix(start) for path in raw_access.files() if "/.objects/" in path
    ]
    return {
        (parts[0], parts[1]) for parts in (path.split("/") for path in paths) if len(parts) == 3
    }


def one_sidecar_folder(make: Make, raw_access: RawAccess) -> None:
    """Collect after the grace period: only the sidecar folder that the result names is left."""
    storage = make(grace=0)
    storage.register_persistent_serializers(NumberedSerializer)
    start = f"{raw_access.root}/w/.objects/.candidates/"
    for path in list(raw_access.files()):
        if start in path or start.lstrip("/") in path:
            _make_old(raw_access, path)
    storage.new_workflow("w")
    named = storage.info("w", "node")["objects"]["folder"]
    assert {("node", named)} == sidecar_folders(raw_access)
    assert not [path for path in raw_access.files() if "/.candidates/" in path]
    assert 7 == storage.read_task("w", "node")[-1]


def _make_old(raw_access: RawAccess, path: str) -> None:
    """Set the time of a candidate to 1970: the name of its marker has the time."""
    folder, marker = os.path.split(path)
    data = raw_access.filesystem.cat_file(path)
    raw_access.filesystem.rm_file(path)
    numbered = f"{marker[0]}{next(_milliseconds):012x}{marker[13:]}"
    raw_access.filesystem.pipe_file(f"{folder}/{numbered}", data)


_milliseconds: Final = itertools.count()
