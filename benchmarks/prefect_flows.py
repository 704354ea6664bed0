"""Flows as a Prefect user writes them beside the same graphs on PrefectWorkflow.

Run it with `python benchmarks/prefect_flows.py [nodes [repeats]]`; it takes some twenty minutes.
It starts a server of its own on the loopback interface, and runs the ways in turn.
`server` is one that was started before: the flow alone is measured, and what the server uses until it has dealt with it.
`temporary` is none, so each way starts its own: a whole process is measured, with all imports.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MILLION: Final = 1_000_000
QUIET: Final = 0.05  # seconds of a half that a server may use when it has nothing to do
WAYS: Final = ("by hand", "ours", "fused")


# ---- the graphs ----


def add(a: Any, b: Any = 0, c: Any = 0) -> Any:
    """Do next to nothing."""
    return a + b + c


def numbers(values: list[int]) -> list[int]:
    """Take and give many numbers."""
    return values


def total(values: list[Any]) -> int:
    """Count."""
    return len(values)


def chain(add: Callable[..., Any], _: Callable[..., Any], size: int) -> Any:
    """Each node takes the one before it."""
    value = add(0, 1)
    for _index in range(size - 1):
        value = add(value, 1)
    return value


def fan(add: Callable[..., Any], total: Callable[..., Any], size: int) -> Any:
    """Independent nodes into one."""
    return total([add(index, 1) for index in range(size - 1)])


def grid(add: Callable[..., Any], total: Callable[..., Any], size: int) -> Any:
    """Ten columns; each node takes two of the row above."""
    row = [add(index) for index in range(10)]
    for _index in range(size // 10 - 1):
        row = [add(value, row[index - 1]) for index, value in enumerate(row)]
    return total(row)


def three(add: Callable[..., Any], _: Callable[..., Any], __: int) -> Any:
    """A flow of three nodes."""
    return add(add(0, 1), add(1, 1))


def million(numbers: Callable[..., Any], total: Callable[..., Any], _: int) -> Any:
    """A long list as an argument and as a result."""
    return total(numbers(list(range(MILLION))))


SHAPES: Final[dict[str, tuple[Any, Callable[..., Any]]]] = {
    "chain": (chain, add),
    "fan": (fan, add),
    "grid": (grid, add),
    "three": (three, add),
    "million": (million, numbers),
}


# ---- the ways ----


def by_hand(shape: str, size: int) -> Callable[[], object]:
    """A flow with tasks, futures as arguments, and the last result awaited."""
    from prefect import flow, task

    build, function = SHAPES[shape]
    submit, count = task(function).submit, task(total).submit

    @flow(name=f"{shape} by hand")
    def body() -> Any:
        return build(submit, count, size).result()

    return cast("Callable[[], object]", body)


def ours(shape: str, size: int, *, fused: bool = False) -> Callable[[], object]:
    """The same calls as a workflow."""
    from functionfuse import workflow
    from functionfuse.backends.addons.prefectback import PrefectWorkflow

    build, function = SHAPES[shape]
    lazy, count = workflow(function), workflow(total)

    def body() -> Any:
        made: Any = PrefectWorkflow(build(lazy, count, size), workflow_name=f"{shape} ours")
        if fused:
            made.query().fuse()
        return made.run()

    return body


MAKERS: Final[dict[str, Callable[[str, int], Callable[[], object]]]] = {
    "by hand": by_hand,
    "ours": ours,
    "fused": partial(ours, fused=True),
}


# ---- measuring ----


def cpu_seconds(process: int) -> float:
    """What a process has used so far."""
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settled(process: int) -> float:
    """A server's seconds, once it has dealt with what was sent to it."""
    used, before = cpu_seconds(process), -1.0
    while used - before > QUIET:
        before = used
        time.sleep(0.5)
        used = cpu_seconds(process)
    return used


