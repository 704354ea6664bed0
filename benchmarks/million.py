"""Graphs of a million nodes in this process: the time of a node, and its memory at the peak.

Each run is a process of its own, in which a plain call of the same functions comes after.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from local import MICRO, MOST, ours
from measuring import OURS, Options, Row, Target, in_child, main
from shapes import SHAPES, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE: Final = 1_000_000
MOST_BYTES: Final = 600.0
PLAIN: Final = "plain calls"


def measure(options: Options) -> Iterator[Row]:
    """Two rows for each shape."""
    size = options.size(SIZE)
    for shape in SHAPES:
        runs = [in_child(__file__, "run", shape, size)[1] for _ in range(options.repeats)]
        taken = {name: [run[name] for run in runs] for name in (OURS, PLAIN)}
        what = f"{shape} of {size:,}"
        yield Row.of("million", what, "us/node", taken, Target(MOST[shape]))
        peak = {OURS: [run["bytes"] for run in runs]}
        yield Row.of("million", f"{what}, at the peak", "bytes/node", peak, Target(MOST_BYTES))


def run(shape: str, size: int) -> dict[str, float]:
    """Run a shape once, in this process."""
    work, before = ours(shape, size), memory("VmRSS")
    start = time.perf_counter()
    found = work()
    own = time.perf_counter() - start
    peak = memory("VmHWM") - before
    start = time.perf_counter()
    assert SHAPES[shape](unchanged, size) == found
    plain = time.perf_counter() - start
    return {OURS: own * MICRO / size, PLAIN: plain * MICRO / size, "bytes": peak / size}


def memory(kind: str) -> int:
    """The bytes that this process has now, or had at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", shape, size]:
            print(json.dumps(run(shape, int(size))))
        case _:
            main(measure, __doc__)
