"""Sidecar files are saved, replaced and removed with their result."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from storage_servers import BUCKET

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.serializers import FILE_PROTOCOL, FOLDER_PROTOCOL, S3_PROTOCOL, generate_name
from functionfuse.storage import storage_factory
from functionfuse.storage.backends.sidecar_folders import SIDECARS
from functionfuse.storage.file_format.frame import frame

if TYPE_CHECKING:
    from storage_servers import S3Server

LONG_AGO = 2 * 24 * 60 * 60.0  # seconds


class Published:
    """A serializer of the published shape, for folders and for S3: numbers in files of their own."""

    serializer_class = complex
    name = "numbers"

    @classmethod
    def pickle(cls, obj: complex, protocols: Any) -> tuple[str, str]:
        """Write a number."""
        filename = generate_name()
        if FILE_PROTOCOL in protocols:
            with protocols[FILE_PROTOCOL].open(filename, "wb") as file:
                file.write(repr(obj).encode())
        else:
            place = protocols[S3_PROTOCOL]
            place["client"].pipe_file(f"{place['folder']}/{filename}", repr(obj).encode())
        return cls.name, filename

    @classmethod
    def unpickle(cls, pid: str, protocols: Any) -> complex:
        """Read a number."""
        if FILE_PROTOCOL in protocols:
            with protocols[FILE_PROTOCOL].open(pid, "rb") as file:
                return complex(file.read().decode())
        place = protocols[S3_PROTOCOL]
        return complex(place["client"].cat_file(f"{place['folder']}/{pid}").decode())

    @classmethod
    def remove(cls, pid: str, protocols: Any) -> None:
        """Remove a number."""
        if FILE_PROTOCOL in protocols:
            protocols[FILE_PROTOCOL].remove(pid)
        else:
            place = protocols[S3_PROTOCOL]
            place["client"].rm_file(f"{place['folder']}/{pid}")


class Folder(Published):
    """The same by what every storage has."""

    @classmethod
    def pickle(cls, obj: complex, protocols: Any) -> tuple[str, str]:
        """Write a number."""
        filename = generate_name()
        with protocols[FOLDER_PROTOCOL].open(filename, "wb") as file:
            file.write(repr(obj).encode())
        return cls.name, filename

    @classmethod
    def unpickle(cls, pid: str, protocols: Any) -> complex:
        """Read a number."""
        with protocols[FOLDER_PROTOCOL].open(pid, "rb") as file:
            return complex(file.read().decode())

    @classmethod
    def remove(cls, pid: str, protocols: Any) -> None:
        """Remove a number."""
        protocols[FOLDER_PROTOCOL].remove(pid)


#: The published protocols are those of folders and of S3; ours is everywhere.
PAIRS = [
    *((kind, Published) for kind in ("file", "S3")),
    *((kind, Folder) for kind in ("file", "memory", "S3")),
]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1].__name__}")
def pair(request: pytest.FixtureRequest) -> tuple[str, type[Published]]:
    """A kind of storage and a serializer for it."""
    found: tuple[str, type[Published]] = request.param
    return found


@pytest.fixture
def configuration(
    pair: tuple[str, type[Published]], request: pytest.FixtureRequest, tmp_path: Path
) -> dict[str, Any]:
    """A storage with nothing in it."""
    kind, options = pair[0], dict[str, Any]()
    if kind == "S3":
        server: S3Server = request.getfixturevalue("moto_server")
        options |= {"path": f"{BUCKET}/{generate_name()}/a [b]*", "s3fs": server.options()}
    elif kind == "file":
        options["path"] = str(tmp_path / "s")
    else:
        options["name"] = generate_name()
    return {"kind": kind, "options": options}


@pytest.fixture
def storage(pair: tuple[str, type[Published]], configuration: dict[str, Any]) -> Any:
    """The storage with the serializer."""
    made = storage_factory(configuration)
    made.register_persistent_serializers(pair[1])
    return made


def written(storage: Any) -> list[str]:
    """The files that serializers wrote for workflow `w`."""
    objects = storage._backend.hidden_folder("w", SIDECARS)  # noqa: SLF001 - files below the interface
    return sorted(objects.filesystem.find(objects.path))


def sidecars(storage: Any) -> list[str]:
    """The files that serializers wrote, without the markers of candidates."""
    return [path for path in written(storage) if "/.candidates/" not in path]


def age_candidates(storage: Any) -> None:
    """Let all candidates be of the year 1970: the time is in the name of the marker."""
    folder = storage._backend.hidden_folder("w", SIDECARS).inner(".candidates")  # noqa: SLF001 - files below the interface
    for name in folder.names():
        folder.write_bytes(f"{name[0]}{0:012x}{name[13:]}", folder.read_bytes(name))
        folder.remove(name)


NODE = "node [1]*"


def test_values_come_back(storage: Any) -> None:
    """At any place in a result, one file for each; the header lists them."""
    storage.save("w", NODE, [1j, {"two": (1, 2j)}])
    assert [1j, {"two": (1, 2j)}] == storage.read_task("w", NODE)
    assert [NODE] == storage.list_tasks("w")
    assert ["w"] == storage.list_workflows()
    serializers = storage.info("w", NODE)["objects"]["serializers"]
    assert len(written(storage)) == len(serializers["numbers"]) > 0


def test_a_copy_has_the_serializers(storage: Any) -> None:
    """Serializers are pickled with their storage."""
    storage.save("w", NODE, 1j)
    assert 1j == pickle.loads(pickle.dumps(storage)).read_task("w", NODE)


def test_a_replaced_result_takes_its_objects_along(
    pair: tuple[str, type[Published]], configuration: dict[str, Any]
) -> None:
    """Also if the new one has none; here without a grace period."""
    configuration["options"]["grace"] = 0
    storage = storage_factory(configuration)
    storage.register_persistent_serializers(pair[1])
    storage.save("w", NODE, 1j)
    before = written(storage)
    storage.save("w", NODE, 2j)
    assert (1, False) == (len(written(storage)), before == written(storage))
    storage.save("w", NODE, 3)
    assert [] == written(storage)


@pytest.mark.parametrize("pattern", [None, "*"])
def test_a_removed_result_takes_its_objects_along(storage: Any, pattern: str | None) -> None:
    """By its name or by a pattern; those of others stay."""
    storage.save("w", NODE, 1j)
    storage.save("w", "n", 2)
    storage.remove_task("w", None if pattern else NODE, pattern)
    assert [] == written(storage)


def test_a_storage_without_serializers_removes_objects(
    storage: Any, configuration: dict[str, Any]
) -> None:
    """Cleaning up does not need the serializer; reading does, and the error says so."""
    storage.save("w", NODE, 1j)
    plain = storage_factory(configuration)
    with pytest.raises(StorageError, match="serializer 'numbers', which is not registered"):
        plain.read_task("w", NODE)
    plain.remove_task("w", NODE)
    assert [] == written(storage)


def test_a_removed_workflow_takes_its_objects_along(storage: Any) -> None:
    """All of them."""
    storage.save("w", NODE, 1j)
    storage.save("w", "another", 2j)
    storage.remove_workflow("w")
    assert ([], []) == (written(storage), storage.list_workflows())


def test_a_failed_save_leaves_nothing_new(storage: Any) -> None:
    """And the earlier result with all that it had."""
    storage.save("w", NODE, 1j)
    before = written(storage)
    with pytest.raises(StorageError, match="cannot be pickled"):
        storage.save("w", NODE, [2j, (number for number in (3, 4))])
    assert before == written(storage)
    assert 1j == storage.read_task("w", NODE)


def orphan(storage: Any, name: str) -> None:
    """Leave sidecar files behind as a process does that is killed before the result file is complete."""
    storage.save("w", name, 1j)
    storage._backend.remove("w", storage._names.file(name))  # noqa: SLF001 - files below the interface


def test_objects_of_a_save_that_may_still_run_stay(storage: Any) -> None:
    """The result of young sidecar files may still be saved."""
    orphan(storage, NODE)
    storage.new_workflow("w")
    assert 1 == len(written(storage))


def test_objects_of_a_killed_save_are_swept(tmp_path: Path) -> None:
    """Sidecar files of a killed save are removed after a day, with and without a result of that name."""
    storage = storage_factory(tmp_path / "s")
    storage.register_persistent_serializers(Folder)
    orphan(storage, "alone")
    orphan(storage, "again")
    storage.save("w", "again", 1j)
    assert 3 == len(sidecars(storage))
    for path in Path(tmp_path, "s", "w", ".objects").rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    age_candidates(storage)
    storage.new_workflow("w")
    assert 1 == len(written(storage))
    assert 1j == storage.read_task("w", "again")


def test_empty_folders_are_removed(tmp_path: Path) -> None:
    """The folders of objects go with the last of them."""
    storage = storage_factory(tmp_path / "s")
    storage.register_persistent_serializers(Folder)
    storage.save("w", "node", 1j)
    storage.remove_task("w", "node")
    assert [] == list(Path(tmp_path, "s", "w", ".objects").glob("*"))


class PublishedPickler(pickle.Pickler):
    """Writes as the published system does."""

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        """Have each number in a file, called by its imaginary part; and be led elsewhere by a path."""
        if isinstance(obj, Path):
            return "numbers", str(obj)
        return ("numbers", f"file-{obj.imag:g}") if isinstance(obj, complex) else None


def save_as_published(folder: Path, name: str, value: Any, *numbers: complex) -> None:
    """Put a result into the folder of a workflow, and numbers into files where all results have theirs."""
    stream = io.BytesIO()
    PublishedPickler(stream).dump(value)
    Path(folder, "bigdata").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Path(folder, "bigdata", f"file-{number.imag:g}").write_text(repr(number))
    digest = hashlib.sha1(stream.getvalue(), usedforsecurity=False).digest()
    Path(folder, name).write_bytes(stream.getvalue() + digest)


@pytest.fixture
def published(tmp_path: Path) -> Any:
    """A storage in `s` that knows the serializer of the numbers."""
    storage = storage_factory(tmp_path / "s")
    storage.register_persistent_serializers(Published)
    return storage


def test_objects_of_the_published_system_are_read(published: Any, tmp_path: Path) -> None:
    """Sidecar files of the legacy format are in a folder of the workflow, and results without a header refer to them."""
    save_as_published(tmp_path / "s" / "w", "node", {"a": 1j}, 1j)
    assert ["node"] == published.list_tasks("w")
    assert {"a": 1j} == published.read_task("w", "node")


@dataclass
class Anything:
    """Something that only its own program can make."""

    inner: Any


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Take the file."""
        self.path = path

    def __reduce__(self) -> Any:
        """A result file of an attacker."""
        return open, (str(self.path), "w")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_objects_of_the_published_system_are_removed(
    published: Any, tmp_path: Path, how: str
) -> None:
    """Sidecar files of the legacy format are removed with their result, without unpickling it; others are kept."""
    folder, trap = tmp_path / "s" / "w", tmp_path / "trap"
    value = [{"a": 1j}, Anything([np.arange(3), {2j}]), Trap(trap), 3j]
    save_as_published(folder, "node", value, 1j, 2j, 3j)
    save_as_published(folder, "other", 4j, 4j)

    if how == "removed":
        published.remove_task("w", "node")
    else:
        published.save("w", "node", "new")

    assert ["file-4"] == os.listdir(folder / "bigdata")
    assert 4j == published.read_task("w", "other")
    assert not trap.exists()
    published.remove_task("w", "other")
    assert not Path(folder, "bigdata").exists()
    assert folder.exists()


