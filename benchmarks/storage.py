"""Save and read results, beside what else there is for it, in the same run.

Every save goes to a new name: the page cache makes overwriting a file look faster than it is.
Memory for a large array is touched and given back before each turn: to a virtual machine it may be new, and slow.
`stored.py` is about graphs with a storage.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import tracemalloc
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from local import MICRO
from measuring import OURS, Options, Row, Target, available, in_turns, main, timed
from storage_server import running_server

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LARGE: Final = 50_000_000  # float64, 400 MB
SMALL: Final = 2_000
LISTED: Final = 100_000
REMOTE: Final = 100
MILLI: Final = 1e3
KEY: Final = "env:FUNCTIONFUSE_BENCHMARK_KEY"
os.environ.setdefault("FUNCTIONFUSE_BENCHMARK_KEY", "not a secret, only a key")


class Times:
    """What each contestant took, round by round."""

    def __init__(self, scale: float, prepare: Callable[[], object] = lambda: None) -> None:
        """Have none; what prepares each turn is not timed."""
        self.taken: defaultdict[str, list[float]] = defaultdict(list)
        self._scale = scale
        self._prepare = prepare

    def run(self, number: int, contestants: Mapping[str, Callable[[int], object]]) -> None:
        """Let all take their turn in a round; each is given its number."""
        turns = {
            name: partial(self._turn, work, number) for name, work in _rotated(contestants, number)
        }
        for name, (seconds,) in in_turns(turns, 1, warm=False).items():
            self.taken[name].append(seconds)

    def _turn(self, work: Callable[[int], object], number: int) -> float:
        self._prepare()
        return timed(lambda: work(number), self._scale)()

    def row(self, what: str, unit: str, *names: str, target: Target | None = None) -> Row:
        """A contestant beside its peers."""
        ours, *peers = names
        taken = {OURS: self.taken[ours], **{peer: self.taken[peer] for peer in peers}}
        return Row.of("storage", what, unit, taken, target)


def _rotated(
    contestants: Mapping[str, Callable[[int], object]], number: int
) -> list[tuple[str, Callable[[int], object]]]:
    pairs = list(contestants.items())
    first = number % len(pairs)
    return pairs[first:] + pairs[:first]


@contextmanager
def new_folder(options: Options) -> Iterator[Path]:
    """A folder for one part."""
    folder = Path(tempfile.mkdtemp(prefix="storage-", dir=options.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def of_file(folder: Path, **options: Any) -> Any:
    """A storage in a folder."""
    return storage_factory({"kind": "file", "options": {"path": folder / "storage", **options}})


def pickle_to(path: Path, value: object) -> None:
    """Pickle as everybody does."""
    with path.open("wb") as file:
        pickle.dump(value, file)


def unpickled(path: Path) -> object:
    """Unpickle as everybody does."""
    with path.open("rb") as file:
        return pickle.load(file)


# ---- an array of 400 MB ----


def savers(folder: Path, array: Any) -> dict[str, Callable[[int], object]]:
    """All ways to save it."""
    plain, signed = of_file(folder), of_file(folder, signing_key=KEY)
    return {
        "save": lambda number: plain.save("large", f"plain{number}", array),
        "save, signed": lambda number: signed.save("large", f"signed{number}", array),
        "numpy.save": lambda number: np.save(folder / f"{number}.npy", array),
        "joblib.dump": lambda number: joblib.dump(array, folder / f"{number}.joblib"),
        "pickle.dump": lambda number: pickle_to(folder / f"{number}.pickle", array),
    }


def readers(folder: Path) -> dict[str, Callable[[int], object]]:
    """All ways to read what was saved."""
    storages = {verify: of_file(folder, verify=verify) for verify in ("lazy", "always", "never")}
    signed, unmapped = of_file(folder, signing_key=KEY), of_file(folder, map=False)

    def read(verify: str, number: int) -> Any:
        return storages[verify].read_task("large", f"plain{number}")

    def read_and_wait(number: int) -> None:
        read("lazy", number)
        storages["lazy"].wait_verified()

    return {
        "read, verify=lazy": lambda number: read("lazy", number),
        "read, verify=lazy, and settle": read_and_wait,
        "read, verify=always": lambda number: read("always", number),
        "read, verify=never": lambda number: read("never", number),
        "read, verify=never, and sum": lambda number: read("never", number).sum(),
        "read, verify=always, map=False": lambda number: unmapped.read_task(
            "large", f"plain{number}"
        ),
        "read, signed": lambda number: signed.read_task("large", f"signed{number}"),
        "numpy.load": lambda number: np.load(folder / f"{number}.npy"),
        "numpy.load, and sum": lambda number: np.load(folder / f"{number}.npy").sum(),
        "joblib.load": lambda number: joblib.load(folder / f"{number}.joblib"),
        "pickle.load": lambda number: unpickled(folder / f"{number}.pickle"),
    }


def remove_round(folder: Path, number: int) -> None:
    """Make room for the next round."""
    for name in (
        f"{number}.npy",
        f"{number}.joblib",
        f"{number}.pickle",
        f"storage/large/plain{number}",
        f"storage/large/signed{number}",
    ):
        (folder / name).unlink()


def extra_memory(save: Callable[[int], object], number: int, size: int) -> float:
    """The most memory that a save takes besides the value, in percent of it."""
    tracemalloc.start()
    try:
        save(number)
        return 100 * tracemalloc.get_traced_memory()[1] / size
    finally:
        tracemalloc.stop()


def large(options: Options, folder: Path) -> Iterator[Row]:
    """Save and read a large array."""
    size = options.size(LARGE)
    array = np.random.default_rng(0).random(size)
    times = Times(MILLI, prepare=lambda: np.ones(size))
    saving, reading = savers(folder, array), readers(folder)
    for number in range(options.repeats):
        times.run(number, saving)
        times.run(number, reading)
        of_file(folder).wait_verified()
        remove_round(folder, number)
    memory = {
        name: [extra_memory(save, options.repeats, array.nbytes)] for name, save in saving.items()
    }
    remove_round(folder, options.repeats)
    megabytes = f"{array.nbytes / 1e6:,.0f} MB"
    yield from rows_of_large(times, megabytes)
    memory[OURS] = memory.pop("save")
    what, target = f"save {megabytes}, extra memory", Target(1)
    yield Row.of("storage", what, "%", memory, target)


def rows_of_large(times: Times, megabytes: str) -> Iterator[Row]:
    """Each way of ours beside those that do the same."""
    loaders = "numpy.load", "joblib.load", "pickle.load"
    compared: tuple[tuple[Target | None, tuple[str, ...]], ...] = (
        (Target(1.15, "numpy.save", "ratio"), ("save", "numpy.save", "joblib.dump", "pickle.dump")),
        (Target(1.25, "numpy.save", "ratio"), ("save, signed", "numpy.save", "save")),
        (Target(10), ("read, verify=lazy", "numpy.load")),
        (Target(1.0, "numpy.load", "ratio"), ("read, verify=lazy, and settle", "numpy.load")),
        (Target(1.0, "numpy.load", "ratio"), ("read, verify=always", *loaders)),
        (None, ("read, verify=never", "numpy.load")),
        (None, ("read, verify=never, and sum", "numpy.load, and sum")),
        (Target(1.1, "numpy.load", "ratio"), ("read, verify=always, map=False", "numpy.load")),
        (Target(1.1, "numpy.load", "ratio"), ("read, signed", "numpy.load", "read, verify=always")),
    )
    for target, names in compared:
        kind, _, how = names[0].partition(", ")
        what = ", ".join(filter(None, (f"{kind} {megabytes}", how)))
        yield times.row(what, "ms", *names, target=target)


# ---- many small results ----


def small_value(number: int) -> dict[str, object]:
    """A result as most are."""
    return {"number": number, "scores": [0.5, 0.25, 0.125], "label": f"case {number}"}


def each(work: Callable[[int, int], object], count: int) -> Callable[[int], None]:
    """Do a round's work for every result of it."""

    def all_of(number: int) -> None:
        for index in range(count):
            work(number, index)

    return all_of


