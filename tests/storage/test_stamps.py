"""Accepted fingerprints and texts of code in storages with a key, in folders, and in foreign storages."""

from __future__ import annotations

import os
import shutil
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse.errors import IgnoredProvenanceWarning
from functionfuse.storage import storage_factory
from functionfuse.storage.base import Results
from functionfuse.storage.hidden_files import decode_file, encode_file
from functionfuse.testing.child_processes import call_in_process

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"mine": "a key of sixteen bytes or more", "other": "another key of sixteen bytes"}
OLD = {"derivation": "1"}
NEW = {"derivation": "2"}


def signed(folder: Path, name: str | None) -> Any:
    """A storage with one of the keys, or without one."""
    options: dict[str, Any] = {"path": folder / "storage"}
    if name:
        key = folder / name
        key.touch(mode=0o600)
        key.write_text(KEYS[name])
        options["signing_key"] = f"file:{key}"
    return storage_factory({"kind": "file", "options": options})


def save(storage: Any, *names: str) -> None:
    """Save results of workflow `w` with a fingerprint."""
    for name in names:
        storage.save("w", name, name, metadata={"fingerprint": OLD})


def forged(folder: Path, node: str, source: str) -> bytes:
    """The stamp of a node with a valid checksum and the signature in another file, which needs no key."""
    stamps = folder / "storage" / "w" / ".stamps"
    content = (stamps / node).read_bytes().split(b"\n", 2)[2]
    made = encode_file("stamp", "w", node, content.replace(b'"2"', b'"3"'), None)
    signature = (folder / "storage" / source).read_bytes().split(b"\n", 2)[1].split()[1]
    return made.replace(b"0" * 64, signature)


@pytest.mark.parametrize("source", ["w/.stamps/node", "w/.stamps/other", "w/.sources/0"])
def test_a_forged_stamp_is_ignored(tmp_path: Path, source: str) -> None:
    """With a key, a stamp counts only with its own signature; the signed fingerprint of the result counts."""
    storage = signed(tmp_path, "mine")
    save(storage, "node", "other")
    storage.stamp("w", {"node": NEW, "other": NEW})
    storage.save_sources("w", {"0": "text"})
    (tmp_path / "storage/w/.stamps/node").write_bytes(forged(tmp_path, "node", source))
    with pytest.warns(IgnoredProvenanceWarning, match="node: its signature is not"):
        assert OLD == storage.info("w", "node")["fingerprint"]
    assert "3" == signed(tmp_path, None).info("w", "node")["fingerprint"]["derivation"]


@pytest.mark.parametrize(("writer", "problem"), [(None, "is not signed"), ("other", "signature")])
def test_a_stamp_without_the_key_is_ignored(
    tmp_path: Path, writer: str | None, problem: str
) -> None:
    """A stamp and a text that were written without the key of the reader do not count."""
    mine = signed(tmp_path, "mine")
    save(mine, "node")
    with_other_key = signed(tmp_path, writer)
    header = (tmp_path / "storage/w/node").read_bytes()
    stamped = with_other_key.stamp("w", {"node": NEW})
    assert ([] if writer else ["node"]) == stamped  # its own results are signed with another key
    if writer:  # a stamp that is bound to the file, as an owner of another key would make it
        signed(tmp_path, None).stamp("w", {"node": NEW})
    with_other_key.save_sources("w", {"0": "text"})
    with pytest.warns(IgnoredProvenanceWarning, match="node: it is not signed"):
        assert OLD == mine.info("w", "node")["fingerprint"]
    with pytest.warns(IgnoredProvenanceWarning, match=problem):
        assert mine.read_source("w", "0") is None
    assert "text" == with_other_key.read_source("w", "0")
    assert header == (tmp_path / "storage/w/node").read_bytes()


def test_an_earlier_stamp_of_another_file_is_ignored(tmp_path: Path) -> None:
    """A stamp with a valid signature accepts only the result file that it was made for."""
    storage = signed(tmp_path, "mine")
    save(storage, "node")
    storage.stamp("w", {"node": NEW})
    stamp = tmp_path / "storage/w/.stamps/node"
    data = stamp.read_bytes()
    storage.remove_task("w", "node")
    save(storage, "node")
    stamp.parent.mkdir()
    stamp.write_bytes(data)
    header = storage.info("w", "node")
    assert (OLD, False) == (header["fingerprint"], "accepted" in header)


def test_one_warning_names_some_of_many(tmp_path: Path) -> None:
    """Many stamps that cannot be used are one warning."""
    storage = storage_factory(tmp_path)
    names = [f"node {number}" for number in range(50)]
    save(storage, *names)
    storage.stamp("w", dict.fromkeys(names, NEW))
    for path in (tmp_path / "w/.stamps").iterdir():
        path.write_bytes(b"")
    with pytest.warns(IgnoredProvenanceWarning) as caught:
        storage.info_many("w", names)
    assert 1 == len(caught)
    assert "50 accepted fingerprints" in str(caught[0].message)
    assert "and 47 more" in str(caught[0].message)


