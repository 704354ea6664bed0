"""A fan and a chain of trivial nodes on local workers; the executors of the standard library and loky beside them.

Run it with `python benchmarks/local_workers.py [nodes]`.
A run starts its workers and ends them; so does each executor here, but for loky's, which is kept.
"a node" is what one more node costs: the difference between a run of all nodes and a run of a tenth of them.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 7
WORKERS = 2


def add(a: int, b: int) -> int:
    """Do next to nothing."""
    return a + b


def fan(size: int) -> list[Any]:
    """Independent nodes."""
    return [workflow(add)(index, 1) for index in range(size)]


def chain(size: int) -> list[Any]:
    """Each node takes the one before it."""
    value: Any = 0
    for _ in range(size):
        value = workflow(add)(value, 1)
    return [value]


def ours(kind: Any, shape: Callable[[int], list[Any]], size: int) -> Callable[[], object]:
    """A run of a graph."""
    made = LocalWorkflow(*shape(size), workflow_name="bench", workers=WORKERS, kind=kind)
    return made.run


def theirs(make: Callable[[], Executor], size: int) -> Callable[[], object]:
    """Submit a fan to a new executor."""

    def run() -> None:
        with make() as pool:
            submit(pool, size)

    return run


def submit(pool: Any, size: int) -> None:
    """Submit a fan, and wait for it."""
    futures = [pool.submit(add, index, 1) for index in range(size)]
    for future in futures:
        future.result()


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def candidates() -> dict[str, Callable[[int], Callable[[], object]]]:
    """What is compared, by name: a size gives what is timed."""
    found: dict[str, Callable[[int], Callable[[], object]]] = {
        f"{kind}, {shape.__name__}": partial(ours, kind, shape)
        for kind in ("threads", "processes")
        for shape in (fan, chain)
    }
    for executor in (ThreadPoolExecutor, ProcessPoolExecutor):
        found[f"{executor.__name__}, fan"] = partial(theirs, partial(executor, WORKERS))
    try:
        from joblib.externals.loky import (  # type: ignore[import-untyped]
            get_reusable_executor,
        )
    except ImportError:
        return found
    kept = get_reusable_executor(WORKERS)
    return {**found, "loky, fan": lambda size: partial(submit, kept, size)}


def main(size: int) -> None:
    """Print one row for each, the best of several rounds that take turns."""
    times: dict[tuple[str, int], float] = {}
    compared = candidates()
    for _ in range(REPEATS):
        for name, make in compared.items():
            for count in (size // 10, size):
                taken = seconds(make(count))
                times[name, count] = min(taken, times.get((name, count), taken))
    print(f"{size} nodes, {WORKERS} workers, best of {REPEATS}")
    print(f"{'':28}{'run':>12}{'a node':>14}")
    for name in compared:
        whole, part = times[name, size], times[name, size // 10]
        node = (whole - part) / (size - size // 10)
        print(f"{name:28}{whole * 1e3:>9.1f} ms{node * 1e3:>11.3f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
