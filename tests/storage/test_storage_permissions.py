"""The option `mode`: permissions of result files, sidecar files and folders, whatever the umask."""

from __future__ import annotations

import os
import pickle
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import OptionError
from functionfuse.storage import storage_factory
from functionfuse.testing.child_processes import call_in_process
from functionfuse.testing.storage.sidecars import Numbered, NumberedSerializer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Another umask for a while."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> tuple[set[int], set[int]]:
    """The permissions of all files, and of all folders with the folder itself."""
    paths = [folder, *folder.rglob("*")]
    found = {True: set[int](), False: set[int]()}
    for path in paths:
        found[path.is_dir()].add(stat.S_IMODE(path.lstat().st_mode))
    return found[False], found[True]


def of_mode(folder: Path, mode: Any, **options: Any) -> Any:
    """A storage that a folder does not exist for yet."""
    options = {"path": folder / "deeper" / "storage", "mode": mode, **options}
    return storage_factory({"kind": "file", "options": options})


def fill(storage: Any) -> None:
    """Save small and large results, new and replaced, with and without sidecar files."""
    storage.register_persistent_serializers(NumberedSerializer)
    storage.new_workflow("w")
    for number in range(2):
        storage.save("w", "small", number)
        storage.save("w", "large", np.ones(300_000))
        storage.save("w", "kept", Numbered(number))


@workflow
def number() -> Numbered:
    """A value that is kept in a sidecar file."""
    return Numbered(3)


@pytest.mark.parametrize(
    ("mode", "file", "folder"),
    [
        (0o600, 0o600, 0o700),
        ("0600", 0o600, 0o700),
        ("0o640", 0o640, 0o750),
        ("660", 0o660, 0o770),
        (0o666, 0o666, 0o777),
    ],
)
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_everything_has_the_mode(
    tmp_path: Path, mode: Any, file: int, folder: int, mask: int
) -> None:
    """Files have it exactly, and folders can be entered by the readers; also from a copy in another process."""
    with umask(mask):
        fill(of_mode(tmp_path, mode))
        call_in_process(fill, pickle.loads(pickle.dumps(of_mode(tmp_path, mode))))
    assert ({file}, {folder}) == modes(tmp_path / "deeper" / "storage")


def test_the_results_of_workers(tmp_path: Path) -> None:
    """Pool workers write with the mode, too."""
    storage = of_mode(tmp_path, 0o600)
    storage.register_persistent_serializers(NumberedSerializer)
    wf = LocalWorkflow(number().set_name("node"), workflow_name="w", workers=2)
    wf.set_storage(storage)
    wf.run()
    assert ({0o600}, {0o700}) == modes(tmp_path / "deeper" / "storage")


def test_arrays_in_many_files(tmp_path: Path) -> None:
    """The chunks of arrays have the mode."""
    dask_array = pytest.importorskip("dask.array")
    serializer = pytest.importorskip("functionfuse.serializers.daskarray").DaskArraySerializer
    storage = of_mode(tmp_path, 0o600)
    storage.register_persistent_serializers(serializer)
    storage.save("w", "node", dask_array.ones((20, 20), chunks=10))
    assert ({0o600}, {0o700}) == modes(tmp_path / "deeper" / "storage")
    assert 400 == storage.read_task("w", "node").sum().compute()


def test_without_the_option_the_umask_decides(tmp_path: Path) -> None:
    """As for all files that programs write."""
    with umask(0o027):
        fill(of_mode(tmp_path, None))
    assert ({0o640}, {0o750}) == modes(tmp_path / "deeper" / "storage")


def test_existing_folders_stay_unchanged(tmp_path: Path) -> None:
    """Permissions of a folder that existed before are not changed."""
    (tmp_path / "deeper" / "storage").mkdir(parents=True, mode=0o755)
    fill(of_mode(tmp_path, 0o600))
    files, folders = modes(tmp_path / "deeper" / "storage")
    assert ({0o600}, {0o700, 0o755}) == (files, folders)


@pytest.mark.parametrize(
    "mode",
    [600, 0o700, 0o400, 0, -1, True, 0o600 + 0.0, "rw", "384", "06000", "0x180", "", [0o600]],
)
def test_invalid_modes_are_refused(tmp_path: Path, mode: Any) -> None:
    """The owner must be able to read and write; 600 without its 0o is another number."""
    with pytest.raises(OptionError, match="like 0o600, 0o640 or '0600'"):
        of_mode(tmp_path, mode)
    assert not (tmp_path / "deeper").exists()