def opened_by(storage: Any, *names: str) -> list[str]:
    """The files in a folder that are opened by a query of headers, in a process of its own."""
    found = list[str]()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[1] is None:  # by `os.open`
            found.append(os.path.basename(arguments[0]))

    storage.info_many("w", names[:1])  # imports what it needs
    sys.addaudithook(note)
    storage.info_many("w", names)
    return [name for name in found if name.startswith("node")]


def test_headers_open_one_file_each(tmp_path: Path) -> None:
    """A query reads the requested results only, and those stamps that exist."""
    storage = storage_factory(tmp_path)
    save(storage, *(f"node {number}" for number in range(100)))
    names = ["node 7", "node 50", "node 8", "node 200"]
    assert names == call_in_process(opened_by, storage, *names)
    storage.stamp("w", {"node 50": NEW, "node 51": NEW})
    assert [*names, "node 50"] == call_in_process(opened_by, storage, *names)


def test_old_temporary_files_are_removed(tmp_path: Path) -> None:
    """Leftovers of killed processes in hidden folders are removed when they are a day old."""
    storage = storage_factory(tmp_path)
    save(storage, "node")
    storage.stamp("w", {"node": NEW})
    storage.save_sources("w", {"0": "text"})
    litter = [tmp_path / "w" / folder / ".tmp-1-1-0123abcd" for folder in (".stamps", ".sources")]
    for path in litter:
        path.touch()
    storage.new_workflow("w")
    assert all(path.exists() for path in litter)
    for path in litter:
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    storage.new_workflow("w")
    assert not any(path.exists() for path in litter)
    assert (NEW, "text") == (
        storage.info("w", "node")["fingerprint"],
        storage.read_source("w", "0"),
    )


def test_a_mode_holds_for_hidden_files(tmp_path: Path) -> None:
    """Stamps and texts of code have the permissions of results."""
    storage = storage_factory({"kind": "file", "options": {"path": tmp_path, "mode": "0600"}})
    save(storage, "node")
    storage.stamp("w", {"node": NEW})
    storage.save_sources("w", {"0": "text"})
    for folder in (".stamps", ".sources"):
        place = tmp_path / "w" / folder
        assert 0o700 == place.stat().st_mode & 0o777
        assert [0o600] == [path.stat().st_mode & 0o777 for path in place.iterdir()]


def test_a_read_only_copy_can_be_read(tmp_path: Path) -> None:
    """A folder with its hidden folders can be copied as a whole."""
    storage = storage_factory(tmp_path / "one")
    save(storage, "node")
    storage.stamp("w", {"node": NEW})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert NEW == storage_factory(tmp_path / "two").info("w", "node")["fingerprint"]


class Shelf:
    """A storage of a user."""

    always_read = False

    def __init__(self) -> None:
        """Begin with nothing."""
        self.results: dict[tuple[str, str], object] = {}

    def save(self, workflow_name: str, task_name: str, obj: object) -> None:
        """Keep a result."""
        self.results[workflow_name, task_name] = obj

    def read_task(self, workflow_name: str, task_name: str) -> object:
        """Return a result."""
        return self.results[workflow_name, task_name]


def test_a_foreign_storage_has_no_fingerprints() -> None:
    """The adapter calls no other method of a storage that only saves and reads."""
    results = Results(Shelf(), "w")
    results.save("node", 1, {})
    assert not results.has_fingerprints
    assert ({}, []) == (results.headers(["node"]), results.stamp({"node": NEW}))
    results.save_sources({"0": "text"})
    assert results.read_source("0") is None


def test_results_of_one_workflow(tmp_path: Path) -> None:
    """The adapter has the methods of the storage, for its workflow."""
    storage = storage_factory(tmp_path)
    results = Results(storage, "w")
    assert results.has_fingerprints
    save(storage, "a", "b")
    headers = results.headers(iter(["a", "b", "c"]))
    assert ["a", "b"] == sorted(headers)
    save(storage, "b")
    assert ["a"] == results.stamp(dict.fromkeys("abc", NEW), headers)
    assert NEW == storage.info("w", "a")["fingerprint"]
    results.save_sources({"0": "text"})
    assert ("text", "text") == (results.read_source("0"), storage.read_source("w", "0"))


def test_no_warning_without_damage(tmp_path: Path) -> None:
    """Signed stamps are read with their key, and without one."""
    storage = signed(tmp_path, "mine")
    save(storage, "node")
    storage.stamp("w", {"node": NEW})
    storage.save_sources("w", {"0": "text"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (storage, signed(tmp_path, "mine"), signed(tmp_path, None)):
            assert NEW == each.info("w", "node")["fingerprint"]
            assert "text" == each.read_source("w", "0")


def test_the_content_of_a_hidden_file_is_bound_to_its_kind() -> None:
    """A text of code is not a stamp, whatever it contains."""
    data = encode_file("source", "w", "node", b"content", None)
    assert b"content" == decode_file("source", "w", "node", data, None)
    for kind, workflow, name in (
        ("stamp", "w", "node"),
        ("source", "v", "node"),
        ("source", "w", "n"),
    ):
        with pytest.raises(Exception, match="does not match its checksum"):
            decode_file(kind, workflow, name, data, None)
