"""Dask arrays: computed once, kept exactly, lazy again, and never silently wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from serializer_helpers import Kept, in_another_process, in_memory, kept, local, on_s3

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import CorruptResult, StorageError, UntrustedResult
from functionfuse.serializers import FILE_PROTOCOL, FOLDER_PROTOCOL
from functionfuse.storage import storage_factory
from functionfuse.workflow import workflow

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
pytest.importorskip("zarr")

from functionfuse.serializers.daskarray import DaskArraySerializer, write_array  # noqa: E402 - after its library
from functionfuse.serializers.zarr_store import ArrayWriter, StoredArray  # noqa: E402 - after its library

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kept", "local"]

DTYPES = [
    *("?", "i1", "u8", "f2", "f4", "f8", "c8", "c16", "longdouble", ">i4", ">f8"),
    *("M8[ns]", "M8[D]", "m8[s]", "U3", "S5"),
    [("a", "i4"), ("b", "f8", (2,))],
]


def failing(block: Any) -> Any:
    """Raise what a user's function may raise."""
    message = "gone"
    raise IndexError(message) if block.size else ValueError(message)


def same(expected: Any, actual: Any) -> None:
    """Two dask arrays are the same, and so are their chunks."""
    assert isinstance(actual, da.Array)
    assert (expected.dtype, expected.chunks) == (actual.dtype, actual.chunks)
    one, other = expected.compute(), actual.compute()
    assert type(one) is type(other)
    np.testing.assert_array_equal(one, other, strict=True)


def test_an_array_comes_back_lazily(kept: Kept) -> None:
    """Its chunks too, wherever it is, and what is computed from it is right."""
    array = da.arange(100, chunks=30).reshape(10, 10) + 0.5
    found = kept.round_trip({"x": [array], "y": 1}, DaskArraySerializer)
    same(array, found["x"][0])
    assert float(array.sum().compute()) == float(found["x"][0].sum().compute())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_kept(local: Kept, dtype: Any) -> None:
    """Also of the other byte order, of text, time and records."""
    values = np.arange(24).reshape(4, 6)
    array = np.zeros((4, 6), dtype) if isinstance(dtype, list) else values.astype(dtype)
    same(
        da.from_array(array, chunks=(3, (1, 3, 2))),
        local.round_trip(da.from_array(array, chunks=(3, (1, 3, 2))), DaskArraySerializer),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: da.ones(5).sum(),
        lambda: da.from_array(np.array(5.0)),
        lambda: da.from_array(np.array([{}, 1]), chunks=1),
        lambda: da.from_array(np.array(["a", "bcd"], dtype=np.dtypes.StringDType()), chunks=1),
        lambda: da.ones((0, 3)),
        lambda: da.arange(20, chunks=4)[3:-2],
        lambda: da.concatenate([da.zeros(3), da.ones(0), da.ones(4)]),
        lambda: da.ones((7, 5), chunks=((1, 5, 1), (2, 3))),
        lambda: da.full((4, 4), np.nan, chunks=2),
        lambda: da.zeros(1000, chunks=10),
    ],
    ids=[
        "scalar",
        "no dimensions",
        "objects",
        "texts",
        "empty",
        "cut",
        "joined",
        "irregular",
        "nan",
        "zeros",
    ],
)
def test_every_form_is_kept(kept: Kept, make: Callable[[], Any]) -> None:
    """Without dimensions, without items, and with chunks of different sizes."""
    same(make(), kept.round_trip(make(), DaskArraySerializer))


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_part_of_a_loaded_array_is_right(local: Kept, data: st.DataObject) -> None:
    """Any selection of a loaded array equals that of numpy."""
    array = data.draw(hnp.arrays("i4", hnp.array_shapes(max_dims=3, max_side=7)))
    chunks = tuple(data.draw(st.integers(1, side)) for side in array.shape)
    found = local.round_trip(da.from_array(array, chunks=chunks), DaskArraySerializer)
    index = data.draw(hnp.basic_indices(array.shape, allow_newaxis=True))
    np.testing.assert_array_equal(array[index], found[index].compute())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: da.arange(9, chunks=3)[da.arange(9, chunks=3) > 3], "compute_chunk_sizes"),
        (lambda: da.ma.masked_array(da.arange(4), mask=[0, 1, 0, 0]), "MaskedArray"),
        (lambda: da.arange(4).map_blocks(lambda b: b / 2, dtype="i8"), "int64 .* float64"),
        (lambda: da.arange(4).map_blocks(lambda b: b[1:], dtype="i8"), r"\(4,\).*\(3,\)"),
        (lambda: da.arange(4).map_blocks(failing, dtype="i8"), "IndexError: gone"),
    ],
    ids=["unknown chunks", "masked", "other dtype", "other shape", "failing"],
)
def test_what_cannot_be_kept_is_refused(kept: Kept, make: Callable[[], Any], message: str) -> None:
    """With the reason, and nothing is left of it."""
    with pytest.raises(StorageError, match=message):
        kept.storage(DaskArraySerializer).save("w", "node", [da.ones(3), make()])
    assert [] == kept.files()