def small(options: Options, folder: Path) -> Iterator[Row]:
    """Save and read small results."""
    count = options.size(SMALL)
    plain, signed = of_file(folder), of_file(folder, signing_key=KEY)
    pickles, times = folder / "pickles", Times(MICRO / count)
    pickles.mkdir()
    contestants: dict[str, Callable[[int, int], object]] = {
        "save": lambda n, i: plain.save(f"small{n}", f"node{i}", small_value(i)),
        "save, signed": lambda n, i: signed.save(f"signed{n}", f"node{i}", small_value(i)),
        "pickle.dump": lambda n, i: pickle_to(pickles / f"{n}-{i}", small_value(i)),
        "read": lambda n, i: plain.read_task(f"small{n}", f"node{i}"),
        "read, signed": lambda n, i: signed.read_task(f"signed{n}", f"node{i}"),
        "pickle.load": lambda n, i: unpickled(pickles / f"{n}-{i}"),
    }
    saving, reading = list(contestants)[:3], list(contestants)[3:]
    for number in range(options.repeats):
        for turn in (saving, reading):
            times.run(number, {name: each(contestants[name], count) for name in turn})
    unit = "us"
    yield times.row("save a small result", unit, "save", "pickle.dump", target=Target(100))
    yield times.row("save a small result, signed", unit, "save, signed", "save")
    yield times.row("read a small result", unit, "read", "pickle.load", target=Target(50))
    yield times.row("read a small result, signed", unit, "read, signed", "read")


