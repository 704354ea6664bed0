"""A storage that runs on a chosen node of a Ray cluster: one actor does all the work."""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.errors import CorruptResult, ResultNotFound, StorageError
from functionfuse.storage import ray_actor, storage_factory
from functionfuse.testing import RawAccess
from functionfuse.testing.storage.provenance import ProvenanceTests

ray = pytest.importorskip("ray")

from functionfuse.backends.builtin.rayback import RayWorkflow  # noqa: E402 - not without Ray

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.testing.storage.suite import Make

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def storage(tmp_path: Path) -> Any:
    """A storage on a node of the cluster, in a folder of its own."""
    options = {"remoteArgs": {"num_cpus": 0}, "path": str(tmp_path)}
    return storage_factory({"kind": "ray", "options": options})


@workflow
def add(a: int, b: int, log: str) -> int:
    """Add two numbers, and record the call."""
    with open(log, "a", encoding="utf-8") as file:
        file.write(".")
    return a + b


def test_all_methods(storage: Any, tmp_path: Path) -> None:
    """The storage behaves as the storage in its actor."""
    storage.new_workflow("w")
    for name in ("a", "b", "other"):
        storage.save("w", name, {"name": name}, metadata={"seconds": 1.0})
    assert ["a", "b", "other"] == storage.list_tasks("w")
    assert ["w"] == storage.list_workflows()
    assert {"name": "a"} == storage.read_task("w", "a")
    assert {"name": "a"} == storage_factory(str(tmp_path)).read_task("w", "a")
    assert 1.0 == storage.info("w", "a")["seconds"]
    assert (True, False) == (storage.file_exists("w", "a"), storage.file_exists("w", "c"))
    assert ["a"] == storage.remove_task("w", "a")
    assert ["b"] == storage.remove_task("w", pattern="b*")
    assert ["other"] == storage.list_tasks("w")
    storage.remove_workflow("w")
    assert [] == storage.list_workflows()


def named_actors() -> set[str]:
    """The actors of storages that the cluster has."""
    return {each["name"] for each in ray.util.list_named_actors(all_namespaces=True)}


def test_resources_that_no_node_has(storage: Any, tmp_path: Path) -> None:
    """A storage on a node that does not exist is an error with the request, instead of a plan that never ends."""
    options = {"remoteArgs": {"resources": {"nowhere": 1}}, "path": str(tmp_path)}
    made = RayWorkflow(add(1, 2, str(tmp_path / "log")), workflow_name="w")
    made.set_storage({"kind": "ray", "options": options})
    for call in (made.plan, made.run):
        with pytest.raises(
            StorageError, match=r"asks for nowhere: 1, and no node.*check remoteArgs"
        ):
            call()
    made.set_storage(storage)
    assert 3 == made.run()


def test_resources_that_are_occupied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage whose resources stay occupied is an error that says so; later, it can be used."""

    class Occupying:
        def nothing(self) -> None:
            pass

    monkeypatch.setattr(ray_actor, "_TIMEOUT", 1.0)
    others = named_actors()
    cpus = int(ray.cluster_resources()["CPU"])
    occupying = ray.remote(Occupying).options(num_cpus=cpus).remote()
    ray.get(occupying.nothing.remote())
    options = {"remoteArgs": {"num_cpus": cpus}, "path": str(tmp_path)}
    storage = storage_factory({"kind": "ray", "options": options})

    with pytest.raises(StorageError, match=r"did not start within 1 seconds.*ray status"):
        storage.list_workflows()

    ray.kill(occupying)
    monkeypatch.undo()
    assert [] == storage.list_workflows()
    for name in named_actors() - others:  # it would keep all cores
        ray.kill(ray.get_actor(name, namespace="functionfuse"))


def test_errors_keep_their_type(storage: Any, tmp_path: Path) -> None:
    """Missing, damaged and unstorable results are reported as by any other storage."""
    with pytest.raises(ResultNotFound, match="w/nothing"):
        storage.read_task("w", "nothing")
    storage.save("w", "damaged", 1)
    (tmp_path / "w" / "damaged").write_bytes(b"no result")
    with pytest.raises(CorruptResult, match="w/damaged"):
        storage.read_task("w", "damaged")
    with pytest.raises((StorageError, TypeError)):
        storage.save("w", "generator", (number for number in range(3)))


def test_links_are_not_followed(storage: Any, tmp_path: Path) -> None:
    """The folder on that node is as safe as any other: a linked workflow is none."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "node").touch()
    (tmp_path / "w").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="symbolic link"):
        storage.new_workflow("w")
    storage.remove_workflow("w")
    with pytest.raises(ResultNotFound):
        storage.remove_task("w", "node")
    assert (tmp_path / "precious" / "node").exists()


