"""Which serializer gets which value, and that nothing which it wrote is left behind or lost."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serializer_helpers import Kept, kept, local

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import OptionError, StorageError
from functionfuse.serializers import FILE_PROTOCOL, FOLDER_PROTOCOL, S3_PROTOCOL, generate_name
from functionfuse.serializers.base import Serializers, is_pickling_result, pickling_result
from functionfuse.workflow import workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["kept", "local"]


class Text(str):
    """A text that is kept in a file of its own."""

    __slots__ = ()


class LongText(Text):
    """One of a class derived from it."""

    __slots__ = ()


class TextSerializer:
    """As published: it writes to the path that the storage gives, in local folders and on S3."""

    serializer_class: Any = Text
    name = "text"

    @classmethod
    def pickle(cls, obj: Text, protocols: Any) -> tuple[str, Any] | None:
        """Write a text."""
        filename = generate_name()
        with cls._open(protocols, filename, "wb") as file:
            file.write(f"{type(obj).__name__} {obj!s}".encode())
        return cls.name, ("1", filename)

    @classmethod
    def unpickle(cls, pid: Any, protocols: Any) -> Text:
        """Read a text."""
        with cls._open(protocols, pid[1], "rb") as file:
            kind, _, text = file.read().decode().partition(" ")
        return {"Text": Text, "LongText": LongText}[kind](text)

    @classmethod
    def remove(cls, pid: Any, protocols: Any) -> None:
        """Remove a text."""
        if FILE_PROTOCOL in protocols:
            protocols[FILE_PROTOCOL].remove(pid[1])
        else:
            place = protocols[S3_PROTOCOL]
            place["client"].rm(f"{place['folder']}/{pid[1]}")

    @classmethod
    def _open(cls, protocols: Any, filename: str, mode: str) -> Any:
        if FILE_PROTOCOL in protocols:
            return protocols[FILE_PROTOCOL].open(filename, mode)
        place = protocols[S3_PROTOCOL]
        return place["client"].open(f"{place['folder']}/{filename}", mode)


class FolderSerializer(TextSerializer):
    """The same on every storage."""

    @classmethod
    def remove(cls, pid: Any, protocols: Any) -> None:
        """Remove a text."""
        protocols[FOLDER_PROTOCOL].remove(pid[1])

    @classmethod
    def _open(cls, protocols: Any, filename: str, mode: str) -> Any:
        return protocols[FOLDER_PROTOCOL].open(filename, mode)


class Failing(FolderSerializer):
    """Writes, and fails then."""

    calls = 0

    @classmethod
    def pickle(cls, obj: Text, protocols: Any) -> tuple[str, Any] | None:
        """Write a part and fail."""
        cls.calls += 1
        FolderSerializer.pickle(obj, protocols)
        message = "the disk said no"
        raise OSError(message)


class Unpicklable:
    """An object that no result file can hold."""

    def __reduce__(self) -> str:
        message = "never"
        raise TypeError(message)


@pytest.fixture(autouse=True)
def _literal_copy() -> Iterator[None]:
    yield
    Failing.calls = 0


# ---- the registry ----


def test_invalid_serializers_are_refused() -> None:
    """The error names what is missing."""
    with pytest.raises(
        OptionError, match="missing serializer_class, name, pickle, unpickle, remove;"
    ):
        Serializers().register(pickle)
    with pytest.raises(OptionError, match=r"must be a class, .*not 3"):
        Serializers().register(type("Wrong", (TextSerializer,), {"serializer_class": 3}))


def test_nothing_is_registered_with_something_wrong() -> None:
    """A call that fails has done nothing."""
    serializers = Serializers()
    with pytest.raises(OptionError):
        serializers.register(TextSerializer, object)
    assert not serializers


def test_the_type_itself_comes_before_its_base_classes() -> None:
    """Exact type, then the nearest base class, then later before earlier."""
    base = type("Base", (FolderSerializer,), {"name": "base", "serializer_class": str})
    exact = type("Exact", (FolderSerializer,), {"name": "exact", "serializer_class": LongText})
    later = type("Later", (FolderSerializer,), {"name": "later", "serializer_class": LongText})
    serializers = Serializers()
    serializers.register(exact, later, TextSerializer, base)
    names = [serializer.name for serializer in serializers.find(LongText)]
    assert ["later", "exact", "text", "base"] == names
    assert [] == serializers.find(bytes)


def test_a_class_may_be_named() -> None:
    """A library that is not imported has no values, and is not imported for that."""
    named: Any = type(
        "Named", (FolderSerializer,), {"serializer_class": ("decimal.Decimal", "nowhere.Thing")}
    )
    serializers = Serializers()
    serializers.register(named)
    from decimal import Decimal

    assert [named] == serializers.find(Decimal)
    assert [] == serializers.find(int)


def test_objects_can_tell_that_they_are_being_stored() -> None:
    """Also that a serializer sends values to workers, not into a result file."""
    seen = []
    spy = type(
        "Spy",
        (FolderSerializer,),
        {"pickle": classmethod(lambda cls, obj, protocols: seen.append(is_pickling_result()))},
    )
    serializers = Serializers()
    serializers.register(spy)
    with pickling_result():
        assert is_pickling_result()
        serializers.saving({}).persistent_id(Text("a"))
    assert not is_pickling_result()
    assert [False] == seen


# ---- values in storages ----


def test_values_are_found_wherever_they_are(kept: Kept) -> None:
    """Alone, in containers and in objects; other values are pickled as ever."""
    for value in (
        Text("alone"),
        [Text("a"), {"b": (Text("c"), 1), "d": {"e": LongText("f")}}, "plain"],
        [],
    ):
        found = kept.round_trip(value, FolderSerializer)
        assert repr(value) == repr(found)
        assert type(value) is type(found)


def test_values_are_not_in_the_result_file(kept: Kept) -> None:
    """Values are in sidecar files, one for each value, and an equal storage in another process finds them."""
    value = [Text("first-marker"), Text("second-marker")]
    kept.storage(FolderSerializer).save("w", "node", value)
    assert b"marker" not in kept.result()
    assert 2 == len(kept.objects())
    assert value == kept.storage(FolderSerializer).read_task("w", "node")
    assert ["node"] == kept.storage().list_tasks("w")


def test_an_object_referenced_twice_is_written_once(kept: Kept) -> None:
    """And is one object again."""
    text = Text("shared")
    first, (second,) = kept.round_trip((text, [text]), FolderSerializer)
    assert first is second
    assert 1 == len(kept.objects())


@pytest.mark.parametrize("kept", ["file", "S3"], indirect=True)
def test_a_published_serializer_works(kept: Kept) -> None:
    """With the two protocols that have ever been, and nothing is left of it."""
    storage = kept.storage(TextSerializer)
    storage.save("w", "node", {"a": [LongText("x")]})
    assert repr({"a": [LongText("x")]}) == repr(storage.read_task("w", "node"))
    storage.remove_task("w", "node")
    assert [] == kept.files()


def test_nothing_is_left_of_a_removed_result(kept: Kept) -> None:
    """By name, by pattern, with the workflow; also by a storage without the serializer."""
    storage = kept.storage(FolderSerializer)
    for name in ("a", "b", "c", "d"):
        storage.save("w", name, Text(name))
    storage.remove_task("w", "a")
    assert 3 == len(kept.objects())
    storage.remove_task("w", pattern="b*")
    assert 2 == len(kept.objects())
    kept.storage().remove_task("w", "c")
    assert 1 == len(kept.objects())
    storage.remove_workflow("w")
    assert [] == kept.files()


def test_a_replaced_result_leaves_nothing(kept: Kept) -> None:
    """Without a grace period the objects of the earlier result go, also if the later one has none."""
    storage = kept.storage(FolderSerializer, grace=0)
    storage.save("w", "node", Text("first"))
    (first,) = kept.objects()
    storage.save("w", "node", Text("second"))
    (second,) = kept.objects()
    assert first != second
    assert Text("second") == storage.read_task("w", "node")
    storage.save("w", "node", 3)
    assert [] == kept.objects()


@pytest.mark.parametrize("value", [[Text("a"), Unpicklable()], [Text("a"), lambda: Unpicklable]])
def test_a_failed_save_leaves_the_earlier_result(kept: Kept, value: Any) -> None:
    """And no orphans: neither of what was written well, nor of what fails later."""
    storage = kept.storage(FolderSerializer)
    storage.save("w", "node", Text("good"))
    before = kept.files()
    if callable(value[1]):
        value[1] = (value[1], Unpicklable())
    with pytest.raises(StorageError):
        storage.save("w", "node", value)
    assert before == kept.files()
    assert Text("good") == storage.read_task("w", "node")


def test_a_failing_serializer_leaves_nothing(kept: Kept) -> None:
    """A failing serializer is called once, its files are removed, and its error is reported."""
    storage = kept.storage(Failing)
    with pytest.raises(StorageError, match=r"'text' cannot save a Text .*the disk said no"):
        storage.save("w", "node", [Text("a"), lambda: None])
    assert 1 == Failing.calls
    assert [] == kept.files()


def test_an_unknown_serializer_is_named(kept: Kept) -> None:
    """The reader's error says which serializer to register."""
    kept.storage(FolderSerializer).save("w", "node", Text("a"))
    with pytest.raises(StorageError, match=r"'text', which is not registered \(registered: none"):
        kept.storage().read_task("w", "node")


