"""Results in files: nothing is lost, nothing leaves its folder, nothing damaged is believed."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant

from functionfuse.errors import CorruptResult, ResultNotFound, StorageError
from functionfuse.storage import storage_factory
from functionfuse.storage.backends.file_names import file_name, node_name
from functionfuse.storage.base import Storage
from functionfuse.storage.file_format.file_format import header_of
from functionfuse.storage.kinds import FileStorage
from functionfuse.testing.storage.mapping import StorageIsADict
from functionfuse.testing.storage.suite import HOSTILE, long_names, names


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    """A storage of its own for each test."""
    made = storage_factory({"kind": "file", "options": {"path": tmp_path / "storage"}})
    assert isinstance(made, FileStorage)
    return made


def files(folder: Path) -> list[Path]:
    """Every file under a folder."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def result_file(tmp_path: Path) -> Path:
    """The only file of a test's storage."""
    (file,) = files(tmp_path / "storage")
    return file


# ---- names ----


@settings(deadline=None)
@given(names | long_names)
def test_a_file_name_is_one_ordinary_component(name: str) -> None:
    """For any name, the file name is one component that is not hidden and not too long."""
    for fold_case in (False, True):
        file = file_name(name, fold_case=fold_case)
        assert os.path.basename(file) == file
        assert not file.startswith(".")
        assert 0 < len(os.fsencode(file)) <= 200
        assert not any(char < " " or char == "\\" for char in file)


@settings(deadline=None)
@given(names | long_names, st.booleans())
def test_names_come_back(name: str, fold_case: bool) -> None:  # noqa: FBT001
    """A file name gives its node's name, or says that the header has it."""
    assert node_name(file_name(name, fold_case=fold_case)) in {name, None}


@settings(deadline=None)
@given(st.text(max_size=30))
def test_names_of_ordinary_length_come_back_without_the_header(name: str) -> None:
    """Only what is too long, or nothing at all, has to be looked up."""
    assert (name or None) == node_name(file_name(name))


@settings(deadline=None)
@given(names | long_names, names | long_names)
@example("Node", "node")
@example("ⓐ", "Ⓐ")
@example("a\u0301\u0323", "a\u0323\u0301")
def test_different_names_give_different_files(one: str, other: str) -> None:
    """Also on a file system that does not tell upper from lower case."""
    assert (one == other) == (file_name(one) == file_name(other))
    folded = [file_name(name, fold_case=True).casefold() for name in (one, other)]
    assert (one == other) == (folded[0] == folded[1])


@pytest.mark.parametrize(
    "name", ["node1", "svm-model_2", "a b (c)", "Schrödinger", "模型", "sum[0]"]
)
def test_readable_names_stay_unchanged(name: str) -> None:
    """A user finds a result by the name that the node was given."""
    assert name == file_name(name)


# ---- a storage is a dict ----


class OneFileEach(StorageIsADict):
    """After any operations on a storage and a dict, there is a file for each result, in its folder."""

    def __init__(self) -> None:
        """Begin with nothing stored."""
        self.outside = tempfile.TemporaryDirectory()
        self.folder = Path(self.outside.name, "storage")
        super().__init__(lambda: FileStorage(self.folder))

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.outside.cleanup()

    @invariant()
    def same_files(self) -> None:
        """There is one file for each result, in the workflow's folder, and none anywhere else."""
        assert [self.folder] == list(Path(self.outside.name).iterdir())
        depths = [len(file.relative_to(self.folder).parts) for file in files(self.folder)]
        assert [2] * sum(map(len, self.model.values())) == depths


OneFileEach.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
TestOneFileEach = OneFileEach.TestCase


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_never_leaves_its_folder(storage: FileStorage, tmp_path: Path, name: str) -> None:
    """For any names of node and workflow, the file is in its folder, and can be read."""
    storage.save(name, name, "value")
    (file,) = files(tmp_path)
    assert tmp_path / "storage" == file.parent.parent
    assert "value" == storage.read_task(name, name)
    assert [name] == storage.list_tasks(name)


def test_a_very_long_name_is_listed(storage: FileStorage) -> None:
    """A file that could not bear the whole name has it inside, however long it is."""
    name = "n" * 100_000
    storage.save("w", name, 1)
    assert [name] == storage.list_tasks("w", "nn*")


