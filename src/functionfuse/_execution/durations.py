"""Estimate the durations of nodes from the last run and from stored results."""

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


#: The number of stored results of one function whose durations are looked up.
_SAMPLE: Final = 10


def expected_seconds(
    graph: Graph, durations: Mapping[str, float], results: Results | None
) -> dict[str, float]:
    """Estimate how long nodes take, as far as something is known of their functions.

    The estimate of a node is its duration in the last run.
    A node that did not run gets the average of the other nodes of its function,
    in the last run or by the headers of their stored results.
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
    """Read the durations of a sample of stored results, for functions that did not run."""
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
