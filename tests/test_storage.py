"""Results in files: nothing is lost, nothing leaves its folder, nothing damaged is believed."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from functionfuse.errors import CorruptResult, OptionError, ResultNotFound, StorageError
from functionfuse.storage import storage_factory
from functionfuse.storage.base import Storage
from functionfuse.storage.framing import header_of
from functionfuse.storage.kinds import FileStorage
from functionfuse.storage.naming import file_name, node_name

#: Names that a file system, a URL or a shell would take for something else.
HOSTILE = [
    "",
    "/",
    "/etc/passwd",
    "..",
    ".",
    "../../up",
    "a/../b",
    ".hidden",
    ".tmp-1-1-abcd",
    "%",
    "%2e",
    "%~",
    "a%~b",
    "100 %",
    "back\\slash",
    "with space ",
    "tab\tand\nline",
    "\x00",
    "\x7f",
    "\ud800",
    "a\udfffb",
    "😀" * 75,
    "x" * 300,
    "x" * 301,
    ("x" * 300).upper(),
    "." * 300,
    "/" * 300,
    "é",
    "e\u0301",
    "ß",
    "\u017f",
    "ⓐ",
    "Ⓐ",
    "\u2160",
    "\u2170",
    "\u0345",
    "a\u0301\u0323",
    "a\u0323\u0301",
    "Name",
    "name",
    "NAME",
    "con",
    "node*",
    "[n]ode",
    "~",
    "$HOME",
]

lone_surrogates = st.characters(categories=["Cs"])
names = st.sampled_from(HOSTILE) | st.text(max_size=20) | st.text(st.sampled_from("aA./%\\~é"))
names |= st.builds("{0}{1}{2}".format, st.text("aA", max_size=3), lone_surrogates, st.just("z"))
long_names = st.builds("{0}{1}".format, names, st.integers(190, 260).map("n".__mul__))


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
    """Whatever the name, the file's is one component that is not hidden and not too long."""
    for fold_case in (False, True):
        file = file_name(name, fold_case=fold_case)
        assert os.path.basename(file) == file
        assert not file.startswith(".")
        assert 0 < len(os.fsencode(file)) <= 200
        assert not any(char < " " or char == "\\" for char in file)


@settings(deadline=None)
@given(names | long_names, st.booleans())
def test_names_come_back(name: str, fold_case: bool) -> None:  # noqa: FBT001
    """A file name stands for its node's name, or says that the header has it."""
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
def test_readable_names_stay_as_they_are(name: str) -> None:
    """A user finds a result by the name that the node was given."""
    assert name == file_name(name)


# ---- a storage is a dict ----


class StorageIsADict(RuleBasedStateMachine):
    """A storage and a dict side by side: saving, reading, listing and removing agree."""

    workflows = st.sampled_from(["w", "W", "..", "", "a/b", "x" * 300, "😀", "\ud800"])

    def __init__(self) -> None:
        """Begin with nothing stored."""
        super().__init__()
        self.outside = tempfile.TemporaryDirectory()
        self.folder = Path(self.outside.name, "storage")
        self.storage: Storage = FileStorage(self.folder)
        self.model: dict[str, dict[str, int]] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.outside.cleanup()

    def some_name(self, data: st.DataObject, workflow: str) -> str:
        """A name that is stored, if there is one, or any."""
        return data.draw(st.sampled_from([*self.model.get(workflow, {}), *HOSTILE]))

    @rule(workflow=workflows, name=names | long_names, value=st.integers())
    def save(self, workflow: str, name: str, value: int) -> None:
        """A saved value replaces the one before."""
        self.storage.save(workflow, name, value)
        self.model.setdefault(workflow, {})[name] = value

    @rule(workflow=workflows)
    def make(self, workflow: str) -> None:
        """Making room changes nothing that is stored."""
        self.storage.new_workflow(workflow)

    @rule(workflow=workflows, data=st.data())
    def remove(self, workflow: str, data: st.DataObject) -> None:
        """One result goes, if it is there."""
        name = self.some_name(data, workflow)
        if name in self.model.get(workflow, {}):
            self.storage.remove_task(workflow, name)
            del self.model[workflow][name]
        else:
            with pytest.raises(ResultNotFound):
                self.storage.remove_task(workflow, name)

    @rule(workflow=workflows, pattern=st.sampled_from(["*", "?", "*e*", "..*", "x*", "[Nn]*", ""]))
    def remove_matching(self, workflow: str, pattern: str) -> None:
        """All that match a pattern go."""
        self.storage.remove_task(workflow, pattern=pattern)
        kept = self.model.get(workflow, {}).items()
        self.model[workflow] = {
            name: value for name, value in kept if not fnmatch.fnmatchcase(name, pattern)
        }

    @rule(workflow=workflows)
    def remove_workflow(self, workflow: str) -> None:
        """One workflow goes, and no other."""
        self.storage.remove_workflow(workflow)
        self.model.pop(workflow, None)

    @rule()
    def travel(self) -> None:
        """A copy that went elsewhere sees the same."""
        self.storage = pickle.loads(pickle.dumps(self.storage))

    @rule(workflow=workflows, data=st.data())
    def look(self, workflow: str, data: st.DataObject) -> None:
        """A result is there or not, for everyone who asks."""
        name = self.some_name(data, workflow)
        there = name in self.model.get(workflow, {})
        assert there == self.storage.file_exists(workflow, name)
        if not there:
            with pytest.raises(ResultNotFound):
                self.storage.read_task(workflow, name)

    @invariant()
    def same_results(self) -> None:
        """What is listed and read is what was saved."""
        for workflow, results in self.model.items():
            assert sorted(results) == self.storage.list_tasks(workflow)
            assert results == {name: self.storage.read_task(workflow, name) for name in results}

    @invariant()
    def same_files(self) -> None:
        """There is one file for each result, in the workflow's folder, and none anywhere else."""
        assert [self.folder] == list(Path(self.outside.name).iterdir())
        depths = [len(file.relative_to(self.folder).parts) for file in files(self.folder)]
        assert [2] * sum(map(len, self.model.values())) == depths


