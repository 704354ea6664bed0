"""Damage to what serializers wrote: whatever it is, a run computes the result again, once."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pytest
from serializer_helpers import Kept, kept, local

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import CorruptResult, DamagedResultWarning
from functionfuse.events import NodeFinished
from functionfuse.serializers import FOLDER_PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kept", "local"]

TOTAL: Final = 4950.0  # of the numbers below 100


class Case(NamedTuple):
    """A serializer, a value that it keeps, and the files of that value."""

    serializer: str
    needs: tuple[str, ...]
    make: Callable[[], Any]
    total: Callable[[Any], float]
    files: tuple[str, ...]


def dask_array() -> Any:
    """A lazy array."""
    import dask.array as da

    return da.arange(100.0, chunks=25)


def dataset() -> Any:
    """A dataset with a lazy variable."""
    import xarray as xr

    return xr.Dataset({"numbers": ("x", dask_array())})


def frame() -> Any:
    """A table."""
    import pandas as pd

    return pd.DataFrame({"numbers": np.arange(100.0)})


def tensor() -> Any:
    """A tensor."""
    import torch

    return torch.arange(100.0)


ZARR: Final = ("c.2", "zarr.json", "digests.json")
CASES: Final = {
    "dask": Case(
        "daskarray:DaskArraySerializer",
        ("dask.array", "zarr"),
        dask_array,
        lambda value: float(value.sum().compute()),
        ZARR,
    ),
    "xarray": Case(
        "xarrays:XarraySerializer",
        ("xarray", "dask.array", "zarr"),
        dataset,
        lambda value: float(value["numbers"].sum()),
        ZARR,
    ),
    "arrow": Case(
        "arrow:ArrowSerializer",
        ("pandas", "pyarrow"),
        frame,
        lambda value: float(value["numbers"].sum()),
        (".parquet",),
    ),
    "torch": Case(
        "torch:TorchSerializer",
        ("torch", "safetensors"),
        tensor,
        lambda value: float(value.sum()),
        (".objects",),
    ),
}
PARTS: Final = [(kind, part) for kind, case in CASES.items() for part in case.files]


def flipped(data: bytes) -> bytes:
    """One byte changed, in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE: Final[dict[str, Callable[[bytes], bytes | None]]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "cut": lambda data: data[:-1],
    "flipped": flipped,
    "longer": lambda data: data + b"\0",
}


@workflow
def make(kind: str) -> Any:
    """Make a value."""
    return CASES[kind].make()


@workflow
def total(kind: str, value: Any) -> float:
    """Add up."""
    return CASES[kind].total(value)


def run(storage: Any, kind: str, name: str, *observers: Any) -> tuple[float, list[str]]:
    """Run a node of that name on the stored value; gives its result, and the damage that was reported."""
    node = total(kind, make(kind).set_name("node")).set_name(name)
    return run_nodes(storage, node, *observers)


