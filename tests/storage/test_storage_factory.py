"""Storages from configuration: every kind, the short forms, kinds of other packages, wrong options."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse.errors import MissingExtraError, OptionError, StorageError
from functionfuse.storage import storage_factory
from functionfuse.storage.kinds import FileStorage, FsspecStorage, MemoryStorage, S3Storage
from functionfuse.storage.ray_actor import RayStorage

if TYPE_CHECKING:
    from pathlib import Path

    from functionfuse.storage.base import Storage

KINDS: dict[str, tuple[dict[str, Any], type[Storage]]] = {
    "file": ({"path": "results", "fsync": True, "verify": "always"}, FileStorage),
    "S3": ({"path": "bucket/results", "s3fs": {"anon": True}, "always_read": True}, S3Storage),
    "fsspec": ({"url": "memory://x", "storage_options": {}, "allowed_types": []}, FsspecStorage),
    "memory": ({"name": "results", "verify": "never"}, MemoryStorage),
    "ray": ({"remoteArgs": {"resources": {"disk": 0.1}}, "path": "results"}, RayStorage),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths lead to an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_made_by_its_name(kind: str) -> None:
    """With its own options and those that all have; nothing is connected for it."""
    options, expected = KINDS[kind]
    made = storage_factory({"kind": kind, "options": options})
    assert expected is type(made)
    assert options.get("always_read", False) == made.always_read


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_pickled_by_recipe(kind: str) -> None:
    """A copy says the same of itself, and what was set later goes along."""
    options, expected = KINDS[kind]
    made = storage_factory({"kind": kind, "options": options})
    made.always_read = True
    copy = pickle.loads(pickle.dumps(made))
    assert (expected, repr(made), True) == (type(copy), repr(copy), copy.always_read)


SHORT: dict[str, tuple[type[Storage], str]] = {
    "results": (FileStorage, "/results')"),
    "some folder/with: colon": (FileStorage, "/some folder/with: colon')"),
    "s3://bucket/results": (S3Storage, "('s3://bucket/results')"),
    "memory://results": (FsspecStorage, "('memory://results')"),
    "gs://bucket/results": (FsspecStorage, "('gs://bucket/results')"),
}


@pytest.mark.parametrize("text", SHORT)
def test_a_path_or_an_address_is_enough(text: str) -> None:
    """A text with a scheme is an address, anything else is a folder."""
    kind, shown = SHORT[text]
    made = storage_factory(text)
    assert kind is type(made)
    assert repr(made).endswith(shown)


def test_a_path_object_is_enough(tmp_path: Path) -> None:
    """A folder may be a `Path`, or the address of a local file."""
    storage_factory(tmp_path / "results").save("w", "node", 1)
    assert 1 == storage_factory(f"file://{tmp_path}/results").read_task("w", "node")
    other = {"kind": "fsspec", "options": {"url": f"file://{tmp_path}/results"}}
    assert 1 == storage_factory(other).read_task("w", "node")


WRONG: dict[str, tuple[Any, str]] = {
    "kind": (
        {"kind": "s3", "options": {}},
        "unknown kind of storage: 's3'.*Valid: S3, file, fsspec, memory, ray",
    ),
    "kind misspelt": ({"kind": "fiel", "options": {}}, "'fiel'.*did you mean 'file'"),
    "no kind": ({"options": {}}, "unknown kind of storage: None"),
    "kind of a wrong type": ({"kind": ["file"]}, "unknown kind of storage"),
    "key": ({"kind": "file", "option": {}}, "unknown key .*'option'; did you mean 'options'"),
    "option": (
        {"kind": "S3", "options": {"path": "b", "s3": {}}},
        "unknown option of a 'S3' storage: 's3'; did you mean 's3fs'.*signing_key, verify",
    ),
    "missing option": ({"kind": "file", "options": {}}, "missing .* 'path'"),
    "no options": ({"kind": "file"}, "missing .* 'path'"),
    "wrong value": (
        {"kind": "file", "options": {"path": None}},
        "cannot create a .*NoneType",
    ),
    "no mapping": (
        {"kind": "file", "options": "results"},
        "options of a 'file' storage must be a map",
    ),
    "nothing of the kind": (7, "takes a path, a URL or a mapping, not a value of type int"),
    "no path": ("", "path of a file storage is empty"),
    "no bucket": ({"kind": "S3", "options": {"path": "s3:///"}}, "has no bucket"),
    "options of s3fs": (
        {"kind": "S3", "options": {"path": "b", "s3fs": "key"}},
        "options of a file system must be a mapping, not str",
    ),
    "verify": (
        {"kind": "memory", "options": {"verify": "soon"}},
        "verify must be one of 'lazy', 'always'",
    ),
    "key itself": (
        {"kind": "memory", "options": {"signing_key": "0123456789abcdef"}},
        "where the key is, never the key itself",
    ),
    "no path on Ray": (
        {"kind": "ray", "options": {"remoteArgs": {}}},
        "either path or storage",
    ),
    "resources on Ray": (
        {"kind": "ray", "options": {"remoteArgs": "disk", "path": "x"}},
        "remoteArgs must be a mapping, not str",
    ),
}


@pytest.mark.parametrize(("configuration", "message"), WRONG.values(), ids=WRONG)
def test_invalid_configurations_are_refused(configuration: Any, message: str) -> None:
    """The error names it, and what would be understood."""
    with pytest.raises(OptionError, match=message):
        storage_factory(configuration)


def test_a_wrong_value_is_not_shown() -> None:
    """A wrong value is not in the error: it might be a secret in the wrong option."""
    with pytest.raises(OptionError) as error:
        storage_factory({"kind": "S3", "options": {"s3fs": {"secret": "do not tell"}}})
    assert "do not tell" not in f"{error.value!r} {error.value.__cause__!r}"


def made_elsewhere(*, colour: str = "red") -> Storage:
    """The entry points of another package."""
    return MemoryStorage(f"of another package, {colour}")


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a package be installed that announces the kind `other`."""
    point = EntryPoint("other", f"{__name__}:made_elsewhere", "functionfuse.storages")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: EntryPoints([point]))