def listing(options: Options, folder: Path) -> Iterator[Row]:
    """List many results."""
    storage, times, count = of_file(folder), Times(1.0), options.size(LISTED)
    for index in range(count):
        storage.save("listed", f"node{index}", index)
    for number in range(options.repeats):
        listed: dict[str, Callable[[int], object]] = {
            "list_tasks": lambda _: storage.list_tasks("listed"),
            "os.listdir": lambda _: os.listdir(folder / "storage" / "listed"),
        }
        times.run(number, listed)
    yield times.row(f"list {count:,}", "s", "list_tasks", "os.listdir", target=Target(1))


# ---- S3 ----


def remote(options: Options, folder: Path) -> Iterator[Row]:
    """Save and read on a server, and count what a run that has everything asks of it."""
    if not (available("s3fs") and available("moto")):
        return
    count = options.size(REMOTE)
    with running_server(folder) as server:
        storage, bare, times = server.storage(), server.filesystem(), Times(MILLI / count)
        data = pickle.dumps(small_value(0)) + bytes(350)  # about as long as a result file
        saving: dict[str, Callable[[int, int], object]] = {
            "save": lambda n, i: storage.save(f"small{n}", f"node{i}", small_value(i)),
            "pipe_file": lambda n, i: bare.pipe_file(f"{server.bucket}/bare{n}/{i}", data),
        }
        reading: dict[str, Callable[[int, int], object]] = {
            "read": lambda n, i: storage.read_task(f"small{n}", f"node{i}"),
            "cat_file": lambda n, i: bare.cat_file(f"{server.bucket}/bare{n}/{i}"),
            "cat_file, one request": lambda n, i: bare.cat_file(
                f"{server.bucket}/bare{n}/{i}", max_concurrency=1
            ),
        }
        for number in range(options.repeats):
            for turn in (saving, reading):
                times.run(number, {name: each(work, count) for name, work in turn.items()})
        target = Target(1.2, "pipe_file", "ratio")
        yield times.row("save on S3", "ms", "save", "pipe_file", target=target)
        target = Target(1.2, "cat_file", "ratio")
        yield times.row("read from S3", "ms", *reading, target=target)
        asked = server.requests(lambda: resume(storage, count))
    listings = sum("list-type" in request for request in asked)
    what = f"resume of {count} on S3"
    yield Row.of("storage", what, "requests", {OURS: [len(asked)]})
    yield Row.of("storage", what, "listings", {OURS: [listings]}, Target(1))


@workflow
def one(number: int) -> int:
    """A node."""
    return number


@workflow
def total(numbers: list[int]) -> int:
    """A node that needs all others."""
    return sum(numbers)


def resume(storage: Any, size: int) -> None:
    """Run a graph of which everything but its last node is stored."""
    wf = LocalWorkflow(total([one(i) for i in range(size - 1)]), workflow_name="resumed")
    wf.set_storage(storage)
    wf.run()


def measure(options: Options) -> Iterator[Row]:
    """All rows."""
    for part in (large, small, listing, remote):
        with new_folder(options) as folder:
            yield from part(options, folder)


if __name__ == "__main__":
    main(measure, __doc__)
