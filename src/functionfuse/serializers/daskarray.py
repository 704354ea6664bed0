"""Dask array serializer: computes an array into zarr chunk by chunk, and reads it lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from functionfuse.errors import MissingExtraError, StorageError
from functionfuse.serializers.base import FILE_PROTOCOL, FOLDER_PROTOCOL, generate_name

try:
    import dask.array as da
except ImportError as error:
    message = "DaskArraySerializer needs Dask: pip install 'functionfuse[arrays]'"
    raise MissingExtraError(message) from error

from functionfuse.serializers.zarr_store import ArrayWriter, StoredArray

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from functionfuse.serializers.base import ResultFolder

__all__ = ["DaskArraySerializer", "is_array", "read_array", "write_array"]

_VERSION: Final = "1"
_PUBLISHED_VERSION: Final = "0.0.0"


class DaskArraySerializer:
    """Stores dask arrays as zarr, with their chunks; reads the HDF5 files of the legacy format too."""

    serializer_class = da.Array
    name = "DaskArraySerializer"
    lazy = True
    former_names = ("HDFSerializer",)  # in files of the legacy format

    @classmethod
    def pickle(
        cls, obj: da.Array, protocols: MutableMapping[str, Any]
    ) -> tuple[str, tuple[str, str, str]]:
        """Compute an array with Dask's own scheduler and write its chunks.

        Raises:
            StorageError: Chunks have an unknown size, or are not plain arrays of numbers, text or time.
        """
        return cls.name, (_VERSION, *write_array(obj, protocols[FOLDER_PROTOCOL]))

    @classmethod
    def unpickle(cls, pid: Sequence[str], protocols: MutableMapping[str, Any]) -> da.Array:
        """A lazy array over the stored chunks; it can be pickled."""
        version, name, *digest = pid
        if version == _PUBLISHED_VERSION:
            from functionfuse.serializers.hdf import read_published

            return read_published(protocols[FILE_PROTOCOL], name)
        return read_array(protocols[FOLDER_PROTOCOL], name, *digest)

    @classmethod
    def remove(cls, pid: Sequence[str], protocols: MutableMapping[str, Any]) -> None:
        """Remove the files of an array."""
        version, name, *_ = pid
        protocol = FILE_PROTOCOL if version == _PUBLISHED_VERSION else FOLDER_PROTOCOL
        protocols[protocol].remove(name)


def is_array(value: Any) -> bool:
    """Whether a value is a dask array."""
    return isinstance(value, da.Array)


def write_array(array: da.Array, folder: ResultFolder) -> tuple[str, str]:
    """Compute an array into a folder; returns its name there and its digest.

    All chunks in zarr have one size: chunks of other sizes are rechunked.
    """
    _check(array)
    name = f"{generate_name()}.zarr"
    target = ArrayWriter(folder, name, array.dtype, array.chunks)
    regular = array.rechunk(target.chunks)
    written = regular.map_blocks(
        _write,
        target,
        dtype=object,
        meta=np.empty((0,) * array.ndim, dtype=object),
        chunks=tuple((1,) * len(sizes) for sizes in regular.chunks),
    ).compute()
    digests: dict[str, str] = {}
    for some in np.asarray(written, dtype=object).flat:
        digests |= some
    return name, target.finish(digests)


def read_array(folder: ResultFolder, name: str, digest: str) -> da.Array:
    """A lazy array over the stored chunks, with the original chunk sizes."""
    stored = StoredArray(folder, name, digest)
    array: da.Array = da.from_array(
        stored,
        chunks=stored.chunks,
        name=f"stored-{name}",  # unique
        fancy=False,
        meta=np.empty((0,) * stored.ndim, dtype=stored.dtype),
    )
    return array


def _check(array: da.Array) -> None:
    reason = None
    if any(np.isnan(size) for sizes in array.chunks for size in sizes):
        reason = "its chunks are of unknown size: call compute_chunk_sizes() before it is returned"
    elif array.dtype.hasobject:
        reason = "its dtype is object: convert it with astype() before it is returned"
    elif (kind := type(array._meta)) is not np.ndarray:  # noqa: SLF001 - dask names the type of chunks nowhere else
        reason = (
            f"its chunks are not numpy arrays but {kind.__qualname__}: "
            "convert them with map_blocks() before it is returned"
        )
    if reason is not None:
        message = f"a dask array of shape {array.shape} cannot be stored: {reason}"
        raise StorageError(message)


def _write(block: Any, target: ArrayWriter, block_info: Any = None) -> np.ndarray[Any, Any]:
    """Write one chunk in the worker that computes it; returns its digest as an array of one item."""
    location = block_info[0]["array-location"]
    items = _as_announced(block, target.dtype, tuple(stop - start for start, stop in location))
    digests = np.empty((1,) * len(location), dtype=object)
    digests[(0,) * len(location)] = target.write(items, [start for start, _ in location])
    return digests


def _as_announced(block: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A chunk with the dtype and shape that the array announces; raises for other chunks."""
    if isinstance(block, np.generic):
        block = np.asarray(block)
    if type(block) is np.ndarray and (block.dtype, block.shape) == (dtype, shape):
        return block
    found = (type(block).__name__, getattr(block, "dtype", None), getattr(block, "shape", None))
    message = (
        f"a chunk of a dask array is not what the array announces, ndarray {dtype} {shape}, but "
        f"{found[0]} {found[1]} {found[2]}: pass the right dtype, chunks and meta to the function that creates it"
    )
    raise StorageError(message)
