"""Checksummed zarr store: arrays in a sidecar folder, with detection of changed and missing files.

Next to the chunks is `digests.json`: the SHA-256 of each chunk and of the metadata.
Its own SHA-256 is in the result file, whose protection so extends to the whole array.
Zarr alone reads a missing chunk as one of fill values.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from functionfuse.errors import CorruptResult, MissingExtraError, StorageError, UntrustedResult

try:
    import zarr
    from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
    from zarr.codecs import BloscCodec
except ImportError as error:
    message = "results of this type are stored as zarr: pip install 'functionfuse[arrays]'"
    raise MissingExtraError(message) from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from functionfuse.serializers.base import ResultFolder

__all__ = ["ArrayWriter", "StoredArray"]

_DIGESTS: Final = "digests.json"
_METADATA: Final = "zarr.json"
#: Faster, and smaller for most numbers, than the default of zarr.
_COMPRESSOR: Final = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")
#: Codecs, types, grids and key encodings that this module writes.
_METADATA_NAMES: Final = frozenset(
    {
        *("bytes", "blosc", "regular", "default", "bool"),
        *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        *("float16", "float32", "float64", "complex64", "complex128"),
    }
)
_LARGEST: Final = 2**31 - 2**16  # bytes; the limit of the compressor
_PLAIN: Final = (
    "b1",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
)


class ArrayWriter:
    """Writer of an array, chunk by chunk, in one or several processes."""

    def __init__(
        self,
        folder: ResultFolder,
        name: str,
        dtype: np.dtype[Any],
        chunks: tuple[tuple[int, ...], ...],
    ) -> None:
        """Write the metadata of an array.

        Args:
            folder: The sidecar folder.
            name: The name of the array in the folder.
            dtype: The dtype of its items.
            chunks: The sizes of its chunks for each dimension; in zarr all chunks have the largest of
                these sizes.
        """
        self.dtype = dtype
        self.chunks = tuple(max(1, *sizes) for sizes in chunks)
        self._store = _WriteStore(folder, name)
        items = () if _is_plain(dtype) else (dtype.itemsize,)
        self._array = zarr.create_array(
            self._store,
            shape=(*map(sum, chunks), *items),
            chunks=(*self.chunks, *items),
            dtype=np.uint8 if items else dtype,
            compressors=_COMPRESSOR if _size(self.chunks, dtype) < _LARGEST else None,
            chunk_key_encoding={"name": "default", "separator": "."},  # a flat folder
            attributes={"chunks": chunks, "dtype": _describe_dtype(dtype)},
            config={"write_empty_chunks": True},
        )

    def write(self, block: np.ndarray[Any, Any], starts: Sequence[int]) -> dict[str, str]:
        """Write a whole chunk.

        Returns:
            The digests of the written files, for `finish`.

        Raises:
            StorageError: The save was cancelled.
        """
        if not block.size:
            return {}
        region = [slice(start, start + n) for start, n in zip(starts, block.shape, strict=True)]
        corner = [start // n for start, n in zip(starts, self.chunks, strict=True)]
        if not _is_plain(self.dtype):
            region, corner, block = [*region, slice(None)], [*corner, 0], _as_bytes(block)
        self._array[tuple(region)] = block
        key = self._array.metadata.encode_chunk_key(tuple(corner))
        self._store.require_metadata()
        return {key: self._store.digests.pop(key)}

    def cancel(self) -> None:
        """Make later writes, also in other processes, fail and remove their files."""
        self._store.remove_metadata()

    def finish(self, digests: dict[str, str]) -> str:
        """Write the digests of all chunks to a file; returns the digest of that file."""
        written = json.dumps(self._store.digests | digests, separators=(",", ":")).encode()
        self._store.write(_DIGESTS, written)
        return hashlib.sha256(written).hexdigest()


class StoredArray:
    """A stored array; indexing reads its chunks, in any process."""

    def __init__(self, folder: ResultFolder, name: str, digest: str) -> None:
        """Read the metadata of an array.

        Raises:
            CorruptResult: The metadata is damaged or missing.
            UntrustedResult: The metadata was not written by this module.
        """
        if {*"/\\"} & {*name} or name in {"", ".", ".."}:
            message = f"a stored array is not in the sidecar folder of the result, but at {name!r}"
            raise UntrustedResult(message)
        self._source = folder, name, digest
        self._opened: zarr.Array[Any] | None = None
        attributes: Any = self._array.attrs
        self.chunks: tuple[tuple[int, ...], ...] = tuple(map(tuple, attributes["chunks"]))
        self.dtype = _dtype(attributes["dtype"])
        self.shape = tuple(map(sum, self.chunks))
        self.ndim = len(self.shape)

    def __getstate__(self) -> dict[str, Any]:  # the receiving process opens it only if it reads
        return {**vars(self), "_opened": None}

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        folder, name, digest = self._source
        return folder.path, name, digest

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        try:
            return self._items(parts)
        except CorruptResult as error:  # long after the value was returned
            raise self._source[0].corrupt(str(error)) from error

    def _items(self, parts: tuple[Any, ...]) -> Any:
        if _is_plain(self.dtype):
            return np.asarray(self._array[parts])[()]  # without dimensions: a scalar, as of a sum
        rest = (slice(None),) * (self.ndim - len(parts) + 1)
        items = np.asarray(self._array[(*parts, *rest)], order="C")
        return items.view(self.dtype)[..., 0][()]

    @property
    def _array(self) -> zarr.Array[Any]:
        if self._opened is None:
            self._opened = zarr.open_array(_ReadStore(*self._source), mode="r", zarr_format=3)
        return self._opened


class _ResultStore(Store):
    """Zarr store on a folder that is written once and never listed."""

    supports_writes = supports_deletes = supports_listing = False

    def __init__(self, folder: ResultFolder, name: str) -> None:
        super().__init__(read_only=not self.supports_writes)
        self.folder = folder
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and (self._path(""), self.name) == (
            other._path(""),
            other.name,
        )

    def __hash__(self) -> int:
        return hash(self._path(""))

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The contents of the file of a key."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = await asyncio.to_thread(self.read, key)
        return None if data is None else prototype.buffer.from_bytes(_cut(data, byte_range))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self.read, key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    def _path(self, key: str) -> str:
        return f"{self.folder.path}/{self.name}/{key}"


class _WriteStore(_ResultStore):
    """Store for writing; records the digests of files that this process has written."""

    supports_writes = True

    def __init__(self, folder: ResultFolder, name: str) -> None:
        super().__init__(folder, name)
        self.digests: dict[str, str] = {}

    def __reduce__(self) -> tuple[type[_WriteStore], tuple[ResultFolder, str]]:
        return _WriteStore, (self.folder, self.name)

    def read(self, key: str) -> None:
        """Nothing to read: the folder is new."""

    async def set(self, key: str, value: Buffer) -> None:
        data = value.to_bytes()
        await asyncio.to_thread(self.write, key, data)
        self.digests[key] = hashlib.sha256(data).hexdigest()

    def write(self, key: str, data: bytes) -> None:
        """Write a file."""
        self.folder.write_bytes(f"{self.name}/{key}", data)

    def remove_metadata(self) -> None:
        """Remove the metadata of a failed save: before its files, so that no chunk is written after these."""
        self.folder.remove(f"{self.name}/{_METADATA}")

    def require_metadata(self) -> None:
        """Remove the array and raise if its metadata is missing: another chunk failed, and this one is not required.

        Raises:
            StorageError: The metadata was removed.
        """
        try:
            self.folder.read_bytes(f"{self.name}/{_METADATA}")
        except FileNotFoundError:
            self.folder.remove("")
            message = "the save of this array has failed at another chunk"
            raise StorageError(message) from None


class _ReadStore(_ResultStore):
    """Store for reading; verifies the digest of every file."""

    def __init__(self, folder: ResultFolder, name: str, digest: str) -> None:
        super().__init__(folder, name)
        self._digests: dict[str, str] = json.loads(self._checked(_DIGESTS, digest))

    def read(self, key: str) -> bytes | None:
        """The verified contents of a file."""
        if digest := self._digests.get(key):
            data = self._checked(key, digest)
            if key == _METADATA:
                _require_own_metadata(data, self._path(key))
            return data
        if key.startswith("c.") or key == "c":
            self._refuse(key, "was never written")
        return None  # zarr requests other kinds of metadata too

    def _checked(self, key: str, digest: str) -> bytes:
        try:
            data = self.folder.read_bytes(f"{self.name}/{key}")
        except FileNotFoundError:
            self._refuse(key, "is missing")
        if hashlib.sha256(data).hexdigest() != digest:
            self._refuse(key, "does not match its checksum")
        return data

    def _refuse(self, key: str, what: str) -> NoReturn:
        message = f"{self._path(key)} {what}"
        raise CorruptResult(message)


def _require_own_metadata(data: bytes, path: str) -> None:
    """Raise for metadata of other programs: zarr loads plugins that it names.

    Raises:
        UntrustedResult: This module does not write such metadata.
    """
    metadata = json.loads(data)
    names = {
        *(codec["name"] for codec in metadata["codecs"]),
        *(metadata["data_type"], metadata["chunk_grid"]["name"]),
        *(metadata["chunk_key_encoding"]["name"], *metadata.get("storage_transformers", ())),
    }
    if foreign := names - _METADATA_NAMES:
        message = (
            f"a stored array needs {foreign}, which no serializer writes: {path}; "
            "remove the result that it belongs to"
        )
        raise UntrustedResult(message)


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether zarr returns the numbers unchanged; others are stored as bytes."""
    return dtype.isnative and dtype.str[1:] in _PLAIN and dtype.fields is None


def _size(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _as_bytes(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(block, order="C")[..., None].view(np.uint8)


def _describe_dtype(dtype: np.dtype[Any]) -> str:
    """A dtype as text.

    Raises:
        StorageError: No text describes the dtype completely.
    """
    text = repr(np.lib.format.dtype_to_descr(dtype))
    if dtype.hasobject or not dtype.itemsize or _dtype(text) != dtype:
        message = (
            f"an array of dtype {dtype} cannot be stored as zarr: convert it with astype first"
        )
        raise StorageError(message)
    return text


def _dtype(text: str) -> np.dtype[Any]:
    return np.lib.format.descr_to_dtype(ast.literal_eval(text))


def _cut(data: bytes, part: ByteRequest | None) -> bytes:
    match part:
        case None:
            return data
        case RangeByteRequest(start, end):
            return data[start:end]
        case SuffixByteRequest(suffix):
            return data[-suffix:]
        case _:
            return data[part.offset :]
