"""A fan and a chain of trivial nodes on local workers; the executors of the standard library and loky beside them.

A run starts its workers and ends them; so does each executor here, but for loky's, which is kept.
"one more node" is the difference between a run of all nodes and a run of a tenth of them.
"""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from engines import BY_HAND, SHAPES, literals
from measuring import OURS, Options, Row, available, in_turns, main, timed
from shapes import calls

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engines import Shape

SIZE: Final = 1_000
WORKERS: Final = 2
MILLI: Final = 1e3
KINDS: Final[dict[str, Callable[[int], Executor]]] = {
    "threads": ThreadPoolExecutor,
    "processes": ProcessPoolExecutor,
}
EXECUTORS: Final = {"threads": "ThreadPoolExecutor", "processes": "ProcessPoolExecutor"}


def ours(kind: Any, shape: Shape, size: int) -> Any:
    """Run a graph."""
    nodes = shape(workflow, size)
    return LocalWorkflow(*nodes, workflow_name="bench", workers=WORKERS, kind=kind).run()


def theirs(make: Callable[[int], Executor], shape: Shape, size: int) -> list[Any]:
    """Submit independent calls to a new executor."""
    with make(WORKERS) as pool:
        return submitted(pool, shape, size)


def submitted(pool: Any, shape: Shape, size: int) -> list[Any]:
    """Submit independent calls, and wait for them."""
    futures = shape(lambda function: partial(pool.submit, function), size)
    return [future.result() for future in futures]


def contestants(kind: str, shape: str) -> dict[str, Callable[[int], object]]:
    """What is compared."""
    found: dict[str, Callable[[int], object]] = {OURS: partial(ours, kind, SHAPES[shape])}
    if shape == "chain":
        return found
    found[EXECUTORS[kind]] = partial(theirs, KINDS[kind], calls)
    if kind == "processes" and available("joblib"):
        from joblib.externals.loky import get_reusable_executor

        found["loky"] = partial(submitted, get_reusable_executor(WORKERS), calls)
    return found


def whole_and_part(work: Callable[[int], object], size: int) -> Callable[[], tuple[float, float]]:
    """Something that says the milliseconds of a run, and those of one more node."""
    part = size // 10

    def measure() -> tuple[float, float]:
        long, short = (timed(partial(work, count), MILLI)() for count in (size, part))
        return long, (long - short) / (size - part)

    return measure


def measure(options: Options) -> Iterator[Row]:
    """Two rows for each kind and shape."""
    size = options.size(SIZE)
    for kind in KINDS:
        for shape in SHAPES:
            ways = contestants(kind, shape)
            works = {name: whole_and_part(work, size) for name, work in ways.items()}
            pairs = in_turns(works, options.repeats)
            for number, (what, unit) in enumerate((("a run", "ms"), ("one more node", "ms/node"))):
                taken = {name: [pair[number] for pair in found] for name, found in pairs.items()}
                yield Row.of(kind, f"{shape} of {size:,}, {what}", unit, taken)
    executor = partial(theirs, ProcessPoolExecutor)
    yield literals("processes", {OURS: partial(ours, "processes"), BY_HAND: executor})


if __name__ == "__main__":
    main(measure, __doc__)
