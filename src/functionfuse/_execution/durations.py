"""Expected durations of nodes, by the last run and by stored results."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from functionfuse._graph.graph import Graph
    from functionfuse.storage.base import Results

__all__ = ["expected_seconds"]


#: Stored results of one function that are asked how long they took.
_SAMPLE: Final = 10


def expected_seconds(
    graph: Graph, durations: Mapping[str, float], results: Results | None
) -> dict[str, float]:
    """How long nodes will take, as far as that can be told.

    A node takes as long as in the last run.
    One that did not run takes as long as others of its function did on the average,
    in the last run or when their stored results were made.
    """
    known = {name: seconds for name, seconds in durations.items() if name in graph.nodes}
    timed = {graph.nodes[name].func for name in known}
    known |= _stored(graph, results, timed)
    by_function: defaultdict[Callable[..., object], list[float]] = defaultdict(list)
    for name, seconds in known.items():
        by_function[graph.nodes[name].func].append(seconds)
    means = {function: fmean(seconds) for function, seconds in by_function.items()}
    others = {node.name: means[node.func] for node in graph if node.func in means}
    return others | known


def _stored(
    graph: Graph, results: Results | None, timed: Iterable[Callable[..., object]]
) -> dict[str, float]:
    """What the headers of some stored results say, for functions of which nothing else is known."""
    if results is None:
        return {}
    names, known = results.names(), set(timed)
    stored: defaultdict[Callable[..., object], list[str]] = defaultdict(list)
    for node in graph:
        if node.func not in known and node.name in names:
            stored[node.func].append(node.name)
    sample = [name for group in stored.values() for name in _spread(group)]
    seconds = {name: results.seconds(name) for name in sample}
    return {name: value for name, value in seconds.items() if value is not None}


def _spread(names: list[str]) -> Iterator[str]:
    return islice(names, 0, None, -(-len(names) // _SAMPLE))