def test_a_serializer_may_leave_a_value_to_pickle(kept: Kept) -> None:
    """Or to the serializer of a base class."""
    refusing = type(
        "Refusing",
        (FolderSerializer,),
        {
            "name": "refusing",
            "serializer_class": LongText,
            "pickle": classmethod(lambda cls, obj, protocols: None),
        },
    )
    assert LongText("a") == kept.round_trip(LongText("a"), refusing)
    assert [] == kept.objects()
    assert LongText("a") == kept.round_trip(LongText("a"), refusing, FolderSerializer)
    assert 1 == len(kept.objects())


class Remembering(FolderSerializer):
    """Writes to another place, too, and records what it removes."""

    removed: list[Any]

    @classmethod
    def remove(cls, pid: Any, protocols: Any) -> None:
        """Remove a text."""
        cls.removed.append(pid)


def test_a_serializer_is_asked_to_remove_what_it_wrote(kept: Kept) -> None:
    """With exactly what it called it, so that it may have written elsewhere."""
    Remembering.removed = []
    storage = kept.storage(Remembering)
    storage.save("w", "node", [Text("a"), Text("b")])
    names = sorted(Path(path).name for path in kept.objects())
    storage.remove_task("w", "node")
    assert [("1", name) for name in names] == sorted(Remembering.removed)