def test_arrays(storage: Any) -> None:
    """Arrays come back equal, and writable: a large one, and those that Ray cannot send."""
    for array in np.arange(1_000_000.0), np.empty((0, 3)), np.rec.array(np.zeros(3, [("a", "i4")])):
        storage.save("w", "array", array)
        found = storage.read_task("w", "array")
        assert type(found) is type(array)
        assert found.shape == array.shape
        assert np.array_equal(array, found)
        assert found.flags.writeable


def damage(path: Path) -> None:
    """Change the last byte of a file."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")


def test_damage_of_a_large_result_is_reported_to_the_reader(storage: Any, tmp_path: Path) -> None:
    """The actor gives nothing away that it checks later: another process would build on it."""
    storage.save("w", "large", np.zeros(3_000_000))
    damage(tmp_path / "w" / "large")
    with pytest.raises(CorruptResult, match="w/large"):
        storage.read_task("w", "large")
    storage.save("w", "other", 1)
    storage.wait_verified()


def test_nothing_computed_from_damage_elsewhere_is_stored(storage: Any, tmp_path: Path) -> None:
    """The checks of the process that saves count, not those of the actor."""
    local = storage_factory(tmp_path / "local")
    local.save("w", "large", np.zeros(3_000_000))
    damage(tmp_path / "local" / "w" / "large")
    value = local.read_task("w", "large")
    with pytest.raises(CorruptResult, match="local/w/large"):
        storage.save("w", "sum", value.sum())
    with pytest.raises(CorruptResult, match="local/w/large"):
        storage.wait_verified()
    assert [] == storage.list_tasks("w")


def test_workflow_resumes(storage: Any, tmp_path: Path) -> None:
    """Results are saved there as soon as a node is done, and a second run reads the required ones."""
    log = tmp_path / "log"
    last = add(add(1, 2, str(log)).set_name("first"), 3, str(log)).set_name("last")
    for _ in range(2):
        made = RayWorkflow(last, workflow_name="sums")
        made.set_storage(storage)
        assert 6 == made.run()
    assert ".." == log.read_text()
    assert made.report is not None
    assert ["last"] == made.report.names("loaded")
    assert ["first", "last"] == storage.list_tasks("sums")


def test_reading_later(storage: Any, tmp_path: Path) -> None:
    """Another program that only reads connects to the cluster automatically."""
    storage.save("w", "kept", 42)
    address = ray.get_runtime_context().gcs_address
    options = {
        "remoteArgs": {"num_cpus": 0},
        "path": str(tmp_path),
        "rayInitArgs": {"address": address, "log_to_driver": False},
    }
    program = (
        "from functionfuse.storage import storage_factory\n"
        f"storage = storage_factory({{'kind': 'ray', 'options': {options!r}}})\n"
        "print(storage.read_task('w', 'kept'), storage.list_tasks('w'))\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert "42 ['kept']\n" == done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for several tests: another one would need another actor."""
    return tmp_path_factory.mktemp("provenance")


class TestProvenance(ProvenanceTests):
    """Headers, stamps and texts of code of the storage in the actor, whose warnings reach the caller."""

    @pytest.fixture
    def make(self, folder: Path) -> Make:
        """Storages in the folder, which is empty."""
        for path in folder.iterdir():
            shutil.rmtree(path)
        options = {"remoteArgs": {"num_cpus": 0}, "path": str(folder)}
        return lambda: storage_factory({"kind": "ray", "options": options})

    @pytest.fixture
    def raw_access(self, folder: Path) -> RawAccess:
        """The folder on the node of the actor, which is this machine."""
        return RawAccess(fsspec.filesystem("file", skip_instance_cache=True), str(folder))


def test_types_of_the_script(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor has no script, and returns objects of the script's own classes."""
    Shade = enum.Enum("Shade", "RED GREEN", module="__main__")  # noqa: N806 - a class
    monkeypatch.setattr(sys.modules["__main__"], "Shade", Shade, raising=False)
    storage.save("w", "shades", {Shade.RED: [Shade.GREEN]})
    for _ in range(2):
        assert {Shade.RED: [Shade.GREEN]} == storage.read_task("w", "shades")
