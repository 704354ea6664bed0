"""Datasets and data arrays: lazy variables stay lazy, and all comes back exactly."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from serializer_helpers import Kept, in_another_process, kept, local

from functionfuse.errors import CorruptResult, StorageError

da = pytest.importorskip("dask.array")
pd = pytest.importorskip("pandas")
xr = pytest.importorskip("xarray")
pytest.importorskip("zarr")

from functionfuse.serializers.daskarray import DaskArraySerializer  # noqa: E402 - after its library
from functionfuse.serializers.xarrays import XarraySerializer  # noqa: E402 - after its library

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["kept", "local"]


TEXTS = np.array(["a", "bcd", ""], dtype=np.dtypes.StringDType())


def dataset() -> Any:
    """A dataset with everything that formats like to change."""
    times = pd.date_range("2020", periods=4, freq="D")
    made = xr.Dataset(
        {
            "lazy": (("x", "t"), da.ones((3, 4), chunks=2), {"o": (1,)}, {"dtype": "f4"}),
            "lazy texts": ("x", da.from_array(TEXTS, chunks=2)),
            "lazy objects": ("x", da.from_array(TEXTS.astype(object), chunks=2)),
            "lazy number": ((), da.ones(3).sum()),
            "lazy times": ("t", da.arange(4, chunks=2).astype("M8[ns]")),
            "objects": ("x", np.array(["a", None, 3], dtype=object)),
            "texts": ("x", np.array(["x", "yy", "z"])),
            "small": ("x", np.arange(3, dtype="i1"), {"_FillValue": 1}),
            "nan": ("x", np.array([np.nan, 1, 2], dtype="f4"), {}, {"scale_factor": 10}),
            "bool": ("x", np.array([True, False, True])),
            "category": ("x", pd.Categorical(["a", "b", "a"], categories=["b", "a"])),
            "number": ((), 5),
        },
        coords={
            "x": [10, 20, 30],
            "t": times,
            "lazy label": ("x", da.arange(3, chunks=2)),
            "scalar": 7,
        },
        attrs={"history": (1, 2), "none": None},
    )
    made.encoding = {"unlimited_dims": {"t"}}
    made.t.encoding["units"] = "days since 2000-01-01"
    return made


def same(expected: Any, actual: Any) -> None:
    """Two datasets or data arrays are the same in everything that xarray can tell."""
    assert type(expected) is type(actual)
    assert expected.identical(actual)
    assert expected.encoding == actual.encoding
    assert list(expected.coords) == list(actual.coords)
    names = list(expected.coords)
    if isinstance(expected, xr.Dataset):
        assert list(expected.data_vars) == list(actual.data_vars)
        names += list(expected.data_vars)
    else:
        same_variable(expected.variable, actual.variable)
    assert {n: type(i) for n, i in expected.xindexes.items()} == {
        n: type(i) for n, i in actual.xindexes.items()
    }
    for name in names:
        same_variable(expected[name].variable, actual[name].variable)


def same_variable(expected: Any, actual: Any) -> None:
    """Two variables are the same, and as lazy."""
    for name in ("dtype", "encoding", "attrs", "chunks", "dims"):
        assert getattr(expected, name) == getattr(actual, name)
    assert type(expected) is type(actual)
    if expected.dtype == object:
        assert [type(item) for item in expected.values] == [type(item) for item in actual.values]


FORMS: dict[str, Callable[[], Any]] = {
    "dataset": dataset,
    "nothing": xr.Dataset,
    "array": lambda: dataset()["lazy"],
    "coordinate": lambda: dataset()["x"],
    "times": lambda: dataset()["t"],
    "lazy coordinate": lambda: dataset()["lazy label"],
    "no name": lambda: xr.DataArray(da.ones(3)),
    "odd name": lambda: xr.DataArray(da.ones(3), name=("a", 1)),
    "number as name": lambda: dataset().rename({"lazy": 3}),
    "levels": lambda: dataset().drop_vars("category").stack(z=("x", "t")),
    "levels of an array": lambda: dataset()["lazy"].stack(z=("x", "t")),
    "no index": lambda: dataset().drop_indexes("x"),
    "index of another kind": lambda: xr.Dataset(
        coords=xr.Coordinates.from_xindex(xr.indexes.RangeIndex.arange(0, 5, dim="r"))
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_everything_is_kept(local: Kept, name: str) -> None:
    """Values, types, attributes, encodings, indexes, and what is lazy."""
    same(FORMS[name](), local.round_trip(FORMS[name](), XarraySerializer))


def test_it_is_found_in_other_values(kept: Kept) -> None:
    """Lazy on every storage, and nothing is left of it."""
    made = dataset()
    found = kept.round_trip({"a": [made, made["lazy"]]}, XarraySerializer, DaskArraySerializer)
    same(made, found["a"][0])
    same(made["lazy"], found["a"][1])
    assert 6 == len({path.split(".zarr")[0] for path in kept.objects()})
    assert 12.0 == float(found["a"][0]["lazy"].sum())
    kept.storage(XarraySerializer).remove_task("w", "node")
    assert [] == kept.files()


def _total(array: Any) -> float:
    return float(array.sum().compute(scheduler="synchronous"))


@pytest.mark.parametrize("kept", ["file", "S3"], indirect=True)
def test_a_lazy_dataset_can_be_computed_elsewhere(kept: Kept) -> None:
    """In another process, which connects automatically."""
    found = kept.round_trip(dataset(), XarraySerializer)
    assert 12.0 == in_another_process(_total, found["lazy"])


def test_no_layer_of_the_user_is_left(local: Kept) -> None:
    """The stored data are read, not the original file."""
    made = dataset()
    made["lazy"] = made["lazy"].map_blocks(lambda block: block + 1, template=made["lazy"])
    found = local.round_trip(made, XarraySerializer)
    layers = found["lazy"].data.dask.layers
    assert {"stored", "original"} == {name.split("-")[0] for name in layers}
    assert 24.0 == float(found["lazy"].sum())


def test_what_stands_in_a_file_of_the_user_is_read(local: Kept, tmp_path: Path) -> None:
    """The result does not break with that file, and does not tell where it was opened from."""
    source = tmp_path / "source.zarr"
    xr.Dataset({"a": ("x", np.arange(4.0))}).to_zarr(source, consolidated=False)
    storage = local.storage(XarraySerializer)
    storage.save("w", "node", xr.open_zarr(source, chunks=None, consolidated=False))
    shutil.rmtree(source)
    found = storage.read_task("w", "node")
    assert [0.0, 1.0, 2.0, 3.0] == found["a"].values.tolist()


def test_a_damaged_variable_is_an_error(kept: Kept) -> None:
    """Not the fill value."""
    found = kept.round_trip(dataset()[["lazy"]], XarraySerializer)
    for file in kept.files("c.0.0"):
        kept.filesystem.rm(file)
    with pytest.raises(CorruptResult, match="is missing"):
        found["lazy"].sum().compute()


def test_what_cannot_be_kept_is_refused(local: Kept) -> None:
    """With the reason, and nothing is left of it."""
    other = da.arange(3).map_blocks(lambda block: block / 2, dtype="i8")
    made = xr.Dataset({"a": ("x", da.ones(3)), "b": ("x", other)})
    with pytest.raises(StorageError, match=r"variable 'b': .* int64 .* float64"):
        local.storage(XarraySerializer).save("w", "node", made)
    assert [] == local.files()


class Derived(xr.Dataset):  # type: ignore[misc,name-defined]
    """A dataset of a class of its own."""

    __slots__ = ()


def test_a_derived_class_is_kept(local: Kept) -> None:
    """As a pickle, in which the dask arrays are found by their own serializer."""
    made = Derived({"a": ("x", da.ones(4, chunks=2))})
    found = local.round_trip(made, XarraySerializer, DaskArraySerializer)
    same(made, found)
    assert 4 == len(local.objects())


def test_a_tree_is_kept(local: Kept) -> None:
    """With the lazy variables of its nodes, and what a part of a tree inherits from the rest."""
    tree = xr.DataTree.from_dict({"/": dataset()[["texts", "t"]], "/a/b": dataset()[["lazy"]]})
    for made in (tree, xr.DataTree(name="empty"), tree["a"], tree["a"]["b"]):
        found = local.round_trip([made], XarraySerializer)[0]
        assert made.name == found.name
        assert [path for path, _ in made.subtree_with_keys] == [
            path for path, _ in found.subtree_with_keys
        ]
        for one, other in zip(made.subtree, found.subtree, strict=True):
            # xarray inherits coordinates in the order of its own index
            assert one.to_dataset().identical(other.to_dataset())
            if one is not made:
                same(one.to_dataset(inherit=False), other.to_dataset(inherit=False))
    # 3, none, 2 and 2 lazy variables: the files of replaced results stay for a day
    assert 7 == len({path.split(".zarr")[0] for path in local.objects() if "c.0" in path})