def test_dependents_get_the_loaded_result(kept: Kept) -> None:
    """With `always_read` a value is read back by its serializer."""

    class Marking(FolderSerializer):
        @classmethod
        def unpickle(cls, pid: Any, protocols: Any) -> Text:
            return Text(f"read {FolderSerializer.unpickle(pid, protocols)}")

    @workflow
    def make() -> Text:
        return Text("x")

    @workflow
    def use(text: str) -> str:
        return f"used {text}"

    for always, expected in ((False, "used x"), (True, "used read x")):
        storage = kept.storage(Marking)
        storage.always_read = always
        run = LocalWorkflow(use(make().set_name("m")), workflow_name=f"always-{always}")
        run.set_storage(storage)
        assert expected == run.run()


def test_serializers_are_pickled_with_the_storage(local: Kept) -> None:
    """A worker's copy has them too."""
    storage = pickle.loads(pickle.dumps(local.storage(FolderSerializer)))
    storage.save("w", "node", Text("a"))
    assert 1 == len(local.objects())
    assert Text("a") == storage.read_task("w", "node")


# ---- libraries ----


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("daskarray", "dask.array"),
        ("daskarray", "zarr"),
        ("hdf", "h5py"),
        ("xarrays", "xarray"),
        ("torch", "torch"),
        ("torch", "safetensors"),
    ],
)
def test_a_missing_library_is_named(module: str, library: str) -> None:
    """With the line that installs it, when the serializer is imported."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"import functionfuse.errors as e\n"
        f"try: import functionfuse.serializers.{module}\n"
        "except e.MissingExtraError as error: print(error)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install" in done.stdout


def test_tables_need_only_the_library_that_they_are_of() -> None:
    """The serializer is imported without any library; a pandas table requires pyarrow."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import functionfuse.serializers.arrow as a, functionfuse.errors as e\n"
        "print([name for name in ('pandas', 'polars') if name in sys.modules])\n"
        "import pandas\n"
        "try: a.ArrowSerializer.pickle(pandas.DataFrame({'a': [1]}), {})\n"
        "except e.MissingExtraError as error: print(error)"
    )
    pytest.importorskip("pandas")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert "[]" == first
    assert "pip install 'functionfuse[arrays]'" in second
