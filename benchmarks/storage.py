"""Save and read results, beside what else there is for it, in the same run.

Run it with `python benchmarks/storage.py [--folder FOLDER] [--only large,small,listing,s3]`.
Every save goes to a new name: the page cache makes overwriting a file look faster than it is.
Contestants take turns, and each round begins with another one.
A ratio is that of the medians; behind it that of the minima, which other load on the computer spoils less.
Memory for a large array is touched and given back before each turn: to a virtual machine it may be new, and slow.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from storage_server import running_server

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROUNDS = 5
LARGE = 50_000_000  # float64, 400 MB
SMALL = 2_000
LISTED = 100_000
REMOTE = 200
KEY = "env:FUNCTIONFUSE_BENCHMARK_KEY"
os.environ.setdefault("FUNCTIONFUSE_BENCHMARK_KEY", "not a secret, only a key")


class Times:
    """Seconds of each contestant, round by round."""

    def __init__(self, prepare: Callable[[], object] = lambda: None) -> None:
        """Have none; what prepares each turn is not timed."""
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._prepare = prepare

    def run(self, number: int, contestants: Mapping[str, Callable[[int], object]]) -> None:
        """Let all take their turn in a round; each is given its number."""
        names = list(contestants)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            self._prepare()
            start = time.perf_counter()
            contestants[name](number)
            self.seconds[name].append(time.perf_counter() - start)

    def median(self, name: str, count: int = 1) -> str:
        """The median, of one of so many that were done at once."""
        return shown(statistics.median(self.seconds[name]) / count)

    def ratio(self, name: str, peer: str) -> str:
        """How many times as long as a peer it takes, by medians and by minima."""
        medians, minima = (
            pick(self.seconds[name]) / pick(self.seconds[peer]) for pick in (statistics.median, min)
        )
        return f"{medians:.2f} x ({minima:.2f})"

    def rows(self, ours: str, *peers: str, target: str = "", count: int = 1) -> None:
        """Print a contestant beside its peers, of which the first is the one that the target names."""
        for peer in peers:
            times = self.median(ours, count), self.median(peer, count)
            row(ours, times[0], peer, times[1], self.ratio(ours, peer), target)
            target = ""


def shown(seconds: float) -> str:
    """Seconds, milliseconds or microseconds."""
    for unit, size in (("s ", 1.0), ("ms", 1e-3)):
        if seconds >= size / 10:
            return f"{seconds / size:.3f} {unit}"
    return f"{seconds * 1e6:.1f} us"


def row(*texts: str) -> None:
    """Print what was done, its figure, a peer, its figure, the ratio, and the target."""
    widths = 32, 12, 22, 12, 18, 0
    padded = [
        text.rjust(width) if number in {1, 3, 4} else f"  {text:{width}}"
        for number, (text, width) in enumerate(zip(texts, widths, strict=True))
    ]
    print("".join(padded).rstrip(), flush=True)


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
    signed = of_file(folder, signing_key=KEY)

    def read(verify: str, number: int) -> Any:
        return storages[verify].read_task("large", f"plain{number}")

    def read_and_wait(number: int) -> None:
        read("lazy", number)
        storages["lazy"].settle()

    return {
        "read, verify=lazy": lambda number: read("lazy", number),
        "read, verify=lazy, and settle": read_and_wait,
        "read, verify=always": lambda number: read("always", number),
        "read, verify=never": lambda number: read("never", number),
        "read, verify=never, and sum": lambda number: read("never", number).sum(),
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


def extra_memory(save: Callable[[int], object], size: int) -> str:
    """The most memory that a save takes besides the value, as a share of it."""
    tracemalloc.start()
    try:
        save(ROUNDS)
        return f"{tracemalloc.get_traced_memory()[1] / size:.1%}"
    finally:
        tracemalloc.stop()


def large(folder: Path) -> None:
    """Save and read a large array."""
    array = np.random.default_rng(0).random(LARGE)
    times = Times(prepare=lambda: np.ones(LARGE))
    saving, reading = savers(folder, array), readers(folder)
    for number in range(ROUNDS):
        times.run(number, saving)
        times.run(number, reading)
        of_file(folder).settle()
        remove_round(folder, number)
    memory = {name: extra_memory(save, array.nbytes) for name, save in saving.items()}
    remove_round(folder, ROUNDS)
    times.rows("save", "numpy.save", "joblib.dump", "pickle.dump", target="<= 1.1 x")
    times.rows("save, signed", "save")
    for peer, target in (("numpy.save", "< 5 %"), ("joblib.dump", ""), ("pickle.dump", "")):
        row("save, extra memory", memory["save"], peer, memory[peer], "", target)
    times.rows("read, verify=lazy", "numpy.load", target="milliseconds")
    times.rows("read, verify=lazy, and settle", "numpy.load")
    loaders = "numpy.load", "joblib.load", "pickle.load"
    times.rows("read, verify=always", *loaders, target="<= 1.3 x")
    times.rows("read, verify=never", "numpy.load")
    times.rows("read, verify=never, and sum", "numpy.load, and sum")
    times.rows("read, signed", "read, verify=always")


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


def small(folder: Path) -> None:
    """Save and read small results."""
    plain, signed, times = of_file(folder), of_file(folder, signing_key=KEY), Times()
    for number in range(ROUNDS):
        pickles = folder / f"pickles{number}"
        pickles.mkdir()
        contestants: dict[str, Callable[[int, int], object]] = {
            "save": lambda n, i: plain.save(f"small{n}", f"node{i}", small_value(i)),
            "save, signed": lambda n, i: signed.save(f"signed{n}", f"node{i}", small_value(i)),
            "pickle.dump": lambda _, i, to=pickles: pickle_to(to / f"{i}", small_value(i)),  # type: ignore[misc]
            "read": lambda n, i: plain.read_task(f"small{n}", f"node{i}"),
            "read, signed": lambda n, i: signed.read_task(f"signed{n}", f"node{i}"),
            "pickle.load": lambda _, i, of=pickles: unpickled(of / f"{i}"),  # type: ignore[misc]
        }
        for name, work in contestants.items():
            times.run(number, {name: each(work, SMALL)})
    times.rows("save", "pickle.dump", target="<= 100 us", count=SMALL)
    times.rows("save, signed", "save", count=SMALL)
    times.rows("read", "pickle.load", target="<= 50 us", count=SMALL)
    times.rows("read, signed", "read", count=SMALL)


def listing(folder: Path) -> None:
    """List many results."""
    storage, times = of_file(folder), Times()
    for index in range(LISTED):
        storage.save("listed", f"node{index}", index)
    for number in range(ROUNDS):
        listed: dict[str, Callable[[int], object]] = {
            "list_tasks": lambda _: storage.list_tasks("listed"),
            "os.listdir": lambda _: os.listdir(folder / "storage" / "listed"),
        }
        times.run(number, listed)
    times.rows("list_tasks", "os.listdir", target="<= 1 s")


# ---- S3 ----


def remote(folder: Path) -> None:
    """Save and read on a server, and count what a run that has everything asks of it."""
    with running_server(folder) as server:
        storage, bare, times = server.storage(), server.filesystem(), Times()
        data = pickle.dumps(small_value(0)) + bytes(350)  # about as long as a result file
        contestants: dict[str, Callable[[int, int], object]] = {
            "save": lambda n, i: storage.save(f"small{n}", f"node{i}", small_value(i)),
            "pipe_file": lambda n, i: bare.pipe_file(f"{server.bucket}/bare{n}/{i}", data),
            "read": lambda n, i: storage.read_task(f"small{n}", f"node{i}"),
            "cat_file": lambda n, i: bare.cat_file(f"{server.bucket}/bare{n}/{i}"),
            "cat_file, one request": lambda n, i: bare.cat_file(
                f"{server.bucket}/bare{n}/{i}", max_concurrency=1
            ),
        }
        for number in range(ROUNDS):
            for turn in (list(contestants)[:2], list(contestants)[2:]):
                times.run(number, {name: each(contestants[name], REMOTE) for name in turn})
        times.rows("save", "pipe_file", target="<= 1.2 x", count=REMOTE)
        times.rows("read", "cat_file", "cat_file, one request", target="<= 1.2 x", count=REMOTE)
        asked = server.requests(lambda: resume(storage))
        listings = sum("list-type" in request for request in asked)
        counted = f"{len(asked)} requests"
        row("resume of 200 nodes", counted, "of them listings", f"{listings}", "", "one listing")


@workflow
def one(number: int) -> int:
    """A node."""
    return number


@workflow
def total(numbers: list[int]) -> int:
    """A node that needs all others."""
    return sum(numbers)


def resume(storage: Any) -> None:
    """Run a graph of which everything but its last node is stored."""
    wf = LocalWorkflow(total([one(i) for i in range(REMOTE - 1)]), workflow_name="resumed")
    wf.set_storage(storage)
    wf.run()


PARTS: dict[str, Callable[[Path], None]] = {
    "large": large,
    "small": small,
    "listing": listing,
    "s3": remote,
}


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where files go; a temporary folder")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    options = parser.parse_args()
    print(f"median of {ROUNDS}; load of the computer: {os.getloadavg()[0]:.1f} on {os.cpu_count()}")
    for name in options.only.split(","):
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=options.folder))
        print(f"\n{name} ({folder})")
        row("ours", "", "beside", "", "ratio (minima)", "target")
        try:
            PARTS[name](folder)
        finally:
            shutil.rmtree(folder)
    print(f"\nload of the computer: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