def run_nodes(storage: Any, target: Any, *observers: Any) -> tuple[Any, list[str]]:
    """Run a workflow; gives its result, and the damage that was reported."""
    made = LocalWorkflow(target, workflow_name="w")
    made.set_storage(storage)
    for observer in observers:
        made.add_observer(observer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = made.run()
    told = [each for each in caught if issubclass(each.category, DamagedResultWarning)]
    return result, [str(each.message) for each in told]


def damage(kept: Kept, part: str, change: Callable[[bytes], bytes | None]) -> None:
    """Change a file of the stored value."""
    (file,) = [path for path in kept.objects() if part in path]
    content = change(kept.filesystem.cat_file(file))
    if content is None:
        kept.filesystem.rm(file)
    else:
        kept.filesystem.pipe_file(file, content)


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_a_run_computes_the_result_again(
    kept: Kept, kind: str, part: str, change: Callable[[bytes], bytes | None]
) -> None:
    """A result with a damaged file is computed again; then no damage is left, and the next run is clean."""
    case = CASES[kind]
    for library in case.needs:
        pytest.importorskip(library)
    module, _, name = case.serializer.partition(":")
    serializer = getattr(import_module(f"functionfuse.serializers.{module}"), name)
    storage = kept.storage(serializer, grace=0)
    assert (TOTAL, []) == run(storage, kind, "first")
    files = len(kept.files())
    damage(kept, part, change)

    result, told = run(storage, kind, "second")
    assert TOTAL == result
    (message,) = told
    assert message.startswith("the stored result of node 'node' is damaged and is computed again: ")
    assert (TOTAL, []) == run(storage, kind, "third")
    assert files + 2 == len(kept.files())  # the results of the second and the third run


# ---- others ----


class Page(str):
    """A value of a user's own."""

    __slots__ = ()


class Pages:
    """A user's own serializer, which knows nothing of damage."""

    serializer_class = Page
    name = "pages"

    @classmethod
    def pickle(cls, obj: Any, protocols: Any) -> tuple[str, str]:
        """Write a file."""
        with protocols[FOLDER_PROTOCOL].open("page", "w") as file:
            file.write(obj)
        return cls.name, "page"

    @classmethod
    def unpickle(cls, pid: Any, protocols: Any) -> Page:
        """Read the file."""
        with protocols[FOLDER_PROTOCOL].open(pid, "r") as file:
            return Page(file.read())

    @classmethod
    def remove(cls, pid: Any, protocols: Any) -> None:
        """Remove the file."""
        protocols[FOLDER_PROTOCOL].remove(pid)


@workflow
def page() -> Page:
    """Make a page."""
    return Page("text")


def test_a_missing_file_of_any_serializer_is_damage(local: Kept) -> None:
    """A run computes the result again."""
    storage = local.storage(Pages)
    assert ("text", []) == run_nodes(storage, page())
    (file,) = local.objects()
    local.filesystem.rm(file)
    value, told = run_nodes(storage, page())
    assert "text" == value
    (message,) = told
    assert "a file of the serializer 'pages' is missing" in message


class Published(pickle.Pickler):
    """Writes dask arrays as the published system does."""

    def persistent_id(self, obj: Any) -> Any:
        """Say where an array is."""
        return ("HDFSerializer", ("0.0.0", "array")) if hasattr(obj, "dask") else None


@pytest.fixture
def published(local: Kept) -> tuple[Kept, Any]:
    """A storage of the published system, with an array called `node` in an HDF5 file."""
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("zarr")
    from functionfuse.serializers.daskarray import DaskArraySerializer

    storage = local.storage(DaskArraySerializer)
    result, array = io.BytesIO(), io.BytesIO()
    Published(result).dump(dask_array())
    with h5py.File(array, "w") as hdf:
        hdf.create_dataset("dask_arrays", data=np.arange(100.0), chunks=(25,))
    digest = hashlib.sha1(result.getvalue(), usedforsecurity=False).digest()
    local.filesystem.pipe_file(f"{local.root}/w/node", result.getvalue() + digest)
    local.filesystem.makedirs(f"{local.root}/w/bigdata")
    local.filesystem.pipe_file(f"{local.root}/w/bigdata/array", array.getvalue())
    return local, storage


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", ["missing", "empty", "cut"])
def test_damage_to_files_of_the_published_system(
    published: tuple[Kept, Any], change: str, when: str
) -> None:
    """The same, whether it shows when the result is loaded or when the array is computed; they have no checksums."""
    local, storage = published
    assert (TOTAL, []) == run(storage, "dask", "first")
    file = f"{local.root}/w/bigdata/array"

    def spoil() -> None:
        content = local.filesystem.cat_file(file)
        local.filesystem.rm(file)
        if change != "missing":
            local.filesystem.pipe_file(file, content[:1000] if change == "cut" else b"")

    def spoil_late(event: Any) -> None:
        if isinstance(event, NodeFinished) and event.record.name == "node" and not late:
            late.append(event)
            spoil()

    late: list[Any] = []
    if when == "before":
        spoil()
    value, told = run(storage, "dask", "second", *[spoil_late] * (when == "after"))
    assert (TOTAL, 1) == (value, len(told))
    assert (TOTAL, []) == run(storage, "dask", "third")


# ---- in the user's hands ----


def test_a_damaged_lazy_array_names_its_result(kept: Kept) -> None:
    """Its error says what to do; the result cannot be loaded again, and other chunks can still be read."""
    array, storage = stored_array(kept)
    damage(kept, "c.2", flipped)
    with pytest.raises(
        CorruptResult, match=r"node 'node' of workflow 'w' is damaged: .*c\.2"
    ) as caught:
        array.compute()
    assert ("w", "node") == (caught.value.workflow, caught.value.node)
    assert "run the workflow again" in str(caught.value)
    with pytest.raises(CorruptResult, match=r"found to be damaged: .*c\.2"):
        storage.read_task("w", "node")
    assert 300.0 == float(array[:25].sum().compute())

    storage.save("w", "node", dask_array())
    assert TOTAL == float(storage.read_task("w", "node").sum().compute())
    assert 4 == len([path for path in kept.objects() if "/c." in path])


def test_an_array_that_was_replaced_condemns_nothing(kept: Kept) -> None:
    """Reading a value that another save has replaced does not remove the newer one."""
    array, storage = stored_array(kept)
    storage.save("w", "node", dask_array() + 1)
    with pytest.raises(CorruptResult, match="replaced since it was read: read it again"):
        array.compute()
    assert TOTAL + 100 == float(storage.read_task("w", "node").sum().compute())


def test_several_readers_meet_the_same_damage(local: Kept) -> None:
    """Each of them is reported."""
    array, storage = stored_array(local)
    again = storage.read_task("w", "node")
    damage(local, "c.2", flipped)
    for each in (array, again, array):
        with pytest.raises(CorruptResult, match="run the workflow again"):
            each.compute()


def stored_array(kept: Kept) -> tuple[Any, Any]:
    """A stored array, and its storage."""
    for library in CASES["dask"].needs:
        pytest.importorskip(library)
    from functionfuse.serializers.daskarray import DaskArraySerializer

    storage = kept.storage(DaskArraySerializer, grace=0)
    storage.save("w", "node", dask_array())
    return storage.read_task("w", "node"), storage
