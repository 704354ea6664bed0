"""Values with serializers on engines that run nodes elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

da = pytest.importorskip("dask.array")
pytest.importorskip("zarr")

from functionfuse.serializers.daskarray import DaskArraySerializer  # noqa: E402 - not without dask

if TYPE_CHECKING:
    from pathlib import Path


@workflow
def make(size: int) -> Any:
    """Make a lazy array."""
    return da.arange(size, chunks=size // 4) + 1


@workflow
def total(array: Any) -> int:
    """Compute something of it."""
    return int(array.sum().compute(scheduler="synchronous"))


@pytest.mark.parametrize(
    "options",
    [{}, {"workers": 2, "kind": "threads"}, {"workers": 2, "kind": "processes"}],
    ids=["serial", "threads", "processes"],
)
@pytest.mark.parametrize("always_read", [False, True])
def test_lazy_arrays(tmp_path: Path, options: dict[str, Any], *, always_read: bool) -> None:
    """A lazy array is stored by whoever runs its node, and read lazily by whoever needs it, also in a later run."""
    storage = storage_factory(str(tmp_path))
    storage.always_read = always_read
    storage.register_persistent_serializers(DaskArraySerializer)
    array = make(1_000).set_name("array")
    for target in (total(array).set_name("total"), total(array).set_name("again")):
        made = LocalWorkflow(target, workflow_name="lazy", **options)
        made.set_storage(storage)
        assert 500_500 == made.run()
    read = storage.read_task("lazy", "array")
    assert isinstance(read, da.Array)
    assert 250 == read.chunksize[0]