def test_a_failed_save_leaves_no_chunk(kept: Kept) -> None:
    """Also not one that another thread or process writes after the save has failed."""
    failed = threading.Event()

    def late(block: Any, block_id: Any) -> Any:
        if block_id[0]:
            return failing(block)
        assert failed.wait(60)
        return block

    with ThreadPoolExecutor(2) as threads, dask.config.set(scheduler="threads", pool=threads):
        array = da.ones(4, chunks=2).map_blocks(late, dtype=float, meta=np.empty(0))
        with pytest.raises(StorageError, match="gone"):
            kept.storage(DaskArraySerializer).save("w", "node", array)
        failed.set()
    assert [] == kept.files()


def test_a_missing_chunk_is_an_error(kept: Kept) -> None:
    """Not the fill value, as zarr has it; also when all of the chunk was the fill value."""
    found = kept.round_trip(da.zeros((4, 4), chunks=2), DaskArraySerializer)
    (chunk,) = kept.files("c.1.0")
    kept.filesystem.rm(chunk)
    np.testing.assert_array_equal(np.zeros((2, 2)), found[:2, :2].compute())
    with pytest.raises(CorruptResult, match=r"c\.1\.0 is missing"):
        found.compute()


@pytest.mark.parametrize("part", ["c.0", "zarr.json", "digests.json"])
def test_a_damaged_array_is_an_error(kept: Kept, part: str) -> None:
    """One bit is enough, in a chunk or in what is said of them."""
    storage = kept.storage(DaskArraySerializer)
    storage.save("w", "node", da.arange(4))
    (file,) = kept.files(part)
    content = bytearray(kept.filesystem.cat_file(file))
    content[-1] ^= 1
    kept.filesystem.pipe_file(file, bytes(content))
    with pytest.raises(CorruptResult, match="does not match its checksum"):
        storage.read_task("w", "node").compute()


def test_swapped_chunks_are_an_error(local: Kept) -> None:
    """Each of them is what was written, but not there."""
    found = local.round_trip(da.arange(4, chunks=2), DaskArraySerializer)
    first, second = local.files("/c.")
    contents = local.filesystem.cat([first, second])
    local.filesystem.pipe({first: contents[second], second: contents[first]})
    with pytest.raises(CorruptResult):
        found.compute()


def test_an_array_without_metadata_is_computed_again(local: Kept) -> None:
    """A damaged result counts as not stored."""

    @workflow
    def make() -> Any:
        return da.arange(4)

    def run() -> Any:
        made = LocalWorkflow(make().set_name("node"), workflow_name="w")
        made.set_storage(local.storage(DaskArraySerializer))
        return made.run()

    run()
    for file in local.files("zarr.json"):
        local.filesystem.rm(file)
    with pytest.warns(UserWarning, match=r"zarr\.json is missing"):
        same(da.arange(4), run())
    same(da.arange(4), run())


def _total(array: Any) -> float:
    return float(array.sum().compute(scheduler="synchronous"))


@pytest.mark.parametrize("kept", ["file", "S3"], indirect=True)
def test_a_lazy_array_can_be_computed_elsewhere(kept: Kept) -> None:
    """In another process, which connects automatically."""
    found = kept.round_trip(da.ones((30, 30), chunks=10), DaskArraySerializer)
    assert 900.0 == in_another_process(_total, found)
    assert 901.0 == in_another_process(_total, da.concatenate([found.ravel(), da.ones(1)]))


def test_memory_is_not_shared() -> None:
    """An array that is in the memory of this process is none in another one, and says so."""
    found = in_memory().round_trip(da.ones(3), DaskArraySerializer)
    assert "StorageError" in in_another_process(_errors_of, found)


def _errors_of(array: Any) -> list[str]:
    try:
        array.compute(scheduler="synchronous")
    except Exception as error:  # noqa: BLE001
        return [kind.__name__ for kind in type(error).__mro__]
    return []


def test_children_get_the_array_that_is_stored(kept: Kept) -> None:
    """With `always_read`: no function of the user's is in its graph, and none runs twice."""
    ran = []

    def noted(block: Any) -> Any:
        ran.append(1)
        return block + 1

    @workflow
    def make() -> Any:
        return da.zeros(20, chunks=5).map_blocks(noted, dtype="f8", meta=np.empty(0))

    @workflow
    def layers(array: Any) -> list[str]:
        assert 20.0 == float(array.sum().compute())
        return [name.partition("-stored")[0][:6] for name in array.dask.layers]

    storage = kept.storage(DaskArraySerializer)
    storage.always_read = True
    run = LocalWorkflow(layers(make().set_name("m")).set_name("l"), workflow_name="w")
    run.set_storage(storage)
    assert {"origin", "stored"} == set(run.run())
    assert 4 == len(ran)


