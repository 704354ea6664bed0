"""Dask array serializer: computes an array into zarr chunk by chunk, and reads it lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
_NO_FILES: Final = None  # instead of the name of an array: its values are pickled
_SCALAR: Final = "scalar"


class DaskArraySerializer:
    """Stores dask arrays as zarr, with their chunks; reads the HDF5 files of the legacy format too."""

    serializer_class = da.Array
    name = "DaskArraySerializer"
    lazy = True
    former_names = ("HDFSerializer",)  # in files of the legacy format

    @classmethod
    def pickle(
        cls, obj: da.Array, protocols: MutableMapping[str, Any]
    ) -> tuple[str, tuple[Any, ...]]:
        """Compute an array with Dask's own scheduler and write its chunks.

        Raises:
            StorageError: Chunks have an unknown size, or are not numpy arrays.
        """
        return cls.name, (_VERSION, *write_array(obj, protocols[FOLDER_PROTOCOL]))

    @classmethod
    def unpickle(cls, pid: Sequence[Any], protocols: MutableMapping[str, Any]) -> da.Array:
        """A lazy array over the stored chunks; it can be pickled."""
        version, name, *digest = pid
        if version == _PUBLISHED_VERSION:
            from functionfuse.serializers.hdf import read_legacy

            return read_legacy(protocols[FILE_PROTOCOL], name)
        return read_array(protocols[FOLDER_PROTOCOL], name, *digest)

    @classmethod
    def remove(cls, pid: Sequence[Any], protocols: MutableMapping[str, Any]) -> None:
        """Remove the files of an array."""
        version, name, *_ = pid
        if name is _NO_FILES:
            return
        protocol = FILE_PROTOCOL if version == _PUBLISHED_VERSION else FOLDER_PROTOCOL
        protocols[protocol].remove(name)


def is_array(value: Any) -> bool:
    """Whether a value is a dask array."""
    return isinstance(value, da.Array)


def write_array(array: da.Array, folder: ResultFolder) -> tuple[Any, ...]:
    """Compute an array into a folder; returns the further arguments of `read_array`.

    All chunks in zarr have one size: chunks of other sizes are rechunked.
    Objects and text of any length, which zarr has no format for, are returned instead, to be pickled.
    """
    _check(array)
    if array.dtype.hasobject:
        values = _as_announced(array.compute(), array.dtype, array.shape)
        return _NO_FILES, array.chunks, values
    name = f"{generate_name()}.zarr"
    target = ArrayWriter(folder, name, array.dtype, array.chunks)
    try:
        written = _write_chunks(array, target)
    except BaseException:
        target.cancel()  # workers may still be writing
        raise
    digests: dict[str, str] = {}
    for chunk in written:
        digests |= chunk.digests
    is_scalar = any(chunk.is_scalar for chunk in written)
    return name, target.finish(digests), *([_SCALAR] if is_scalar else [])


def _write_chunks(array: da.Array, target: ArrayWriter) -> list[_Chunk]:
    regular = array.rechunk(target.chunks)
    written = regular.map_blocks(
        _write,
        target,
        dtype=object,
        meta=np.empty((0,) * array.ndim, dtype=object),
        chunks=tuple((1,) * len(sizes) for sizes in regular.chunks),
    ).compute()
    return list(np.asarray(written, dtype=object).flat)


def read_array(folder: ResultFolder, name: str | None, *written: Any) -> da.Array:
    """A lazy array over the stored chunks, with the original chunk sizes.

    Args:
        folder: The sidecar folder.
        name: The name of the array in the folder; None if it has no files.
        *written: The rest of what `write_array` returned.
    """
    if name is _NO_FILES:
        chunks, values = written
        return _array(values, chunks, f"stored-{generate_name()}")
    digest, *form = written
    stored = StoredArray(folder, name, digest)
    return _array(
        stored,
        stored.chunks,
        f"stored-{name}",  # unique
        fancy=False,
        asarray=_SCALAR not in form,  # else a number would become an array without dimensions
        meta=np.empty((0,) * stored.ndim, dtype=stored.dtype),
    )


def _array(values: Any, chunks: Any, name: str, **options: Any) -> da.Array:
    array: da.Array = da.from_array(values, chunks, name=name, **options)
    return array


def _check(array: da.Array) -> None:
    reason = None
    if any(np.isnan(size) for sizes in array.chunks for size in sizes):
        reason = "its chunks are of unknown size: call compute_chunk_sizes() before it is returned"
    elif (kind := type(array._meta)) is not np.ndarray:  # noqa: SLF001 - dask names the type of chunks nowhere else
        reason = (
            f"its chunks are not numpy arrays but {kind.__qualname__}: "
            "convert them with map_blocks() before it is returned"
        )
    if reason is not None:
        message = f"a dask array of shape {array.shape} cannot be stored: {reason}"
        raise StorageError(message)


class _Chunk(NamedTuple):
    """A chunk that was written."""

    digests: dict[str, str]
    is_scalar: bool  # a number of numpy, of an array without dimensions


def _write(block: Any, target: ArrayWriter, block_info: Any = None) -> np.ndarray[Any, Any]:
    """Write one chunk in the worker that computes it; returns a `_Chunk` as an array of one item."""
    location = block_info[0]["array-location"]
    items = _as_announced(block, target.dtype, tuple(stop - start for start, stop in location))
    digests = target.write(items, [start for start, _ in location])
    written = np.empty((1,) * len(location), dtype=object)
    written[(0,) * len(location)] = _Chunk(digests, isinstance(block, np.generic))
    return written


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