StorageIsADict.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
TestStorageIsADict = StorageIsADict.TestCase


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_never_leaves_its_folder(storage: FileStorage, tmp_path: Path, name: str) -> None:
    """Whatever a node or a workflow is called, its file is where it belongs, and comes back."""
    storage.save(name, name, "value")
    (file,) = files(tmp_path)
    assert tmp_path / "storage" == file.parent.parent
    assert "value" == storage.read_task(name, name)
    assert [name] == storage.list_tasks(name)


def test_removing_a_workflow_removes_no_other(storage: FileStorage) -> None:
    """Not even for names that a file system reads as the folder itself."""
    storage.save("w", "node", 1)
    for name in ("", ".", "..", "/", "w/..", "w/node", "W"):
        storage.remove_workflow(name)
    assert ["node"] == storage.list_tasks("w")


def test_a_very_long_name_is_listed(storage: FileStorage) -> None:
    """A file that could not bear the whole name has it inside, however long it is."""
    name = "n" * 100_000
    storage.save("w", name, 1)
    assert [name] == storage.list_tasks("w", "nn*")


# ---- damage ----

SMALL = {"rows": [1, "two", None], "array": np.arange(3)}


def spoilt(storage: FileStorage, file: Path, data: bytes) -> None:
    """Assert that other bytes than those written are not believed."""
    file.write_bytes(data)
    with pytest.raises(CorruptResult, match="cannot read w/small"):
        storage.read_task("w", "small")


def test_a_result_cut_at_any_length_is_damaged(storage: FileStorage, tmp_path: Path) -> None:
    """A file that was not written to its end is never taken for a result."""
    storage.save("w", "small", SMALL)
    file = result_file(tmp_path)
    whole = file.read_bytes()
    for length in range(len(whole)):
        spoilt(storage, file, whole[:length])
    spoilt(storage, file, whole + b"\0")


def test_a_result_with_any_byte_changed_is_damaged(storage: FileStorage, tmp_path: Path) -> None:
    """No byte of a file can change unseen, not even those that carry nothing."""
    storage.save("w", "small", SMALL)
    file = result_file(tmp_path)
    whole = file.read_bytes()
    for position in range(len(whole)):
        for bits in (0x01, 0x80, 0xFF):
            changed = bytearray(whole)
            changed[position] ^= bits
            spoilt(storage, file, bytes(changed))
    file.write_bytes(whole)
    assert [1, "two", None] == storage.read_task("w", "small")["rows"]


def test_a_damaged_result_can_be_replaced_and_removed(storage: FileStorage, tmp_path: Path) -> None:
    """Damage is in the way of nothing."""
    storage.save("w", "small", SMALL)
    result_file(tmp_path).write_bytes(b"")
    assert ["small"] == storage.list_tasks("w")
    storage.save("w", "small", 2)
    assert 2 == storage.read_task("w", "small")
    result_file(tmp_path).write_bytes(b"")
    storage.remove_task("w", "small")
    assert [] == storage.list_tasks("w")


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

