"""Automatic task groups: fuse short nodes where that keeps the graph's parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from functionfuse._graph.graph import Graph

__all__ = ["fuse_short_nodes"]

#: The longest duration of a group, in thresholds of a short node: small enough to spread over workers.
_MAX_GROUP_SIZE: Final = 5
#: The least cost of a node in seconds: its line in the log and its row on the page.
_MIN_SECONDS: Final = 0.0002


@dataclass(slots=True)
class _Group:
    """Nodes of one unit; at first each node is a group."""

    numbers: list[int]
    seconds: float
    kind: Hashable  # None: the group is not merged


def fuse_short_nodes(
    graph: Graph, seconds: Mapping[str, float], kinds: Mapping[str, Hashable], threshold: float
) -> Graph:
    """Return the graph with short nodes in task groups.

    First chains are merged, in which each node is the only dependent of the one before;
    then siblings, which become ready at the same time since they wait for the same long nodes;
    and again, since layers of siblings may now be a chain.
    Existing groups stay.

    Args:
        graph: The graph.
        seconds: The durations of nodes; a node without one is not fused.
        kinds: A key of each node; only nodes with equal keys are fused.
        threshold: The seconds below which a node is short.
    """
    groups, count = _initial_groups(graph, seconds, kinds, threshold), 0
    while len(groups) != count:
        count = len(groups)
        for labels in (_chains, _siblings):
            groups = _merged(labels(graph, groups), _MAX_GROUP_SIZE * threshold)
    numbers = [group.numbers for group in groups if group.kind is not None]
    names = [
        tuple(graph.order[number].name for number in sorted(members))
        for members in numbers
        if len(members) > 1
    ]
    return graph.with_groups((*graph.groups, *names))


def _initial_groups(
    graph: Graph, seconds: Mapping[str, float], kinds: Mapping[str, Hashable], threshold: float
) -> list[_Group]:
    grouped = {name for group in graph.groups for name in group}
    fixed = [[graph.nodes[name].number for name in group] for group in graph.groups]
    groups = [_Group(group, 0, None) for group in fixed]
    for node in graph.order:
        if node.name not in grouped:
            expected = seconds.get(node.name, threshold)
            kind = (kinds.get(node.name),) if expected < threshold else None
            groups.append(_Group([node.number], max(expected, _MIN_SECONDS), kind))
    return groups


def _merged(labelled: Iterable[tuple[_Group, Hashable]], longest: float) -> list[_Group]:
    """Merge groups with the same label, in this order, up to a duration."""
    packed: list[_Group] = []
    unfilled: dict[Hashable, _Group] = {}
    for group, label in labelled:
        last = unfilled.get(label)
        if last is not None and last.seconds + group.seconds <= longest:
            last.numbers += group.numbers
            last.seconds += group.seconds
        else:
            packed.append(group)
            if group.kind is not None:
                unfilled[label] = group
    return packed


def _chains(graph: Graph, groups: list[_Group]) -> Iterator[tuple[_Group, Hashable]]:
    """Groups, parents first, each labelled with the first group of its chain."""
    parents = _parents(graph, groups)
    children: list[int] = [0] * len(groups)
    for those in parents:
        for parent in those:
            children[parent] += 1
    heads = list(range(len(groups)))
    for index in _topological_order(parents):
        if len(parents[index]) == 1:
            (parent,) = parents[index]
            if children[parent] == 1 and groups[parent].kind == groups[index].kind:
                heads[index] = heads[parent]
        yield groups[index], heads[index]


def _siblings(graph: Graph, groups: list[_Group]) -> Iterator[tuple[_Group, Hashable]]:
    """Groups, in graph order, labelled so that siblings have the same label.

    Groups of one depth never wait for each other, so their merged groups do not either.
    """
    parents = _parents(graph, groups)
    depths = [0] * len(groups)
    awaited = [0] * len(groups)  # as bits: the long nodes for which each group waits
    for index in _topological_order(parents):
        for parent in parents[index]:
            depths[index] = max(depths[index], depths[parent] + 1)
            awaited[index] |= 1 << parent if groups[parent].kind is None else awaited[parent]
    for index in sorted(range(len(groups)), key=lambda index: groups[index].numbers[0]):
        yield groups[index], (depths[index], awaited[index], groups[index].kind)


def _parents(graph: Graph, groups: list[_Group]) -> list[set[int]]:
    owners = {number: index for index, group in enumerate(groups) for number in group.numbers}
    return [
        {owners[parent] for number in group.numbers for parent in graph.order[number].parents}
        - {index}
        for index, group in enumerate(groups)
    ]


def _topological_order(parents: list[set[int]]) -> Iterable[int]:
    return TopologicalSorter(dict(enumerate(parents))).static_order()
