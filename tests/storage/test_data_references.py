"""Results that point to data: stored by their contents, or refused; a resumed run has the values of the first."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import StorageError
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
fsspec = pytest.importorskip("fsspec")
h5py = pytest.importorskip("h5py")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa_dataset = pytest.importorskip("pyarrow.dataset")
xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with data in several formats."""
    folder = tmp_path / "source"
    folder.mkdir()
    made = xr.Dataset(
        {
            "numbers": ("x", np.arange(3.0)),
            "packed": (
                "x",
                np.arange(3.0),
                {},
                {"scale_factor": 0.5, "dtype": "i2", "_FillValue": -1},
            ),
            "number": ((), 5.0),
            "texts": ("x", ["a", "b", "c"]),
        }
    )
    made.to_zarr(folder / "data.zarr", consolidated=False, zarr_format=2)
    xr.DataTree.from_dict({"/part": made}).to_zarr(
        folder / "tree.zarr", consolidated=False, zarr_format=2
    )
    pl.DataFrame({"a": [1, 2]}).write_parquet(folder / "table.parquet")
    np.save(folder / "array.npy", np.arange(4.0))
    with h5py.File(folder / "data.h5", "w") as file:
        file["numbers"] = np.arange(3.0)
    return folder


def dataset(source: Path, **options: Any) -> Any:
    """A lazily opened dataset."""
    return xr.open_dataset(source / "data.zarr", engine="zarr", consolidated=False, **options)


def tree(source: Path, **options: Any) -> Any:
    """A lazily opened tree."""
    return xr.open_datatree(source / "tree.zarr", engine="zarr", consolidated=False, **options)


class Holder:
    """An object of a class of the user."""

    def __init__(self, content: Any) -> None:  # noqa: D107
        self.content = content


CONTENTS: dict[str, Callable[[Path], Any]] = {
    "dataset": dataset,
    "dataset with dask arrays": lambda source: dataset(source, chunks={}),
    "data array": lambda source: dataset(source)["packed"],
    "no dimensions": lambda source: dataset(source)["number"],
    "variable": lambda source: dataset(source)["texts"].variable,
    "part": lambda source: dataset(source).isel(x=[0, 2]),
    "tree": tree,
    "tree with dask arrays": lambda source: tree(source, chunks={}),
    "part of a tree": lambda source: tree(source)["part"],
    "lazy table": lambda source: pl.scan_parquet(source / "table.parquet").filter(pl.col("a") > 1),
    "lazy table in memory": lambda _: pl.DataFrame({"a": [1]}).lazy(),
    "mapped array": lambda source: np.load(source / "array.npy", mmap_mode="r"),
    "dask array of a mapped array": lambda source: da.from_array(
        np.load(source / "array.npy", mmap_mode="r"), chunks=2
    ),
    "array in memory": lambda _: zarr.array(np.arange(3.0)),
    "dask table in memory": lambda _: dd.from_pandas(pd.DataFrame({"a": [1]}), npartitions=1),
}
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "zarr": (
        lambda source: zarr.open_array(source / "data.zarr" / "numbers"),
        r"zarr Array .*array\[\.\.\.\]",
    ),
    "group": (lambda source: zarr.open_group(source / "data.zarr"), "zarr Group only points to"),
    "dask array": (
        lambda source: da.from_zarr(source / "data.zarr" / "numbers"),
        "register DaskArraySerializer",
    ),
    "dask table": (lambda source: dd.read_parquet(source / "table.parquet"), r"frame\.compute"),
    "arrow": (lambda source: pa_dataset.dataset(source / "table.parquet"), r"dataset\.to_table"),
    "file": (
        lambda source: fsspec.open(str(source / "array.npy")),
        "OpenFile only points to a file",
    ),
    "hdf5": (
        lambda source: h5py.File(source / "data.h5")["numbers"],
        "h5py objects cannot be pickled",
    ),
}


def contents(value: Any) -> Any:
    """The contents of a value, for comparison."""
    if isinstance(value, Holder | dict):
        inner = [value.content] if isinstance(value, Holder) else value["a"]
        return [contents(each) for each in inner]
    if isinstance(value, xr.DataTree):
        return {path: contents(node.to_dataset()) for path, node in value.subtree_with_keys}
    if isinstance(value, xr.Dataset):
        return {name: contents(variable) for name, variable in value.variables.items()}
    if isinstance(value, pl.LazyFrame | dd.DataFrame):
        return (
            value.collect().rows()
            if isinstance(value, pl.LazyFrame)
            else value.compute().values.tolist()
        )
    return np.asarray(value[...] if isinstance(value, zarr.Array) else value).tolist()


@workflow
def made(make: Any) -> Any:
    """A result."""
    return make()


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("with_serializers", [False, True])
def test_contents_are_stored(
    name: str, source: Path, tmp_path: Path, *, with_serializers: bool
) -> None:
    """A stored value does not depend on its source, with and without serializers."""
    storage = storage_factory(str(tmp_path / "storage"))
    if with_serializers:
        from functionfuse.serializers.daskarray import DaskArraySerializer
        from functionfuse.serializers.xarrays import XarraySerializer

        storage.register_persistent_serializers(XarraySerializer, DaskArraySerializer)
    node = made(lambda: {"a": [CONTENTS[name](source), Holder(CONTENTS[name](source))]})
    run = LocalWorkflow(node, workflow_name="w")
    run.set_storage(storage)
    first = run.run()
    expected = contents(first)
    shutil.rmtree(source)

    resumed = run.run()

    assert run.report is not None
    assert 1 == len(run.report.names("loaded"))
    assert expected == contents(resumed)
    assert [type(first["a"][0])] == [type(resumed["a"][0])]


@pytest.mark.parametrize("name", REFUSED)
def test_references_are_refused(name: str, source: Path, tmp_path: Path) -> None:
    """With the node, the place in its result and the remedy."""
    make, advice = REFUSED[name]
    run = LocalWorkflow(
        made(lambda: {"a": [1, Holder(make(source))]}).set_name("x"), workflow_name="w"
    )
    run.set_storage(storage_factory(str(tmp_path / "storage")))

    with pytest.raises(StorageError, match=f"(?s)node 'x'.*{advice}") as caught:
        run.run()

    assert "result['a'][1].content" in str(caught.value)


def test_references_to_memory_are_refused(tmp_path: Path) -> None:
    """Another process can free or change it."""
    memory = SharedMemory(create=True, size=8)
    try:
        with pytest.raises(StorageError, match="only points to memory of running processes"):
            storage_factory(str(tmp_path)).save("w", "x", [memory])
    finally:
        memory.close()
        memory.unlink()


def test_connections_are_refused(tmp_path: Path) -> None:
    """A connection of a database cannot be stored; the error names its place."""
    with closing(sqlite3.connect(":memory:")) as connection:
        storage = storage_factory(str(tmp_path))
        with pytest.raises(StorageError, match=r"result\['a'\]\[0\].*cannot pickle .*Connection"):
            storage.save("w", "node", {"a": [connection]})