# ---- damage ----


def spoilt(storage: FileStorage, file: Path, data: bytes) -> None:
    """Assert that other bytes than those written are not believed."""
    file.write_bytes(data)
    with pytest.raises(CorruptResult, match="cannot read w/small"):
        storage.read_task("w", "small")


def old_format(value: object) -> bytes:
    """A file as the published version wrote it: a pickle and its SHA-1."""
    stream = pickle.dumps(value)
    return stream + hashlib.sha1(stream, usedforsecurity=False).digest()


def test_files_of_the_old_format_are_read(storage: FileStorage, tmp_path: Path) -> None:
    """Results of the published version are results."""
    storage.new_workflow("w")
    value = {"a": [1, 2.5], "b": np.arange(5)}
    (tmp_path / "storage" / "w" / "old").write_bytes(old_format(value))
    assert ["old"] == storage.list_tasks("w")
    assert storage.file_exists("w", "old")
    result = storage.read_task("w", "old")
    assert [1, 2.5] == result["a"]
    np.testing.assert_array_equal(np.arange(5), result["b"])


def test_a_damaged_file_of_the_old_format_is_damaged(storage: FileStorage, tmp_path: Path) -> None:
    """The digest of the old format is checked as well."""
    storage.save("w", "small", 1)
    file, whole = result_file(tmp_path), old_format(list(range(20)))
    for position in range(len(whole)):
        spoilt(storage, file, whole[:position])
        spoilt(storage, file, whole[:position] + b"\xff" + whole[position + 1 :])


# ---- values ----


def test_arrays_are_not_copied_on_save(storage: FileStorage) -> None:
    """Saving takes next to no memory, and reading no more than the array itself."""
    array = np.ones(4_000_000)
    tracemalloc.start()
    try:
        storage.save("w", "array", {"x": array})
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        result = storage.read_task("w", "array")
        reading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert saving < array.nbytes / 20
    assert reading < array.nbytes * 1.05
    np.testing.assert_array_equal(array, result["x"])


def test_save_gives_the_stored_size(storage: FileStorage, tmp_path: Path) -> None:
    """The size in a report is that of the file."""
    saved = storage.save("w", "node", np.zeros(1_000))
    assert saved.nbytes == result_file(tmp_path).stat().st_size


def run_script(code: str, *arguments: object) -> str:
    """Run Python in a new process; return its output."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def test_results_of_local_classes_and_lambdas_are_read_anywhere(
    storage: FileStorage, tmp_path: Path
) -> None:
    """A class that cannot be imported is pickled by value, here and for another process."""

    class Local:
        def __init__(self) -> None:
            self.value = 7

    storage.save("w", "local", Local())
    storage.save("w", "lambda", lambda x: x + 1)
    assert 7 == storage.read_task("w", "local").value
    assert 3 == storage.read_task("w", "lambda")(2)
    code = """
        import sys
        from functionfuse.storage import storage_factory
        storage = storage_factory({"kind": "file", "options": {"path": sys.argv[1]}})
        print(storage.read_task("w", "local").value, storage.read_task("w", "lambda")(2))
    """
    assert "7 3" == run_script(code, tmp_path / "storage")


def test_results_of_classes_of_a_script_are_read_when_it_runs_again(
    storage: FileStorage, tmp_path: Path
) -> None:
    """A class of `__main__` is the script's own when it resumes; elsewhere the error says what to do."""
    code = """
        import sys
        from functionfuse.storage import storage_factory
        class Model:
            value = 7
        storage = storage_factory({"kind": "file", "options": {"path": sys.argv[1]}})
        if not storage.file_exists("w", "model"):
            storage.save("w", "model", Model())
        print(isinstance(storage.read_task("w", "model"), Model))
    """
    folder = tmp_path / "storage"
    assert ["True", "True"] == [run_script(code, folder), run_script(code, folder)]
    with pytest.raises(StorageError, match=r"is intact but cannot be unpickled here.*define"):
        storage.read_task("w", "model")


# ---- what cannot be saved ----


