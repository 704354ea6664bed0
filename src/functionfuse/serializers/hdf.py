"""HDF5 reader of dask arrays in files of the legacy format."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import CorruptResult, MissingExtraError, UntrustedResult

try:
    import dask.array as da
    import h5py
except ImportError as error:
    message = "this result is in an HDF5 file, which needs h5py: pip install h5py"
    raise MissingExtraError(message) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

__all__ = ["read_legacy"]

_DATASET: Final = "dask_arrays"


def read_legacy(files: Any, name: str) -> da.Array:
    """A lazy array over the dataset in a file.

    Args:
        files: `protocols[FILE_PROTOCOL]`, which opens the file.
        name: The name of the file.
    """
    stored = _Dataset(files, name)
    array: da.Array = da.from_array(
        stored, chunks=stored.chunks, name=f"stored-{name}", fancy=False
    )
    return array


class _Dataset:
    """A dataset that each indexing opens: an open one cannot be pickled."""

    def __init__(self, files: Any, name: str) -> None:
        self._files = files
        self._name = name
        with self._open_dataset() as dataset:
            self.shape: tuple[int, ...] = dataset.shape
            self.dtype: np.dtype[Any] = dataset.dtype
            self.ndim = len(self.shape)
            self.chunks: Any = dataset.chunks or self.shape

    def __getitem__(self, index: Any) -> Any:
        try:
            with self._open_dataset() as dataset:
                return dataset[index]
        except CorruptResult as error:  # long after the value was returned
            # foreign storages may have an object without `corrupt`
            raise getattr(self._files, "corrupt", CorruptResult)(str(error)) from error

    @contextmanager
    def _open_dataset(self) -> Iterator[Any]:
        """Open the dataset; the files have no checksums, so only damage to their structure is detected."""
        try:
            with self._files.open(self._name, "rb") as file:
                try:
                    with h5py.File(file, "r") as hdf:
                        yield _own_dataset(hdf, self._name)
                except (
                    OSError,
                    RuntimeError,
                    KeyError,
                ) as error:  # the errors of h5py for damaged files
                    message = f"{self._name} cannot be read: {error}"
                    raise CorruptResult(message) from error
        except FileNotFoundError:
            message = f"{self._name} is missing"
            raise CorruptResult(message) from None


def _own_dataset(hdf: h5py.File, name: str) -> Any:
    """Return the dataset of a file, if its values are in that file.

    HDF5 reads any other file that a dataset names, with the permissions of the reader.

    Raises:
        UntrustedResult: The values are in another file, which is not opened.
        KeyError: The file has no dataset.
    """
    link = hdf.get(_DATASET, getlink=True)
    if link is None:
        raise KeyError(_DATASET)
    dataset = hdf[_DATASET] if type(link) is h5py.HardLink else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        message = (
            f"the HDF5 file {name!r} takes its values from elsewhere (by a link, external storage "
            "or a virtual dataset), which no serializer writes: remove the result"
        )
        raise UntrustedResult(message)
    return dataset