ARRAYS: dict[str, Any] = {
    "vector": np.arange(10.0),
    "columns first": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "view": np.arange(20)[::3],
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "empty": np.empty((0, 3)),
    "scalar": np.array(3),
    "records": np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    "objects": np.array([1, "two", None], dtype=object),
    "big endian": np.arange(4, dtype=">i4"),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_come_back_equal_and_writeable(storage: FileStorage, array: Any) -> None:
    """An array is what it was, and may be worked on in place."""
    storage.save("w", "array", {"x": array})
    result = storage.read_task("w", "array")["x"]
    np.testing.assert_array_equal(array, result)
    assert (array.dtype, array.shape) == (result.dtype, result.shape)
    assert result.flags.writeable
    result[...] = result
    np.testing.assert_array_equal(array, storage.read_task("w", "array")["x"])


def test_changing_a_read_array_does_not_change_the_file(storage: FileStorage) -> None:
    """What was read belongs to the reader."""
    storage.save("w", "array", np.zeros(1_000))
    storage.read_task("w", "array")[:] = 1
    assert 0 == storage.read_task("w", "array").sum()


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
    assert storage.save("w", "node", np.zeros(1_000)) == result_file(tmp_path).stat().st_size


def test_none_is_a_result(storage: FileStorage) -> None:
    """A function that returns nothing has a result that is stored."""
    storage.save("w", "node", None)
    assert storage.file_exists("w", "node")
    assert storage.read_task("w", "node") is None


def run_script(code: str, *arguments: object) -> str:
    """Run Python in a process of its own; give what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def test_results_of_local_classes_and_lambdas_are_read_anywhere(
    storage: FileStorage, tmp_path: Path
) -> None:
    """What cannot be imported travels whole, here and into another process."""

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


class Raises:
    """Cannot be pickled, and says so in its own way."""

    def __init__(self, error: type[BaseException]) -> None:
        """Take the way."""
        self.error = error

    def __reduce__(self) -> Any:
        """Raise."""
        message = "no pickle"
        raise self.error(message)


class Scattered:
    """Offers a buffer that is not in one piece, which cannot be written as it is."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Give a buffer out of band."""
        return bytes, (pickle.PickleBuffer(memoryview(bytearray(100))[::2]),)


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        [np.zeros(10), (str(number) for number in range(3))],
        Raises(ValueError),
        Raises(OSError),
        Raises(RecursionError),
        [np.zeros(1_000), Scattered()],
    ],
    ids=["lock", "generator", "ValueError", "OSError", "RecursionError", "buffer"],
)
def test_what_cannot_be_pickled_is_refused(
    storage: FileStorage, tmp_path: Path, value: Any
) -> None:
    """The error names result and storage; no file is left, and an earlier result stays."""
    with pytest.raises(StorageError, match=r"cannot save w/node in FileStorage.*cannot be pickled"):
        storage.save("w", "node", value)
    assert [] == files(tmp_path)
    storage.save("w", "node", 1)
    with pytest.raises(StorageError):
        storage.save("w", "node", value)
    assert 1 == storage.read_task("w", "node")
    assert 1 == len(files(tmp_path))


def test_an_interrupted_save_leaves_the_earlier_result(
    storage: FileStorage, tmp_path: Path
) -> None:
    """Ctrl-C is no error of the storage: it goes through, and nothing is half done."""
    storage.save("w", "node", 1)
    with pytest.raises(KeyboardInterrupt):
        storage.save("w", "node", [np.zeros(1_000), Raises(KeyboardInterrupt)])
    assert 1 == storage.read_task("w", "node")
    assert 1 == len(files(tmp_path))


def test_a_full_disk_leaves_the_earlier_result(tmp_path: Path) -> None:
    """When the system stops writing midway, that is an error, and the earlier result is whole."""
    code = """
        import os, resource, sys
        import numpy as np
        from functionfuse.errors import StorageError
        from functionfuse.storage import storage_factory
        storage = storage_factory({"kind": "file", "options": {"path": sys.argv[1]}})
        storage.save("w", "node", "earlier")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        try:
            storage.save("w", "node", np.zeros(12_800))  # its buffer is the end of the file
        except StorageError as error:
            print(storage.read_task("w", "node"), len(os.listdir(sys.argv[1] + "/w")), error)
    """
    assert run_script(code, tmp_path).startswith("earlier 1 cannot save w/node")


