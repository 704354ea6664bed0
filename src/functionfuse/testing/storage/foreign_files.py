"""Foreign file tests of storages: files of other programs break neither listings nor runs."""

from __future__ import annotations

import os
import socket
import stat
import struct
import tempfile
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest
from xxhash import xxh3_128_digest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import ResultNotFound, StorageError
from functionfuse.storage.backends.file_names import file_name
from functionfuse.storage.file_format.frame import frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ForeignFileTests"]

LONG: Final = "n" * 300  # its file has a shortened name
#: Names that do not result from encoding any node name.
FOREIGN_NAMES: Final = [
    *(b"r\xe9sum\xe9.txt", b"50%ff", b"100%", b"%", b"%zz", b"%41", b"%e9", b"a%2fB%2F"),
    *(b"back\\slash", b"tab\t", b"n" * 250, b"%~", b"x%~", b"x%~loop", b"x%~" + b"0" * 31),
    *(b"x%~" + b"0" * 32, b"x%~" + b"g" * 32, b"%~" + b"0" * 32, b"\xed\xa0\x80", b"\xff"),
]


@workflow
def two() -> int:
    """A small number."""
    return 2


def run(storage: Any) -> Any:
    """Run a workflow of one node."""
    made = LocalWorkflow(two().set_name("node"), workflow_name="w")
    made.set_storage(storage)
    return made.run()


def make_pipe(path: bytes) -> None:
    """A pipe without a writer."""
    os.mkfifo(path)


def make_socket(path: bytes) -> None:
    """A socket without a listener."""
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory() as folder:
        listener.bind(f"{folder}/s")  # the path of a socket must be short
        os.rename(f"{folder}/s", path)


def make_device(path: bytes) -> None:
    """A device that is always full."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root makes devices")


SPECIAL: Final[dict[str, Callable[[bytes], None]]] = {
    "pipe": make_pipe,
    "socket": make_socket,
    "device": make_device,
    "folder": os.mkdir,
    "link to itself": lambda path: os.symlink(path, path),
    "link to nothing": lambda path: os.symlink(path + b"-nothing", path),
}


def touch(path: bytes) -> None:
    """An empty file."""
    with open(path, "xb"):
        pass


def of_version(version: int, data: bytes) -> bytes:
    """A result file with another format version."""
    header = data[64 : 64 + struct.unpack_from("<I", data, 12)[0]]
    start = data[:8] + struct.pack("<I", version) + data[12:16]
    return start + xxh3_128_digest(start + bytes(32) + header) + data[32:]


class ForeignFileTests:
    """Files of other programs in the folder of a storage."""

    #: Called as `make_in(folder, **options)`.
    make_in: ClassVar[Callable[..., Any]]

    @pytest.mark.parametrize("name", FOREIGN_NAMES)
    @pytest.mark.parametrize("make", [touch, os.mkdir, make_pipe], ids=["file", "folder", "pipe"])
    def test_foreign_names_are_skipped(
        self, tmp_path: Path, name: bytes, make: Callable[[bytes], None]
    ) -> None:
        """Foreign files are listed neither as results nor as workflows, and all operations work."""
        storage = self.make_in(tmp_path / "storage")
        storage.save("w", "good", 1)
        for folder in (tmp_path / "storage" / "w", tmp_path / "storage"):
            make(os.path.join(os.fsencode(folder), name))
            if make is os.mkdir:
                touch(os.path.join(os.fsencode(folder), name, b"file"))
        assert (["good"], ["w"]) == (storage.list_tasks("w"), storage.list_workflows())
        assert 2 == run(storage)
        storage.remove_task("w", pattern="*")
        assert [] == storage.list_tasks("w")
        assert os.path.lexists(os.path.join(os.fsencode(tmp_path / "storage" / "w"), name))

    @pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
    @pytest.mark.parametrize("name", ["node", LONG], ids=["short", "long"])
    def test_what_is_no_file_is_no_result(
        self, tmp_path: Path, name: str, make: Callable[[bytes], None]
    ) -> None:
        """A special file is neither listed nor read, blocks nothing, and a run computes the node."""
        storage = self.make_in(tmp_path / "storage")
        storage.new_workflow("w")
        make(os.fsencode(tmp_path / "storage" / "w" / file_name(name)))
        assert ([], [], False) == (
            storage.list_tasks("w"),
            storage.list_workflows(),
            storage.file_exists("w", name),
        )
        for method in (storage.read_task, storage.info, storage.remove_task):
            with pytest.raises(ResultNotFound, match="no result w/n"):
                method("w", name)
        if make is os.mkdir:
            with pytest.raises(StorageError, match="Is a directory"):
                storage.save("w", name, 1)
        else:
            storage.save("w", name, 1)
            assert 1 == storage.read_task("w", name)

    def test_reading_damaged_results_raises(self, tmp_path: Path) -> None:
        """A listing omits a shortened name whose header cannot be read; reading reports the cause."""
        storage = self.make_in(tmp_path / "storage")
        metadata = {"workflow": "w", "node": LONG}
        intact = frame(1, metadata).joined()
        storage.save("w", "good", 1)
        file = tmp_path / "storage" / "w" / file_name(LONG)
        for data, message in (
            (b"no result", "neither a result file"),
            (b"", "neither a result file"),
            (intact[:-64], "bytes, but its header announces"),
            (intact[:90], "does not match its checksum"),
            (of_version(9, intact), "has format version 9"),
        ):
            file.write_bytes(data)
            assert ["w"] == storage.list_workflows()
            assert set(storage.list_tasks("w")) <= {"good", LONG}
            assert storage.file_exists("w", LONG)
            with pytest.raises(StorageError, match=rf"w/nnnn.*{message}"):
                storage.read_task("w", LONG)
        foreign: list[dict[str, Any]] = [{"workflow": "w"}, {"node": 3}, {"node": "other"}]
        for fields in foreign:
            file.write_bytes(frame(1, fields).joined())
            assert (["good"], ["w"]) == (storage.list_tasks("w"), storage.list_workflows())
        file.write_bytes(intact)
        assert ["good", LONG] == storage.list_tasks("w")

    def test_a_workflow_with_a_long_name_and_foreign_files(self, tmp_path: Path) -> None:
        """The shortened name of a workflow is in the header of any result; foreign files are skipped."""
        storage = self.make_in(tmp_path / "storage")
        storage.save(LONG, "node", 1)
        folder = tmp_path / "storage" / file_name(LONG)
        for name in ("a", "b", "z"):
            (folder / name).write_bytes(b"no result")
        assert [LONG] == storage.list_workflows()