def test_an_unusable_folder_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be made is an error when the storage is made."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="file/storage' cannot be used: Not a directory"):
        storage_factory({"kind": "file", "options": {"path": tmp_path / "file" / "storage"}})


OPERATIONS = {
    "save": (lambda storage: storage.save("w", "node", 1), r"cannot save w/node"),
    "new workflow": (lambda storage: storage.new_workflow("w"), r"cannot .* w/"),
    "read": (lambda storage: storage.read_task("w", "node"), "no result w/node .*a symbolic link"),
    "info": (lambda storage: storage.info("w", "node"), "no result w/node .*a symbolic link"),
    "remove": (lambda storage: storage.remove_task("w", "node"), "no result w/node .*a symbolic"),
}


@pytest.mark.parametrize(("operation", "message"), OPERATIONS.values(), ids=OPERATIONS)
def test_a_file_with_the_name_of_a_workflow_is_a_storage_error(
    storage: FileStorage, tmp_path: Path, operation: Any, message: str
) -> None:
    """The error of a failed save names the result; nothing is stored there, and an earlier file stays."""
    (tmp_path / "storage" / "w").write_text("not a folder")
    with pytest.raises(StorageError, match=message):
        operation(storage)
    assert not storage.file_exists("w", "node")
    assert ([], []) == (storage.list_tasks("w"), storage.list_workflows())
    storage.remove_workflow("w")
    assert "not a folder" == (tmp_path / "storage" / "w").read_text()


def test_a_folder_where_a_result_should_be_cannot_be_saved_to(
    storage: FileStorage, tmp_path: Path
) -> None:
    """A folder is not a result, and saving does not replace it."""
    (tmp_path / "storage" / "w" / "node").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot save w/node"):
        storage.save("w", "node", 1)
    with pytest.raises(ResultNotFound):
        storage.read_task("w", "node")
    assert [] == storage.list_tasks("w")
    assert [] == files(tmp_path)


# ---- listing and removing ----


@pytest.fixture
def filled(storage: FileStorage) -> FileStorage:
    """A storage with some results of two workflows."""
    for name in ("node1", "node2", "node10", "Node3", "other[1]"):
        storage.save("w", name, name)
    storage.save("another", "node1", "of another")
    return storage


@pytest.mark.parametrize(("workflow", "name"), [("w", "nobody"), ("nobody", "node1")])
def test_reading_a_missing_result(filled: FileStorage, workflow: str, name: str) -> None:
    """The error is also Python's own for files, and names workflow, node and folder."""
    with pytest.raises(ResultNotFound, match=f"no result {workflow}/{name} in FileStorage"):
        filled.read_task(workflow, name)
    assert issubclass(ResultNotFound, FileNotFoundError)
    assert not filled.file_exists(workflow, name)


# ---- the header ----


def test_the_header_takes_any_seed(storage: FileStorage, tmp_path: Path) -> None:
    """A value that is not JSON, like a number of numpy's, is kept as text: the result counts."""
    storage.save("w", "node", 1, metadata={"seed": np.int64(3)})
    header = header_of(result_file(tmp_path).read_bytes())
    assert header is not None
    assert "3" == header["seed"]


# ---- the factory ----


def test_a_file_storage_is_a_storage(storage: FileStorage) -> None:
    """The factory's storages have all methods; they read back only if the option is set."""
    assert isinstance(storage, Storage)
    assert not storage.always_read


# ---- elsewhere, and at the same time ----


def test_a_storage_works_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickled storage is the same folder, also of a relative path and in another working directory."""
    monkeypatch.chdir(tmp_path)
    storage = storage_factory({"kind": "file", "options": {"path": "results"}})
    storage.always_read = True
    storage.save("w", "here", 1)
    (tmp_path / "recipe").write_bytes(pickle.dumps(storage))
    code = """
        import os, pickle, sys
        os.chdir("/")
        storage = pickle.loads(open(sys.argv[1], "rb").read())
        print(storage.read_task("w", "here"), storage.always_read)
        storage.save("w", "there", 2)
    """
    assert "1 True" == run_script(code, tmp_path / "recipe")
    assert ["here", "there"] == storage.list_tasks("w")
    assert 2 == storage.read_task("w", "there")