@contextmanager
def server(home: str) -> Iterator[tuple[str, int]]:
    """A started server: its address and its process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = os.environ | {"PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    started = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        while not _is_up(url):
            assert started.poll() is None
            time.sleep(0.2)
        yield url, started.pid
    finally:
        started.terminate()
        started.wait()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
            return True
    except OSError:
        return False


def client(home: str, url: str, **variables: str) -> dict[str, str]:
    """The environment of a process that runs flows."""
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": home, "PREFECT_LOGGING_LEVEL": "ERROR", **variables}
    return environment | ({"PREFECT_API_URL": url} if url else {})


def with_server(shape: str, size: int, repeats: int, process: int) -> None:
    """Measure the ways in turn, in this process; says what it found as JSON."""
    ways = [way for way in WAYS if way != "fused" or _can_fuse()]
    bodies = {way: MAKERS[way](shape, size) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    MAKERS["ours"]("three", size)()  # the first flow of a process loads modules
    for _ in range(repeats):
        for way, body in bodies.items():
            before, start = settled(process), time.perf_counter()
            body()
            seconds[way].append(time.perf_counter() - start)
            cpu[way].append(settled(process) - before)
    found = {way: [statistics.median(seconds[way]), statistics.median(cpu[way])] for way in ways}
    print(json.dumps(found))


def _can_fuse() -> bool:
    from functionfuse.backends.addons.prefectback import PrefectQuery

    return hasattr(PrefectQuery, "fuse")


def without_server(way: str, shape: str, size: int) -> None:
    """Run one flow, in this process, with the server that it starts itself."""
    body = MAKERS[way](shape, size)
    body()


def measured(arguments: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Run this file with arguments: the seconds until its end, and what it prints."""
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, done.stdout


def row(where: str, shape: str, found: dict[str, list[float]]) -> str:
    """A line of the table: seconds, server's CPU seconds and ratios."""
    hand = found["by hand"]
    cells = [f"{where:10}{shape:9}"]
    for way in WAYS:
        wall, cpu = (*found[way], None)[:2] if way in found else (None, None)
        cells.append(f"{_shown(wall)}{_shown(cpu)}{_ratio(wall, hand[0], way)}")
    return "".join(cells)


def _shown(seconds: float | None) -> str:
    return f"{'-' if seconds is None else f'{seconds:.2f}':>8}"


def _ratio(wall: float | None, hand: float, way: str) -> str:
    if way == "by hand":
        return ""
    return f"{'-' if wall is None else f'{wall / hand:.3f}':>8}"


def main(size: int, repeats: int) -> None:
    """Print one row a shape and kind of server."""
    print(f"{size} nodes, seconds, median of {repeats}; cpu: the server's; x: by hand is 1")
    print(
        f"{'':19}{'by hand':>8}{'cpu':>8}{'ours':>8}{'cpu':>8}{'x':>8}{'fused':>8}{'cpu':>8}{'x':>8}"
    )
    with tempfile.TemporaryDirectory() as home, server(home) as (url, process):
        for shape in SHAPES:
            _, printed = measured(
                ["server", shape, str(size), str(repeats), str(process)], client(home, url)
            )
            print(row("server", shape, json.loads(printed.splitlines()[-1])), flush=True)
    with tempfile.TemporaryDirectory() as home:
        environment = client(home, "")
        measured(["temporary", "ours", "three", "3"], environment)  # makes the database
        for shape in ("chain", "fan", "grid", "three"):
            times: dict[str, list[float]] = {"by hand": [], "ours": []}
            for _ in range(repeats):
                for way, found in times.items():
                    seconds, _ = measured(["temporary", way, shape, str(size)], environment)
                    found.append(seconds)
            medians = {way: [statistics.median(found)] for way, found in times.items()}
            print(row("temporary", shape, medians), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", shape, size, repeats, process]:
            with_server(shape, int(size), int(repeats), int(process))
        case ["temporary", way, shape, size]:
            without_server(way, shape, int(size))
        case [*numbers_given]:
            nodes, times = [*map(int, numbers_given), *(200, 5)[len(numbers_given) :]]
            main(nodes, times)
