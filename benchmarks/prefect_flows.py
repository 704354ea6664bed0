"""Flows as a Prefect user writes them beside the same graphs on PrefectWorkflow.

A server is started on the loopback interface: the flow alone is measured, and what the server uses until it has dealt with it.
With `--long` also other shapes, a large fused graph by hand, and flows without a server, so that each way starts its own:
there a whole process is measured, with all imports.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from measuring import OURS, Options, Row, Target, available, in_child, in_turns, main
from prefect_server import child, client, environment_of, running_server, settled
from shapes import add, chain, fan, grid, last

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefect_server import Server
    from shapes import Shape, Wrap

SIZE: Final = 200
CHEAP: Final = 10_000
MILLISECOND: Final = 0.001
MILLION: Final = 1_000_000
BY_HAND: Final = "by hand"
FUSED: Final = "fused"
MILLI: Final = 1e3


# ---- the graphs ----


def numbers(values: list[int]) -> list[int]:
    """Take and give many numbers."""
    return values


def nap(number: int) -> int:
    """Work for a millisecond."""
    time.sleep(MILLISECOND)
    return number


def three(wrap: Wrap, _: int) -> Any:
    """A flow of three nodes."""
    call = wrap(add)
    return call(call(0, 1), call(1, 1))


def million(wrap: Wrap, _: int) -> Any:
    """A long list as an argument and as a result."""
    return wrap(last)(wrap(numbers)(list(range(MILLION))))


def naps(wrap: Wrap, size: int) -> Any:
    """Independent nodes of a millisecond into one."""
    call = wrap(nap)
    return wrap(last)([call(number) for number in range(size - 1)])


SHAPES: Final[dict[str, Shape]] = {
    "chain": chain,
    "fan": fan,
    "three": three,
    "grid": grid,
    "list of 1,000,000": million,
    "naps": naps,
}
QUICK: Final = ("chain", "fan", "three")
LONG: Final = ("grid", "list of 1,000,000")
TEMPORARY: Final = ("chain", "fan", "three")
SIZED: Final = ("chain", "fan", "grid", "naps")
#: Compared with a plain flow.
TARGETS: Final = {
    "chain": Target(0.5, BY_HAND, "ratio"),
    "fan": Target(1.0, BY_HAND, "ratio"),
    "three": Target(-0.9, BY_HAND, "more"),
}


# ---- the ways ----


def by_hand(shape: str, size: int) -> Callable[[], object]:
    """A flow with tasks, futures as arguments, and the last result awaited."""
    from prefect import flow, task

    def submitted(function: Any) -> Callable[..., Any]:
        return cast("Callable[..., Any]", task(function).submit)

    @flow(name=f"{shape} by hand")
    def body() -> Any:
        return SHAPES[shape](submitted, size).result()

    return cast("Callable[[], object]", body)


def ours(shape: str, size: int, *, fused: bool = False) -> Callable[[], object]:
    """The same calls as a workflow."""
    from functionfuse.backends.addons.prefectback import PrefectWorkflow

    def body() -> Any:
        made = PrefectWorkflow(SHAPES[shape](workflow, size), workflow_name=f"{shape} ours")
        if fused:
            made.query().fuse()
        return made.run()

    return body


MAKERS: Final[dict[str, Callable[[str, int], Callable[[], object]]]] = {
    OURS: ours,
    BY_HAND: by_hand,
    FUSED: partial(ours, fused=True),
}


# ---- in a process that runs flows ----


def flows(
    ways: Sequence[str], shape: str, size: int, repeats: int, server: int | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Let ways take turns in this process: seconds, and those of the server's processor; without one, of this process's."""
    MAKERS[OURS if server else ways[0]](
        "three", size
    )()  # the first flow of a process loads modules
    server = server or child()

    def seconds_of(body: Callable[[], object]) -> tuple[float, float]:
        before, start = settled(server), time.perf_counter()
        body()
        taken = time.perf_counter() - start
        return taken, settled(server) - before

    bodies = {way: partial(seconds_of, MAKERS[way](shape, size)) for way in ways}
    return in_turns(bodies, repeats, warm=False)


