"""Values with serializers on engines, most of which run nodes elsewhere."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from functionfuse import workflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE: Final = 1_000
TOTAL: Final = 500_500  # of the numbers from 1 to SIZE


class Case(NamedTuple):
    """A kind of values."""

    make: Callable[[], Any]
    total: Callable[[Any], int]
    needs: tuple[str, ...]
    serializers: tuple[str, ...]


def dask_array() -> Any:
    """A lazy array."""
    import dask.array

    return dask.array.arange(SIZE, chunks=SIZE // 4) + 1


def dataset() -> Any:
    """A dataset with a lazy variable."""
    import xarray

    return xarray.Dataset({"numbers": ("x", dask_array())})


def frame() -> Any:
    """A table."""
    import pandas as pd

    return pd.DataFrame({"numbers": range(1, SIZE + 1), "texts": "x"})


def tensor() -> Any:
    """A tensor."""
    import torch

    return torch.arange(SIZE) + 1


def lazy_total(array: Any) -> int:
    """Add up, in this thread."""
    return int(array.sum().compute(scheduler="synchronous"))


DASK_ARRAYS: Final = "daskarray:DaskArraySerializer"
CASES: Final = {
    "dask": Case(dask_array, lazy_total, ("dask.array", "zarr"), (DASK_ARRAYS,)),
    "xarray": Case(
        dataset,
        lambda value: lazy_total(value["numbers"].data),
        ("xarray", "dask.array", "zarr"),
        ("xarrays:XarraySerializer", DASK_ARRAYS),
    ),
    "pandas": Case(
        frame,
        lambda value: int(value["numbers"].sum()),
        ("pandas", "pyarrow"),
        ("arrow:ArrowSerializer",),
    ),
    "torch": Case(
        tensor,
        lambda value: int(value.sum()),
        ("torch", "safetensors"),
        ("torch:TorchSerializer",),
    ),
}


@workflow
def make(kind: str) -> Any:
    """Make a value."""
    return CASES[kind].make()


@workflow
def total(kind: str, value: Any) -> int:
    """Compute something of it."""
    return CASES[kind].total(value)


def serializers(case: Case) -> list[Any]:
    """The serializers of a case, or a skipped test."""
    for module in case.needs:
        pytest.importorskip(module)
    places = [name.split(":") for name in case.serializers]
    return [
        getattr(import_module(f"functionfuse.serializers.{module}"), name)
        for module, name in places
    ]


@pytest.mark.parametrize(
    ("kind", "always_read"),
    # not each with both: new processes take seconds to import the libraries
    [("dask", False), ("dask", True), ("xarray", True), ("pandas", False), ("torch", False)],
)
def test_values(make_workflow: Any, tmp_path: Path, kind: str, *, always_read: bool) -> None:
    """The process that runs a node stores its value, and consumers read it, also in a later run."""
    storage = storage_factory(str(tmp_path))
    storage.always_read = always_read
    storage.register_persistent_serializers(*serializers(CASES[kind]))
    value = make(kind).set_name("value")

    for target in (total(kind, value).set_name("total"), total(kind, value).set_name("again")):
        made = make_workflow(target, workflow_name="values")
        made.set_storage(storage)
        assert TOTAL == made.run()

    assert ["value"] == made.report.names("loaded")
    read = storage.read_task("values", "value")
    assert type(CASES[kind].make()) is type(read)
    assert TOTAL == CASES[kind].total(read)
    assert list(tmp_path.glob("values/.objects/*"))  # by its serializer, and not pickled
