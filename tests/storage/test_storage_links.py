"""An attacker who can write into a storage, and has no key, can cause loss of his own results only."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from file_format_helpers import headed

from functionfuse.errors import StorageError, UntrustedResult
from functionfuse.storage import storage_factory
from functionfuse.storage.backends.file_names import file_name
from functionfuse.testing.child_processes import call_in_process
from functionfuse.testing.storage.sidecars import Numbered, NumberedSerializer


def forged(**fields: Any) -> bytes:
    """A result file that its header says anything of, and that is not signed."""
    fields.setdefault("parts", [[2, "00" * 16]])
    header = json.dumps(fields).encode()
    return headed(header + b" " * (-len(header) % 64))


def numbered(**options: Any) -> Any:
    """A storage of files with a serializer."""
    storage = storage_factory({"kind": "file", "options": options})
    storage.register_persistent_serializers(NumberedSerializer)
    return storage


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A signing key."""
    monkeypatch.setenv("RESULTS_KEY", "k" * 32)
    return "env:RESULTS_KEY"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_an_unsigned_header_removes_nothing(tmp_path: Path, key: str, how: str) -> None:
    """With a key, the sidecar folder that a forged header names stays; with a signature it goes."""
    storage = numbered(path=tmp_path, signing_key=key, grace=0)
    storage.save("w", "node", Numbered(1))
    objects = storage.info("w", "node")["objects"]
    folder = tmp_path / "w" / ".objects" / "node" / objects["folder"]
    original = (tmp_path / "w" / "node").read_bytes()
    (tmp_path / "w" / "node").write_bytes(forged(workflow="w", node="node", objects=objects))
    with pytest.raises(UntrustedResult):
        storage.read_task("w", "node")
    if how == "removed":
        storage.remove_task("w", "node")
    else:
        storage.save("w", "node", 2)
    assert folder.is_dir()

    (tmp_path / "w" / "node").write_bytes(original)
    storage.remove_task("w", "node")
    assert not folder.exists()


def test_a_header_removes_nothing_of_another_result(tmp_path: Path) -> None:
    """A copy under another name has no sidecar folder, and its removal takes none from the original."""
    storage = numbered(path=tmp_path, grace=0)
    storage.save("w", "node", Numbered(1))
    storage.save("w", "other", Numbered(2))
    data = (tmp_path / "w" / "node").read_bytes()
    (tmp_path / "w" / "other").write_bytes(data)
    storage.remove_task("w", "other")
    assert 1 == storage.read_task("w", "node").number


@pytest.mark.parametrize("name", ["Documents", "..", "a/b", "0" * 36, "", ".candidates"])
def test_a_header_names_nothing_but_sidecar_folders(tmp_path: Path, name: str) -> None:
    """Without a key, too: what is not named as a save names its folder stays."""
    storage = numbered(path=tmp_path, grace=0)
    storage.save("w", "other", Numbered(1))
    precious = tmp_path / "w" / ".objects" / "node" / "Documents" / "thesis"
    precious.parent.mkdir(parents=True)
    precious.touch()
    os.utime(precious, (0, 0))
    os.utime(precious.parent, (0, 0))
    objects = {"folder": name, "serializers": {"numbered": ["'../other'", "(", "__import__('os')"]}}
    (tmp_path / "w" / "node").write_bytes(forged(workflow="w", node="node", objects=objects))
    storage.remove_task("w", "node")
    storage.new_workflow("w")
    assert precious.exists()
    assert 1 == storage.read_task("w", "other").number


@pytest.mark.parametrize("pid", ["(" * 10_000, "'../other'", "open('x')", "1e999", 3, None, ["a"]])
def test_a_forged_reference_is_a_storage_error(tmp_path: Path, pid: Any) -> None:
    """Without a key anybody can write a reference; one that no save writes is ignored."""
    storage = numbered(path=tmp_path)
    storage.save("w", "node", Numbered(1))
    objects = storage.info("w", "node")["objects"]
    objects["serializers"] = {"numbered": [pid]}
    (tmp_path / "w" / "node").write_bytes(forged(workflow="w", node="node", objects=objects))
    storage.remove_task("w", "node")
    assert [] == list((tmp_path / "w").iterdir())


def test_a_file_system_of_fsspec_that_has_links(tmp_path: Path) -> None:
    """Links are neither swept nor followed by a removal, and are not results."""
    home = tmp_path / "home"
    options = {"url": f"dir::file://{tmp_path}", "grace": 0}
    storage = storage_factory({"kind": "fsspec", "options": options})
    storage.register_persistent_serializers(NumberedSerializer)
    storage.save("w", "node", Numbered(1))
    root = tmp_path / str(tmp_path)[1:]  # fsspec takes the path of such an address twice
    objects = root / "w" / ".objects"
    (objects / "node").rename(home)
    (objects / "node").symlink_to(home)
    (objects / "gone").symlink_to(home)
    for path in (home, *home.rglob("*")):
        os.utime(path, (0, 0))
    before = sorted(home.rglob("*"))
    storage.new_workflow("w")
    with pytest.raises(StorageError, match="symbolic link"):
        storage.remove_task("w", "node")
    (root / "w" / "linked").symlink_to(home)
    (root / "linked").symlink_to(root / "w")
    assert [] == storage.list_tasks("w")
    storage.save("w", "good", 1)
    assert ["w"] == storage.list_workflows()
    assert before == sorted(home.rglob("*"))


def test_a_file_with_the_name_of_a_workflow_elsewhere(tmp_path: Path) -> None:
    """A file system of fsspec may list a file as a folder with itself in it."""
    storage = storage_factory(f"dir::file://{tmp_path}")
    (tmp_path / str(tmp_path)[1:]).mkdir(parents=True)
    (tmp_path / str(tmp_path)[1:] / "w").write_text("a file")
    assert ([], []) == (storage.list_tasks("w"), storage.list_workflows())
    with pytest.raises(StorageError, match="Not a directory"):
        storage.read_task("w", "w")


def listed_by_nobody(storage: Any) -> tuple[list[str], list[str]]:
    """The view of a user without permission to read all files."""
    os.setgroups([])
    os.setuid(65534)
    return storage.list_tasks("w"), storage.list_workflows()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_what_may_not_be_read_stops_no_listing() -> None:
    """A file with a shortened name, or a workflow, that cannot be read is omitted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        storage = storage_factory(name)
        for node in ("good", "n" * 300, "m" * 300):
            storage.save("w", node, 1)
        storage.save("private", "node", 1)
        (folder / "w" / file_name("n" * 300)).chmod(0)
        (folder / "private").chmod(0)
        assert (["good", "m" * 300], ["w"]) == call_in_process(listed_by_nobody, storage)