def test_a_result_file_tells_no_secret(moto_server: Any, tmp_path: Any) -> None:
    """Neither the result of a lazy array, nor one that refers to an array of another storage."""
    remote = on_s3(moto_server)
    storage = remote.storage(DaskArraySerializer)
    storage.save("w", "node", da.ones(4))
    lazy = storage.read_task("w", "node")
    storage.save("w", "again", lazy + 1)
    for file in remote.files():
        content = remote.filesystem.cat_file(file)
        assert [] == [secret for secret in remote.secrets if secret.encode() in content]
    assert [] == [secret for secret in remote.secrets if secret in repr(lazy.dask)]
    plain = storage_factory(tmp_path / "plain")
    with pytest.raises(StorageError, match="secrets"):
        plain.save("w", "node", lazy)
    assert [] == plain.list_tasks("w")


def test_one_result_may_be_made_of_another(kept: Kept) -> None:
    """The second stored array does not need the first."""
    storage = kept.storage(DaskArraySerializer)
    storage.save("w", "first", da.arange(6, chunks=2))
    storage.save("w", "second", storage.read_task("w", "first") * 2)
    storage.remove_task("w", "first")
    same(da.arange(6, chunks=2) * 2, storage.read_task("w", "second"))


def test_chunks_are_computed_by_dask(local: Kept) -> None:
    """By the scheduler that the user has set, one that sends them to other processes too."""
    import dask

    def process_of(block: Any) -> Any:
        return np.full_like(block, os.getpid())

    array = da.zeros(4, chunks=2, dtype="i8").map_blocks(process_of, meta=np.empty(0, "i8"))
    with dask.config.set(scheduler="processes", num_workers=1):
        found = local.round_trip(array, DaskArraySerializer)
    processes = set(found.compute(scheduler="synchronous").tolist())
    assert os.getpid() not in processes


def test_files_of_the_published_system_can_be_read(local: Kept) -> None:
    """An HDF5 file, opened whenever a chunk is needed, so that the array can be sent elsewhere."""
    h5py = pytest.importorskip("h5py")
    values = np.arange(20.0).reshape(4, 5)
    content = io.BytesIO()
    with h5py.File(content, "w") as hdf:
        hdf.create_dataset("dask_arrays", data=values, chunks=(2, 5))
    folder = f"{local.root}/files"
    local.filesystem.makedirs(folder)
    local.filesystem.pipe_file(f"{folder}/name", content.getvalue())
    files = Files(folder)
    found = DaskArraySerializer.unpickle(("0.0.0", "name"), {FILE_PROTOCOL: files})
    same(da.from_array(values, chunks=(2, 5)), found)
    assert values.sum() == in_another_process(_total, found)
    DaskArraySerializer.remove(("0.0.0", "name"), {FILE_PROTOCOL: files})
    assert [] == local.files()