def test_an_unusable_folder_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be made is an error when the storage is made."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="file/storage' cannot be used: Not a directory"):
        storage_factory({"kind": "file", "options": {"path": tmp_path / "file" / "storage"}})


OPERATIONS = {
    "save": lambda storage: storage.save("w", "node", 1),
    "read": lambda storage: storage.read_task("w", "node"),
    "list": lambda storage: storage.list_tasks("w"),
    "remove": lambda storage: storage.remove_task("w", "node"),
    "remove workflow": lambda storage: storage.remove_workflow("w"),
    "new workflow": lambda storage: storage.new_workflow("w"),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_folder_that_is_a_file_is_a_storage_error(
    storage: FileStorage, tmp_path: Path, operation: Any
) -> None:
    """Whatever the operating system has to say is said as a StorageError with the names."""
    (tmp_path / "storage" / "w").write_text("not a folder")
    with pytest.raises(StorageError, match=r"cannot .* w/"):
        operation(storage)
    assert not storage.file_exists("w", "node")


def test_a_folder_where_a_result_should_be_cannot_be_saved_to(
    storage: FileStorage, tmp_path: Path
) -> None:
    """A folder is no result, and saving does not replace it."""
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


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["Node3", "node1", "node10", "node2", "other[1]"]),
        ("node*", ["node1", "node10", "node2"]),
        ("node?", ["node1", "node2"]),
        ("[Nn]ode[23]", ["Node3", "node2"]),
        ("node1", ["node1"]),
        ("other[[]1]", ["other[1]"]),
        ("nothing*", []),
    ],
)
def test_list_tasks_takes_a_glob_pattern(
    filled: FileStorage, pattern: str, expected: list[str]
) -> None:
    """Names that match in full, upper and lower case told apart, sorted."""
    assert expected == filled.list_tasks(workflow_name="w", pattern=pattern)


def test_listing_what_is_not_there_is_empty(storage: FileStorage) -> None:
    """A workflow that has not run has no results."""
    assert [] == storage.list_tasks("nobody")


def test_remove_task_by_name(filled: FileStorage) -> None:
    """One result goes: by its name, not by what it would match."""
    filled.remove_task("w", "other[1]")
    filled.remove_task(workflow_name="w", task_name="node1")
    assert ["Node3", "node10", "node2"] == filled.list_tasks("w")
    assert ["node1"] == filled.list_tasks("another")


def test_remove_task_by_pattern(filled: FileStorage) -> None:
    """All that match go; matching nothing is fine."""
    filled.remove_task("w", pattern="node*")
    filled.remove_task("w", pattern="nothing*")
    assert ["Node3", "other[1]"] == filled.list_tasks("w")


def test_removing_what_is_not_there_is_an_error(filled: FileStorage) -> None:
    """A name that is not stored is most likely misspelt."""
    with pytest.raises(ResultNotFound, match="there is no result w/node9"):
        filled.remove_task("w", "node9")


@pytest.mark.parametrize("arguments", [{}, {"task_name": "node1", "pattern": "node*"}])
def test_remove_task_takes_a_name_or_a_pattern(
    filled: FileStorage, arguments: dict[str, str]
) -> None:
    """Neither or both is a mistake, and removes nothing."""
    with pytest.raises(TypeError, match="either a task_name or a pattern"):
        filled.remove_task("w", **arguments)
    assert 5 == len(filled.list_tasks("w"))


def test_remove_workflow(filled: FileStorage) -> None:
    """All results of one workflow go; once more is fine."""
    filled.remove_workflow("w")
    filled.remove_workflow("w")
    assert ([], ["node1"]) == (filled.list_tasks("w"), filled.list_tasks("another"))


def test_new_workflow_keeps_what_is_there(filled: FileStorage) -> None:
    """Making room for results removes none."""
    filled.new_workflow("w")
    filled.new_workflow("new")
    assert (5, []) == (len(filled.list_tasks("w")), filled.list_tasks("new"))


@pytest.mark.parametrize(("workflow", "name"), [("w", "nobody"), ("nobody", "node1")])
def test_reading_what_is_not_there(filled: FileStorage, workflow: str, name: str) -> None:
    """The error is also Python's own for files, and names workflow, node and folder."""
    with pytest.raises(ResultNotFound, match=f"no result {workflow}/{name} in FileStorage"):
        filled.read_task(workflow, name)
    assert issubclass(ResultNotFound, FileNotFoundError)
    assert not filled.file_exists(workflow, name)


