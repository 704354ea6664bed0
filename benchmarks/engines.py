"""Graphs on Ray and Dask beside the same graph in the engine's own words, and the memory of a chain of large values.

Run it with `python benchmarks/engines.py [nodes [repeats]]`: the two ways take turns in one process.
Ratios are of medians, and of minima in brackets; memory is what a chain of 50 values of 20 MB takes at its peak,
in such values: the private memory of the workers, without what the engine itself takes, and Ray's object store.
`benchmarks/local_workers.py` is about LocalWorkflow.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LENGTH: Final = 50  # of the chain of large values
MEGABYTES: Final = 20
PAUSE: Final = 0.005  # seconds between two looks at the memory


def add_one(number: int) -> int:
    """Do next to nothing."""
    return number + 1


def pass_on(values: Any) -> Any:
    """Make a large value."""
    return np.ones(MEGABYTES * 2**17) if values is None else values + 1


def chain(call: Callable[[Any], Any], size: int) -> list[Any]:
    """Each call takes the one before it."""
    value: Any = 0
    for _ in range(size):
        value = call(value)
    return [value]


def fan(call: Callable[[Any], Any], size: int) -> list[Any]:
    """Independent calls."""
    return [call(number) for number in range(size)]


def large(call: Callable[[Any], Any]) -> Any:
    """A chain of large values, of which the last is asked how large it is."""
    value: Any = None
    for _ in range(LENGTH):
        value = call(value)
    return value


class OnDask:
    """A cluster of two processes."""

    name = "dask"

    def __init__(self) -> None:
        """Start it."""
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        )
        self.client = Client(self.cluster, set_as_default=False)

    def call(self, function: Callable[..., Any]) -> Callable[[Any], Any]:
        """A call in Dask's words."""
        return lambda value: self.client.submit(function, value, pure=False)

    def results(self, calls: list[Any]) -> list[Any]:
        """What calls gave."""
        return list(self.client.gather(calls))

    def ours(self, *nodes: Any) -> Any:
        """A workflow of ours."""
        from functionfuse.backends.builtin.daskback import DaskWorkflow

        return DaskWorkflow(*nodes, workflow_name="bench", client=self.client)

    def workers(self) -> Iterable[int]:
        """The processes that compute."""
        return list(self.client.run(os.getpid).values())

    def close(self) -> None:
        """Stop it."""
        self.client.close()
        self.cluster.close()


class OnRay:
    """A cluster of two CPUs."""

    name = "ray"

    def __init__(self) -> None:
        """Start it."""
        os.environ |= {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_TOKEN": secrets.token_hex(),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        import ray

        self.ray = ray
        self.folder = tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True)
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=self.folder.name,
        )

    def call(self, function: Callable[..., Any]) -> Callable[[Any], Any]:
        """A call in Ray's words."""
        remote: Callable[[Any], Any] = self.ray.remote(function).remote
        return remote

    def results(self, calls: list[Any]) -> list[Any]:
        """What calls gave."""
        return list(self.ray.get(calls))

    def ours(self, *nodes: Any) -> Any:
        """A workflow of ours."""
        from functionfuse.backends.builtin.rayback import RayWorkflow

        return RayWorkflow(*nodes, workflow_name="bench")

    def workers(self) -> Iterable[int]:
        """The processes that compute."""
        return [
            int(path.name)
            for path in Path("/proc").glob("[0-9]*")
            if _command(path).startswith(b"ray::")
        ]

    def close(self) -> None:
        """Stop it."""
        self.ray.shutdown()
        self.folder.cleanup()


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def private_bytes(process: int) -> int:
    """The memory that a process does not share."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it is gone
        return 0
    private = [line.split()[1] for line in rollup.splitlines() if line.startswith("Private_")]
    return 1024 * sum(map(int, private))


def peak(engine: Any, body: Callable[[], object]) -> float:
    """The most that workers take while something runs, in large values."""
    body()  # workers have started, and imported what they need
    before = {process: private_bytes(process) for process in engine.workers()}
    most, done = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(PAUSE):
            now = {process: private_bytes(process) for process in engine.workers()}
            most = max(most, sum(now[each] - before.get(each, 0) for each in now))

    looking = threading.Thread(target=look)
    looking.start()
    body()
    done.set()
    looking.join()
    return most / (MEGABYTES * 2**20)


def seconds(body: Callable[[], list[Any]], expected: list[Any]) -> float:
    """How long something takes that gives what is expected."""
    start = time.perf_counter()
    found = body()
    taken = time.perf_counter() - start
    assert expected == found
    return taken


def compare(engine: Any, size: int, repeats: int) -> None:
    """Print a row for each shape."""
    for shape in (chain, fan):
        expected = shape(add_one, size)
        ways = partial(by_hand, engine, shape, size), partial(ours, engine, shape, size)
        taken = [[seconds(way, expected) for way in ways] for _ in range(repeats + 1)]
        hand, own = zip(*taken[1:], strict=True)
        print(row(engine.name, shape.__name__, hand, own, size), flush=True)


def by_hand(engine: Any, shape: Callable[..., list[Any]], size: int) -> list[Any]:
    """A shape in the engine's words."""
    found: list[Any] = engine.results(shape(engine.call(add_one), size))
    return found


def ours(engine: Any, shape: Callable[..., list[Any]], size: int) -> list[Any]:
    """A shape as a workflow."""
    return _listed(engine.ours(*shape(workflow(add_one), size)).run())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def row(name: str, shape: str, hand: Sequence[float], ours: Sequence[float], size: int) -> str:
    """Milliseconds a node and the ratio."""
    medians = statistics.median(hand), statistics.median(ours)
    cells = "".join(f"{1_000 * median / size:>10.3f}" for median in medians)
    ratio = f"{medians[1] / medians[0]:.2f} ({min(ours) / min(hand):.2f})"
    return f"{name:6}{shape:8}{cells}{ratio:>14}"


def memory(engine: Any) -> None:
    """Print the peak of a chain of large values."""
    node = workflow(pass_on)
    last = workflow(len)

    def body() -> None:
        engine.ours(last(large(node))).run()

    print(f"{engine.name:6}{LENGTH} x {MEGABYTES} MB: {peak(engine, body):.1f} values", flush=True)


def main(size: int, repeats: int) -> None:
    """Print the table of each engine."""
    print(f"{size} nodes, ms a node, medians of {repeats}; target: 1.15")
    print(f"{'':14}{'by hand':>10}{'ours':>10}{'ratio (min)':>14}")
    for kind in (OnDask, OnRay):
        engine = kind()
        try:
            compare(engine, size, repeats)
            memory(engine)
        finally:
            engine.close()


if __name__ == "__main__":
    given = [*map(int, sys.argv[1:])]
    main(*given, *(1_000, 7)[len(given) :])
