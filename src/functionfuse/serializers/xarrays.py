"""Xarray serializer: lazy variables of datasets and data arrays as zarr, all others pickled.

Lazy variables stay lazy, with their chunks. Variables in memory are pickled into the result file, where large
arrays are mapped, so that types, attributes, encodings and indexes of every kind are unchanged.
Variables in a file of the user are read into the result, which would otherwise depend on that file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import MissingExtraError, StorageError
from functionfuse.serializers.base import FOLDER_PROTOCOL

try:
    import xarray as xr
except ImportError as error:
    message = "XarraySerializer needs xarray: pip install 'functionfuse[arrays]'"
    raise MissingExtraError(message) from error

from functionfuse.serializers.daskarray import is_array, read_array, write_array

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, MutableMapping, Sequence

    from functionfuse.serializers.base import ResultFolder

__all__ = ["XarraySerializer"]

_VERSION: Final = "1"
_TREE: Final = "DataTree"  # in place of the version
_ARRAY: Final = "<array>"  # the name of a data array in its dataset


class XarraySerializer:
    """Stores datasets, data arrays and trees; needs no other serializer for the dask arrays in them."""

    serializer_class = (xr.Dataset, xr.DataArray, "xarray.DataTree")
    name = "XarraySerializer"
    lazy = True

    @classmethod
    def pickle(
        cls, obj: Any, protocols: MutableMapping[str, Any]
    ) -> tuple[str, tuple[Any, ...]] | None:
        """Write the lazy variables; None for subclasses.

        Raises:
            StorageError: A dask array cannot be stored.
        """
        if type(obj) is getattr(xr, _TREE, None):  # older versions have none
            return cls.name, (_TREE, obj.name, _datasets(obj))
        if type(obj) not in (xr.Dataset, xr.DataArray):
            return None
        is_dataset = type(obj) is xr.Dataset
        dataset = obj if is_dataset else obj.to_dataset(name=_ARRAY)
        variables = {
            name: _write_variable(
                name, variable, name in dataset.xindexes, protocols[FOLDER_PROTOCOL]
            )
            for name, variable in dataset.variables.items()
        }
        rest = (
            tuple(dataset.coords),
            dict(dataset.xindexes),
            dataset.attrs,
            dataset.encoding,
        )
        return cls.name, (_VERSION, () if is_dataset else (obj.name,), variables, *rest)

    @classmethod
    def unpickle(cls, pid: Sequence[Any], protocols: MutableMapping[str, Any]) -> Any:
        """Restore a dataset, data array or tree."""
        if pid[0] == _TREE:
            return xr.DataTree.from_dict(pid[2], name=pid[1])
        _, names, written, coordinates, indexes, attributes, encoding = pid
        variables = {
            name: _read(variable, protocols[FOLDER_PROTOCOL]) for name, variable in written.items()
        }
        coords = xr.Coordinates(
            {name: each for name, each in variables.items() if name in coordinates}, indexes=indexes
        )
        data = {name: each for name, each in variables.items() if name not in coordinates}
        dataset = xr.Dataset(data, coords=coords, attrs=attributes)
        dataset.encoding = encoding
        return dataset[_ARRAY].rename(*names) if names else dataset

    @classmethod
    def remove(cls, pid: Sequence[Any], protocols: MutableMapping[str, Any]) -> None:
        """Remove the files of the lazy variables."""
        for name in () if pid[0] == _TREE else _files(pid[2]):
            protocols[FOLDER_PROTOCOL].remove(name)


def _datasets(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """The datasets of a tree by path, which are stored as values within the tree."""
    return {
        f"/{path.strip('./')}": node.to_dataset(inherit=node is tree)
        for path, node in tree.subtree_with_keys
    }


def _write_variable(
    name: Hashable,
    variable: xr.Variable,
    is_index: bool,  # noqa: FBT001
    folder: ResultFolder,
) -> Any:
    """A variable to be pickled, or the reference to a lazy one."""
    if is_index:
        return variable
    if variable.chunks is None:
        return variable.copy(deep=False).load()
    if not is_array(variable.data):  # a wrapper of a dask array, for units and the like
        return variable
    try:
        stored = write_array(variable.data, folder)
    except StorageError as error:
        message = f"variable {name!r}: {error}"
        raise type(error)(message) from error
    return variable.dims, variable.attrs, variable.encoding, *stored


def _read(written: Any, folder: ResultFolder) -> xr.Variable:
    if isinstance(written, xr.Variable):
        return written
    dims, attributes, encoding, *stored = written
    return xr.Variable(dims, read_array(folder, *stored), attributes, encoding)


def _files(variables: dict[Hashable, Any]) -> Iterator[str]:
    """The names of the files of lazy variables."""
    return (
        written[3] for written in variables.values() if isinstance(written, tuple) and written[3]
    )
