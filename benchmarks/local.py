"""Build and run trivial nodes in this process, beside plain calls and other libraries; microseconds a node."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from measuring import OURS, Options, Row, Target, checked, in_turns, main, timed
from peers import installed
from rich.console import Console
from shapes import SHAPES, unchanged

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.observers.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers import Peer

SIZES: Final = (1_000, 10_000, 100_000)
WATCHED: Final = 10_000
MICRO: Final = 1e6
MOST: Final = dict.fromkeys(SHAPES, 5.0) | {"grid": 8.0}  # microseconds
MOST_WATCHED: Final = 10.0  # microseconds more


def ours(shape: str, size: int) -> Callable[[], Any]:
    """Make the nodes, then the graph, then run it."""
    return lambda: LocalWorkflow(SHAPES[shape](workflow, size), workflow_name="bench").run()


def per_node(make: Callable[[str, int], Callable[[], Any]], shape: str, size: int) -> Any:
    """Something that says how many microseconds a node takes."""
    expected = SHAPES[shape](unchanged, size)
    return timed(checked(make(shape, size), expected), MICRO / size)


def beside(peers: list[Peer], shape: str, size: int, *, first: bool) -> dict[str, Any]:
    """Peers that do a shape; those that stop earlier take part in the first row, with what they can."""
    found = {}
    for peer in peers:
        fits = size <= peer.most
        if shape in peer.shapes and (fits or first):
            label = peer.name if fits else f"{peer.name} ({peer.most} nodes)"
            found[label] = per_node(peer.make, shape, min(size, peer.most))
    return found


def shapes(options: Options) -> Iterator[Row]:
    """Each shape in each size."""
    peers = installed()
    for full in SIZES:
        size, first = options.size(full), full == SIZES[0]
        for shape in SHAPES:
            contestants = {OURS: per_node(ours, shape, size)}
            contestants |= beside(peers, shape, size, first=first)
            taken = in_turns(contestants, options.repeats)
            cannot = {peer.name: None for peer in peers if first and shape not in peer.shapes}
            what, target = f"{shape} of {size:,}", Target(MOST[shape])
            yield Row.of("local", what, "us/node", {**taken, **cannot}, target)


def watched(shape: str, size: int) -> Callable[[], Any]:
    """A run with a bar, after which the report is asked for."""

    def run() -> Any:
        made = LocalWorkflow(SHAPES[shape](workflow, size), workflow_name="bench")
        made.add_observer(ProgressBar(Console(file=io.StringIO(), force_terminal=True)))
        found = made.run()
        assert made.report
        made.report.summary()
        return found

    return run


def watching(options: Options) -> Iterator[Row]:
    """What it costs to watch."""
    size = options.size(WATCHED)
    ways = {OURS: watched, "without": ours}
    contestants = {name: per_node(way, "chain", size) for name, way in ways.items()}
    taken = in_turns(contestants, options.repeats)
    what, target = f"chain of {size:,} with bar and report", Target(MOST_WATCHED, "without", "more")
    yield Row.of("local", what, "us/node", taken, target)


def measure(options: Options) -> Iterator[Row]:
    """All rows."""
    yield from shapes(options)
    yield from watching(options)


if __name__ == "__main__":
    main(measure, __doc__)