def test_objects_of_the_published_system_are_kept_if_in_doubt(
    published: Any, tmp_path: Path
) -> None:
    """Where a result is damaged, or leads out of the folder, it goes alone."""
    folder = tmp_path / "s" / "w"
    save_as_published(folder, "damaged", 1j, 1j)
    Path(folder, "damaged").write_bytes(b"no" + Path(folder, "damaged").read_bytes())
    save_as_published(folder, "leading out", Path("../precious"))
    Path(folder, "precious").touch()

    published.remove_task("w", pattern="*d*")

    assert (["file-1"], ["precious"]) == (
        os.listdir(folder / "bigdata"),
        published.list_tasks("w"),
    )


@pytest.mark.parametrize(
    "objects",
    [
        {"folder": "../../../precious", "serializers": {}},
        {"folder": "/", "serializers": {}},
        {"folder": "", "serializers": {}},
        {"folder": "..", "serializers": {}},
        {"folder": "a\\..\\b", "serializers": {}},
        {"folder": 1, "serializers": {}},
        {"folder": "token"},
        ["../precious"],
    ],
)
def test_a_header_cannot_lead_out_of_its_folder(tmp_path: Path, objects: object) -> None:
    """A result file of another user that names foreign objects is removed without them, and not read."""
    precious = tmp_path / "precious" / "file"
    precious.parent.mkdir()
    precious.write_text("precious")
    storage = storage_factory(str(tmp_path / "storage"))
    storage.register_persistent_serializers(Published)
    storage.save("w", "own", 1j)  # there is a folder of objects
    framed = frame(1, {"workflow": "w", "node": "evil", "objects": objects})
    (tmp_path / "storage" / "w" / "evil").write_bytes(framed.joined())
    storage.remove_task("w", "evil")
    storage.new_workflow("w")
    assert "precious" == precious.read_text()
    assert ["own"] == storage.list_tasks("w")
    assert 1j == storage.read_task("w", "own")


@pytest.mark.parametrize("name", ["../own", "/own", "", "a/../../own", "a\\b"])
def test_a_serializer_cannot_be_led_out_of_its_folder(tmp_path: Path, name: str) -> None:
    """A name out of a result file that leads elsewhere is refused, for reading and for removing."""

    class Lured(Published):
        """Writes a name that is not its own."""

        @classmethod
        def pickle(cls, obj: complex, protocols: Any) -> tuple[str, str]:
            """Write a number, and another name."""
            super().pickle(obj, protocols)
            return cls.name, name

    storage = storage_factory(str(tmp_path))
    storage.register_persistent_serializers(Lured)
    storage.save("w", "lured", 1j)
    with pytest.raises(CorruptResult, match="is not a valid file name in a sidecar folder"):
        storage.read_task("w", "lured")