def _hdf(path: Path, kind: str, outside: Path) -> None:
    """An HDF5 file of the published system whose values are somewhere else."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path.with_suffix(".own"), "w") as hdf:
        hdf.create_dataset("dask_arrays", data=np.arange(5))
    with h5py.File(path, "w") as hdf:
        match kind:
            case "external storage":
                place = [(str(outside), 0, 24)]
                hdf.create_dataset("dask_arrays", shape=(24,), dtype="u1", external=place)
            case "external link":
                hdf["dask_arrays"] = h5py.ExternalLink(f"{path.stem}.own", "dask_arrays")
            case "soft link":
                hdf.create_dataset("other", data=np.arange(5))
                hdf["dask_arrays"] = h5py.SoftLink("/other")
            case "virtual dataset":
                layout = h5py.VirtualLayout(shape=(5,), dtype="i8")
                layout[:] = h5py.VirtualSource(f"{path.stem}.own", "dask_arrays", shape=(5,))
                hdf.create_virtual_dataset("dask_arrays", layout)
            case "a group":
                hdf.create_group("dask_arrays")


@pytest.mark.parametrize(
    "kind", ["external storage", "external link", "soft link", "virtual dataset", "a group"]
)
@pytest.mark.parametrize("options", [{}, {"allowed_types": []}], ids=["trusting", "safe mode"])
def test_values_of_other_files_are_not_read(
    local: Kept, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    """HDF5 would read any file that the result file names, in every mode of reading."""
    outside = tmp_path / "secret"
    outside.write_bytes(b"outside of the storage..")
    folder = Path(local.root) / "w" / "bigdata"
    folder.mkdir(parents=True)
    _hdf(folder / "x", kind, outside)
    name = b"DaskArraySerializer"
    stream = b"\x80\x04\x8c%c%s\x8c\x050.0.0\x8c\x01x\x86\x86Q." % (len(name), name)
    (folder.parent / "node").write_bytes(stream + hashlib.sha1(stream).digest())  # noqa: S324
    storage = local.storage(DaskArraySerializer, **options)
    with pytest.raises(UntrustedResult, match="'x' takes its values from elsewhere"):
        storage.read_task("w", "node")


def test_a_file_that_is_exchanged_later_is_refused_as_well(local: Kept, tmp_path: Path) -> None:
    """A lazy array opens its file whenever it is computed."""
    folder = tmp_path / "files"
    folder.mkdir()
    _hdf(folder / "x", "external link", tmp_path)
    (folder / "x").rename(folder / "exchanged")
    (folder / "x.own").rename(folder / "x")
    found = DaskArraySerializer.unpickle(("0.0.0", "x"), {FILE_PROTOCOL: Files(str(folder))})
    assert 10 == found.sum().compute()
    (folder / "exchanged").rename(folder / "x")
    with pytest.raises(UntrustedResult, match="from elsewhere"):
        found.sum().compute()


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "numcodecs.shuffle", "configuration": {"elementsize": 4}}]},
        {"codecs": [{"name": "a plugin"}]},
        {"data_type": "a plugin"},
        {"storage_transformers": ["a plugin"]},
        {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}}},
        {"chunk_grid": {"name": "a plugin"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [{}, {"allowed_types": []}], ids=["trusting", "safe mode"])
def test_an_array_that_needs_plugins_is_refused(
    local: Kept, change: dict[str, Any], options: dict[str, Any]
) -> None:
    """Zarr loads codecs and types by name; nothing that was written here has others than its own."""
    target = Folder(f"{local.root}/forged")
    name, _ = write_array(da.arange(4, chunks=2), target)
    place = Path(target.folder) / name
    metadata = json.loads((place / "zarr.json").read_text()) | change
    digests = json.loads((place / "digests.json").read_text())
    (place / "zarr.json").write_text(json.dumps(metadata))
    digests["zarr.json"] = hashlib.sha256((place / "zarr.json").read_bytes()).hexdigest()
    (place / "digests.json").write_text(json.dumps(digests))
    digest = hashlib.sha256((place / "digests.json").read_bytes()).hexdigest()
    with pytest.raises(UntrustedResult, match="which no serializer writes"):
        StoredArray(target, name, digest)


@pytest.mark.parametrize("name", ["../other", "/etc", "a/b", "..", "", "a\\b"])
def test_an_array_outside_of_its_folder_is_refused(local: Kept, name: str) -> None:
    """A result file may be from another user; the names in it stay in its folder."""
    pid = ("1", name, "digest")
    with pytest.raises(UntrustedResult, match="not in the sidecar folder"):
        DaskArraySerializer.unpickle(pid, {FOLDER_PROTOCOL: Folder(local.root)})


class Files:
    """The published system's interface for opening files."""

    def __init__(self, folder: str) -> None:
        """Take a folder."""
        self.folder = folder

    def open(self, name: str, mode: str) -> Any:
        """Open a file."""
        return open(os.path.join(self.folder, name), mode)

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(os.path.join(self.folder, name))


def test_a_pickled_array_is_small(local: Kept) -> None:
    """The pickle of a lazy array has no data, for any source."""
    found = local.round_trip(da.ones(100_000, chunks=1000), DaskArraySerializer)
    stored = next(value for key, value in found.dask.items() if str(key).startswith("original"))
    assert len(pickle.dumps(stored)) < 1500


def test_a_chunk_may_be_larger_than_compressors_take(tmp_path: Path) -> None:
    """Such an array is stored unchanged."""
    for length, codecs in ((2**20, ["bytes", "blosc"]), (2**28, ["bytes"])):
        ArrayWriter(Folder(str(tmp_path)), str(length), np.dtype("f8"), ((length,),))
        metadata = json.loads((tmp_path / str(length) / "zarr.json").read_text())
        assert codecs == [codec["name"] for codec in metadata["codecs"]]


class Folder(Files):
    """A folder that serializers write to."""

    filesystem = fsspec.filesystem("file")

    @property
    def path(self) -> str:
        """Where it is."""
        return self.folder

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file."""
        return Path(self.folder, name).read_bytes()

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file."""
        Path(self.folder, name).parent.mkdir(parents=True, exist_ok=True)
        Path(self.folder, name).write_bytes(data)

    def corrupt(self, problem: str) -> CorruptResult:
        """The error for a damaged file."""
        return CorruptResult(problem)

    def check(self) -> None:
        """Nothing is damaged."""
