"""Data references: reducers for values that point to data outside of a result.

Such a value is stored by its contents, or refused: once the data is removed or changed,
a resumed run would have other values, without an error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from functionfuse.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reduce = Callable[[Any], Any]

__all__ = ["DataReferenceError", "reference_reducers"]


class DataReferenceError(StorageError):
    """A value points to data outside of the result."""

    def __init__(self, value: Any, what: str, remedy: str) -> None:  # noqa: D107
        kind = type(value)
        super().__init__(
            f"a {kind.__module__.partition('.')[0]} {kind.__qualname__} only points to {what}, "
            f"which may be removed or changed before a run resumes: {remedy}"
        )
        self.value = value


def reference_reducers() -> dict[type, Reduce]:
    """Reducers for a pickler's dispatch table, for types of the libraries that are imported."""
    return {
        kind: reduce
        for (module, name), reduce in _REDUCERS.items()
        if module in sys.modules
        for kind in _with_subclasses(getattr(sys.modules[module], name, None))
    }


def _with_subclasses(kind: Any) -> Iterator[type]:
    if isinstance(kind, type):
        yield kind
        derived: type
        for derived in kind.__subclasses__():
            yield from _with_subclasses(derived)


# ---- contents instead of the reference ----


def _xarray_contents(lazy: Any) -> tuple[Any, ...]:
    """The adapter that xarray itself uses for an array in memory."""
    import numpy as np

    adapter = sys.modules["xarray.core.indexing"].NumpyIndexingAdapter
    return adapter, (np.asarray(lazy.get_duck_array()),)


def _no_store(_: Any) -> tuple[Any, ...]:
    """An empty store of xarray: its own can still be closed, and is not read again."""
    return sys.modules["xarray.backends.memory"].InMemoryDataStore, ()


def _polars_contents(frame: Any) -> tuple[Any, ...]:
    collected = frame.collect()
    return type(collected).lazy, (collected,)


# ---- refusal ----


def _refused(what: str, remedy: str) -> Reduce:
    def refuse(value: Any) -> NoReturn:
        raise DataReferenceError(value, what, remedy)

    return refuse


def _zarr(value: Any) -> Any:
    """Refuse arrays and groups of zarr, except those in memory."""
    if type(value.store).__name__ == "MemoryStore":
        return value.__reduce_ex__(5)
    raise DataReferenceError(
        value,
        f"{getattr(value, 'store_path', value.store)}",
        "return its contents, `array[...]`, or register DaskArraySerializer for a dask array of it",
    )


def _dask_frame(frame: Any) -> Any:
    """Refuse collections of dask.dataframe that read files."""
    for expression in frame.expr.walk():
        if type(expression).__name__.startswith(("Read", "FromMap", "FromDelayed")):
            raise DataReferenceError(frame, "its sources", "return `frame.compute()`")
    return frame.__reduce_ex__(5)


_FILE: Final = _refused("a file", "return its contents or its path")
_SHARED: Final = _refused("memory of running processes", "return a copy of the contents")

_REDUCERS: Final[dict[tuple[str, str], Reduce]] = {
    ("xarray.core.indexing", "LazilyIndexedArray"): _xarray_contents,
    ("xarray.core.indexing", "LazilyOuterIndexedArray"): _xarray_contents,
    ("xarray.core.indexing", "LazilyVectorizedIndexedArray"): _xarray_contents,
    ("xarray.backends.common", "AbstractDataStore"): _no_store,
    ("polars", "LazyFrame"): _polars_contents,
    ("zarr", "Array"): _zarr,
    ("zarr", "AsyncArray"): _zarr,
    ("zarr", "Group"): _zarr,
    ("zarr", "AsyncGroup"): _zarr,
    ("dask.dataframe", "DataFrame"): _dask_frame,
    ("dask.dataframe", "Series"): _dask_frame,
    ("dask.dataframe", "Index"): _dask_frame,
    ("distributed", "Future"): _refused(
        "an object of a running cluster", "return its value, `future.result()`"
    ),
    ("ray", "ObjectRef"): _refused(
        "an object of a running cluster", "return its value, `ray.get(...)`"
    ),
    ("ray.actor", "ActorHandle"): _refused(
        "a process of a running cluster", "return what its methods give"
    ),
    ("ray.data", "Dataset"): _refused("its sources", "return `dataset.to_pandas()`"),
    ("pyarrow.dataset", "FileSystemDataset"): _refused("files", "return `dataset.to_table()`"),
    ("pyarrow.dataset", "UnionDataset"): _refused("files", "return `dataset.to_table()`"),
    ("fsspec.core", "OpenFile"): _FILE,
    ("fsspec.spec", "AbstractBufferedFile"): _FILE,
    ("fsspec.implementations.local", "LocalFileOpener"): _FILE,
    ("multiprocessing.shared_memory", "SharedMemory"): _SHARED,
    ("multiprocessing.shared_memory", "ShareableList"): _SHARED,
    ("multiprocessing.managers", "BaseProxy"): _SHARED,
}