def test_files_that_were_not_finished_are_no_results(filled: FileStorage, tmp_path: Path) -> None:
    """What a killed process left behind is not listed."""
    (tmp_path / "storage" / "w" / ".tmp-1-0-abcdef").write_bytes(b"half")
    assert 5 == len(filled.list_tasks("w"))


def test_nothing_but_results_is_left(filled: FileStorage, tmp_path: Path) -> None:
    """Saving, also over an earlier result, leaves one file for each."""
    filled.save("w", "node1", 2)
    assert ["Node3", "node1", "node10", "node2", "other[1]"] == [
        file.name for file in files(tmp_path / "storage" / "w")
    ]


# ---- the header ----


def test_the_header_says_what_a_result_is(storage: FileStorage, tmp_path: Path) -> None:
    """A file tells its workflow, node and origin without being unpickled."""
    storage.save("w", "node", np.zeros(10), about={"function": "make", "seed": 3})
    header = header_of(result_file(tmp_path).read_bytes())
    assert header is not None
    assert ("w", "node", "make", 3) == tuple(
        header[key] for key in ("workflow", "node", "function", "seed")
    )
    assert {"created", "host", "python", "functionfuse", "codec", "parts"} <= set(header)


def test_the_header_takes_any_seed(storage: FileStorage, tmp_path: Path) -> None:
    """What is no JSON value, like a number of numpy's, is kept as text: the result counts."""
    storage.save("w", "node", 1, about={"seed": np.int64(3)})
    header = header_of(result_file(tmp_path).read_bytes())
    assert header is not None
    assert "3" == header["seed"]


def test_the_old_format_has_no_header() -> None:
    """Nothing is made up for files that say nothing."""
    assert header_of(old_format(1)) is None


def test_arrays_are_aligned_in_the_file(storage: FileStorage, tmp_path: Path) -> None:
    """Buffers begin where processors, and maps of memory, like them to."""
    storage.save("w", "node", np.full(9_999, 0x55, dtype=np.uint8))
    assert 0 == result_file(tmp_path).read_bytes().index(b"\x55" * 9_999) % 64


# ---- the factory ----

CONFIGURATIONS: dict[str, tuple[Any, str]] = {
    "kind": ({"kind": "fiel", "options": {}}, "'fiel' is no kind of storage; did you mean 'file'"),
    "no kind": ({"options": {"path": "x"}}, "None is no kind of storage"),
    "option": (
        {"kind": "file", "options": {"pth": "x"}},
        "'pth' is no option of a 'file' storage; did you mean 'path'",
    ),
    "missing option": ({"kind": "file", "options": {}}, "missing .* 'path'"),
    "no options": ({"kind": "file"}, "missing .* 'path'"),
    "wrong value": ({"kind": "file", "options": {"path": None}}, "cannot be made of .*NoneType"),
    "key": ({"kind": "file", "option": {}}, "'option' is no key .* did you mean 'options'"),
}


@pytest.mark.parametrize(("configuration", "message"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_wrong_configuration_is_refused(configuration: Any, message: str) -> None:
    """The error names what is not understood, and the nearest that is."""
    with pytest.raises(OptionError, match=message):
        storage_factory(configuration)


def test_a_file_storage_is_a_storage(storage: FileStorage) -> None:
    """The factory's storages have all methods; they read back only when told to."""
    assert isinstance(storage, Storage)
    assert not storage.always_read


# ---- elsewhere, and at the same time ----


def test_a_storage_works_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickled storage is the same folder, also of a relative path and in another place."""
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


def test_writers_of_one_name_do_not_disturb_each_other(
    storage: FileStorage, tmp_path: Path
) -> None:
    """Many writers at once: a reader always gets one whole value, and no file is left over."""
    writers, saves = 8, 20
    start = threading.Barrier(writers + 1)
    read: list[Any] = []
    storage.save("w", "node", np.full(5_000, 0))

    def write(number: int) -> None:
        start.wait()
        for _ in range(saves):
            storage.save("w", "node", np.full(5_000, number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        read.append(storage.read_task("w", "node"))
    for thread in threads:
        thread.join()
    read.append(storage.read_task("w", "node"))
    assert {1} == {len(set(value.tolist())) for value in read}
    assert 1 == len(files(tmp_path))