# ---- rows ----


def on_server(
    server: Server, ways: Sequence[str], shape: str, size: int, repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """What each way takes with a started server."""
    given = "server", ",".join(ways), shape, size, repeats, server.process
    _, found = in_child(__file__, *given, environment=environment_of(server))
    return cast("dict[str, list[tuple[float, float]]]", found)


def compared(server: Server, shape: str, options: Options) -> Iterator[Row]:
    """Seconds of each way, and what the server uses for a task run."""
    size = options.size(SIZE)
    found = on_server(server, tuple(MAKERS), shape, size, options.repeats)
    seconds = {way: [wall for wall, _ in pairs] for way, pairs in found.items()}
    name = what(shape, size)
    beside = {way: seconds[way] for way in (OURS, BY_HAND)}
    yield Row.of("prefect", name, "s", beside, TARGETS.get(shape))
    if shape not in SIZED:
        return
    cpu = {way: [used * MILLI / size for _, used in found[way]] for way in (OURS, BY_HAND)}
    target = Target(0.5, BY_HAND, "ratio")
    yield Row.of("prefect", f"{name}, server's processor", "ms/node", cpu, target)
    beside = {way: seconds[way] for way in (FUSED, BY_HAND)}
    target = Target(0.05, BY_HAND, "ratio")
    yield Row.of("prefect", f"{name}, fused", "s", beside, target, FUSED)


def what(shape: str, size: int) -> str:
    """The name of a row."""
    return f"{shape} of {size:,}" if shape in SIZED else shape


def cheap(server: Server, options: Options) -> Row:
    """Many nodes of a millisecond, fused; by hand once, if there is time."""
    size = options.size(CHEAP)
    found = on_server(server, [FUSED], "naps", size, options.repeats)
    if options.long:
        found |= on_server(server, [BY_HAND], "naps", size, 1)
    taken = {way: [wall for wall, _ in pairs] for way, pairs in found.items()}
    return Row.of("prefect", f"{size:,} of 1 ms, fused", "s", taken, Target(30), FUSED)


def temporary_processor(shape: str, options: Options) -> Row:
    """What the server that each way starts itself uses for a task run."""
    size = options.size(SIZE)
    taken = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        for way in (OURS, BY_HAND):
            given = "processor", way, shape, size, options.repeats
            _, found = in_child(__file__, *given, environment=client(home))
            taken[way] = [used * MILLI / size for _, used in found[way]]
    name = f"{what(shape, size)}, no server, its processor"
    return Row.of("prefect", name, "ms/node", taken, Target(0.5, BY_HAND, "ratio"))


def without_server(shape: str, options: Options) -> Row:
    """Whole processes, each with the server that it starts itself."""
    size = options.size(SIZE)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:

        def process(way: str) -> float:
            return in_child(__file__, "temporary", way, shape, size, environment=client(home))[0]

        ways = {way: partial(process, way) for way in (OURS, BY_HAND)}
        taken = in_turns(ways, options.repeats)  # the first makes the database
    return Row.of("prefect", f"{what(shape, size)}, no server", "s", taken, TARGETS[shape])


def measure(options: Options) -> Iterator[Row]:
    """All rows."""
    if not available("prefect"):
        return
    with running_server() as server:
        for shape in QUICK + LONG * options.long:
            yield from compared(server, shape, options)
        yield cheap(server, options)
    for shape in SIZED[:2]:
        yield temporary_processor(shape, options)
    for shape in TEMPORARY * options.long:
        yield without_server(shape, options)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", ways, shape, size, repeats, server]:
            found = flows(ways.split(","), shape, int(size), int(repeats), int(server))
            print(json.dumps(found))
        case ["processor", way, shape, size, repeats]:
            print(json.dumps(flows([way], shape, int(size), int(repeats))))
        case ["temporary", way, shape, size]:
            MAKERS[way](shape, int(size))()
        case _:
            main(measure, __doc__)
