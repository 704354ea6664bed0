"""Build and run trivial nodes in this process; a plain call of the same function beside it.

Run it with `python benchmarks/local.py [nodes]`.
"""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5


def add(a: int, b: int) -> int:
    """Do next to nothing."""
    return a + b


def last(items: list[Any]) -> Any:
    """Take the last of many."""
    return items[-1]


def chain(add: Callable[..., Any], _: Callable[..., Any], size: int) -> Any:
    """Each node takes the one before it."""
    value = add(0, 1)
    for _index in range(size - 1):
        value = add(value, 1)
    return value


def fan(add: Callable[..., Any], last: Callable[..., Any], size: int) -> Any:
    """Independent nodes into one."""
    return last([add(index, 1) for index in range(size - 1)])


def star(add: Callable[..., Any], last: Callable[..., Any], size: int) -> Any:
    """One source, many readers, one collector."""
    source = add(0, 1)
    return last([add(source, index) for index in range(size - 2)])


def build_and_run(make: Callable[[], Any]) -> object:
    """Make the nodes, then the graph, then run it."""
    return LocalWorkflow(make(), workflow_name="bench").run()


def seconds(work: Callable[[], object]) -> float:
    """The median time of a piece of work."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(size: int) -> None:
    """Print one row a shape."""
    lazy_add, lazy_last = workflow(add), workflow(last)
    print(f"{size} nodes, median of {REPEATS}")
    print(f"{'shape':8}{'build + run':>14}{'a node':>12}{'plain calls':>14}")
    for shape in (chain, fan, star):
        ours = seconds(partial(build_and_run, partial(shape, lazy_add, lazy_last, size)))
        plain = seconds(partial(shape, add, last, size))
        print(f"{shape.__name__:8}{ours:>12.3f} s{ours / size * 1e6:>9.2f} us{plain:>12.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