@pytest.mark.usefixtures("announced")
def test_other_packages_have_kinds() -> None:
    """A kind that is announced is made like ours, with its options looked at."""
    made = storage_factory({"kind": "other", "options": {"colour": "blue"}})
    assert "MemoryStorage('memory://of another package, blue')" == repr(made)
    with pytest.raises(
        OptionError, match=r"unknown option of a 'other' storage: 'color'; .* mean 'colour'"
    ):
        storage_factory({"kind": "other", "options": {"color": "blue"}})
    with pytest.raises(OptionError, match="Valid: S3, file, fsspec, memory, other, ray"):
        storage_factory({"kind": "another"})


def test_a_library_that_is_not_installed_is_named() -> None:
    """When the storage is used first, not when it is made; with the line that installs it."""
    code = """
import sys
sys.modules["s3fs"] = None  # as if it were not installed
from functionfuse.storage import storage_factory
storage = storage_factory("s3://bucket")
try:
    storage.list_tasks("w")
except ImportError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("MissingExtraError 's3://bucket' needs a library")
    assert done.stdout.endswith("pip install 'functionfuse[s3]'\n")


def test_an_unknown_address() -> None:
    """The error names the address."""
    with pytest.raises(
        StorageError, match="cannot create the file system of 'nonsense://x': Protocol not known"
    ):
        storage_factory("nonsense://x").list_tasks("w")


@pytest.mark.skipif("ray" in sys.modules, reason="Ray is there")
def test_ray_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage on a Ray node is made without Ray, and used with it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    storage = storage_factory({"kind": "ray", "options": KINDS["ray"][0]})
    assert "RayStorage('results' at {'disk': 0.1})" == repr(storage)
    with pytest.raises(MissingExtraError, match=r"pip install 'functionfuse\[ray\]'"):
        storage.list_tasks("w")
