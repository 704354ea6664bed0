"""A chain of large values on every engine: how many of them are in memory at the peak.

Each engine has a process of its own, which looks at its own memory and that of all processes under it:
what is not shared, and what is in the files of shared memory.
A chain of as many small values comes first, so that workers have started and imported what they need,
and engines have the memory for what they note about each task.
What a short one takes at its peak, as for workers that live for one run only, is no value either and does not count.
Beside Ray and Dask is the same chain in the engine's own words.

Ray frees values in batches: of 100, or those of a second. In a chain as fast as this one these fill the whole store,
whoever submits it. Both run with batches of one, so that what is counted is what somebody still holds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import clusters
from measuring import OURS, Options, Row, Target, available, in_child, main
from prefect_server import environment_of, running_server

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shapes import Wrap

    Chain = Callable[[int, int], int]

LENGTH: Final = 1_000
SHORT: Final = 10
MEGABYTES: Final = 10
PAUSE: Final = 0.005  # seconds between two looks at the memory
MOST: Final = 4.0  # values
PROMPT: Final = {"RAY_free_objects_batch_size": "1"}
SHARED: Final = "/dev/shm"  # noqa: S108 - where engines on Linux keep what they share


def made(values: Any, size: int) -> Any:
    """Make a large value, of the one before."""
    import numpy as np

    return np.ones(size) if values is None else values + 1


def length_of(values: Any) -> int:
    """Tell how large a value is."""
    return len(values)


def large_chain(wrap: Wrap, length: int, size: int) -> Any:
    """Large values one after the other, and how large the last is."""
    call = wrap(made)
    value: Any = None
    for _ in range(length):
        value = call(value, size)
    return wrap(length_of)(value)


def as_workflow(make: Callable[..., Any], length: int, size: int) -> int:
    """Run the chain as a workflow of some backend."""
    found: int = make(large_chain(workflow, length, size)).run()
    return found


@contextmanager
def on_this_machine(**options: Any) -> Iterator[Chain]:
    """LocalWorkflow."""
    yield partial(as_workflow, partial(LocalWorkflow, workflow_name="bench", **options))


@contextmanager
def on_cluster(name: str) -> Iterator[Chain]:
    """RayWorkflow or DaskWorkflow."""
    with clusters.running(name) as cluster:
        yield partial(as_workflow, cluster.ours)


@contextmanager
def by_hand(name: str) -> Iterator[Chain]:
    """Ray or Dask without us."""
    with clusters.running(name) as cluster:

        def run_chain(length: int, size: int) -> int:
            (found,) = cluster.results([large_chain(cluster.wrap, length, size)])
            return int(found)

        yield run_chain


@contextmanager
def on_prefect() -> Iterator[Chain]:
    """PrefectWorkflow with the server that the environment tells."""
    from functionfuse.backends.addons.prefectback import PrefectWorkflow

    yield partial(as_workflow, partial(PrefectWorkflow, workflow_name="bench"))


#: Of each engine: the library that it needs, and how the chain runs on it.
ENGINES: Final[dict[str, tuple[str, Callable[[], Any]]]] = {
    "local": ("functionfuse", on_this_machine),
    "threads": ("functionfuse", partial(on_this_machine, workers=2, kind="threads")),
    "processes": ("functionfuse", partial(on_this_machine, workers=2)),
    "dask": ("distributed", partial(on_cluster, "dask")),
    "ray": ("ray", partial(on_cluster, "ray")),
    "prefect": ("prefect", on_prefect),
}
BY_HAND: Final = "by hand"
HANDS: Final[dict[str, Callable[[], Any]]] = {
    name: partial(by_hand, name) for name in clusters.LIBRARIES
}


def private_bytes(process: int) -> int:
    """The memory that a process has for itself, without files of shared memory."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it has ended
        return 0
    lines = rollup.splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))


def family() -> list[int]:
    """This process and all under it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        parent = _parent(folder)
        children.setdefault(parent, []).append(int(folder.name))
    found = [os.getpid()]
    for process in found:
        found += children.get(process, [])
    return found


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def used(processes: list[int]) -> int:
    """The bytes that processes have, and those in shared memory."""
    shared = os.statvfs(SHARED)
    files = (shared.f_blocks - shared.f_bfree) * shared.f_frsize
    return files + sum(map(private_bytes, processes))


def peak(body: Callable[[], object]) -> int:
    """The bytes that a run takes at its peak, more than there are before."""
    processes = family()
    before, most, done = used(processes), 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(PAUSE):
            most = max(most, used(family()) - before)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        body()
    finally:
        done.set()
        looking.join()
    return most


def run(way: Callable[[], Any], length: int) -> float:
    """The peak of a chain, in values."""
    size = MEGABYTES * 2**17
    with way() as run_chain:
        assert run_chain(length, 1) == 1
        small = peak(lambda: run_chain(SHORT, 1))
        taken = peak(lambda: run_chain(length, size))
    return (taken - small) / (MEGABYTES * 2**20)


def measure(options: Options) -> Iterator[Row]:
    """A row for each engine."""
    length = options.size(LENGTH)
    what = f"chain of {length:,} values of {MEGABYTES} MB, at the peak"
    for engine, (library, _) in ENGINES.items():
        if not available(library):
            continue
        with running_server() if engine == "prefect" else nullcontext() as server:
            environment = environment_of(server) if server else {**os.environ, **PROMPT}
            taken: dict[str, list[float]] = {}
            for label in (OURS, BY_HAND) if engine in HANDS else (OURS,):
                taken[label] = [
                    in_child(__file__, label, engine, length, environment=environment)[1]
                    for _ in range(options.repeats)
                ]
        yield Row.of("memory", f"{engine}, {what}", "values", taken, Target(MOST))


if __name__ == "__main__":
    match sys.argv[1:]:
        case [label, engine, length] if label in (OURS, BY_HAND):
            way = ENGINES[engine][1] if label == OURS else HANDS[engine]
            print(json.dumps(run(way, int(length))))
        case _:
            main(measure, __doc__)
