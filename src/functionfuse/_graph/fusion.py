"""Which nodes are so cheap that an engine spends more on them than they take, and can run together at no loss."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from functionfuse._graph.graph import Graph

__all__ = ["fuse_short_nodes"]

#: A group lasts at most this many times as long as the dearest node in it may: small enough to spread over workers.
_MAX_GROUP_SIZE: Final = 5
#: What a node costs at least, in seconds: its line in the log and its row on the page.
_MIN_SECONDS: Final = 0.0002


# ---- how long nodes take ----


# ---- which of them run together ----


@dataclass(slots=True)
class _Group:
    """Steps that run as one; at first each by itself."""

    numbers: list[int]
    seconds: float
    kind: Hashable  # None: it stays as it is


def fuse_short_nodes(
    graph: Graph, seconds: Mapping[str, float], kinds: Mapping[str, Hashable], threshold: float
) -> Graph:
    """The same graph with cheap steps to be run together where that takes no parallel work away.

    First chains, in which each step is the only one that takes the other's result;
    then siblings, which become ready at the same time since they wait for the same steps that are not cheap;
    and so on with what that gives: layers of siblings are a chain again.
    Groups that the graph has stay.

    Args:
        graph: The graph.
        seconds: How long steps take; those that are not in it stay by themselves.
        kinds: What must be the same within a group.
        threshold: The seconds from which on a step is not cheap.
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
    """Put pieces with the same label together, in this order, as long as they do not get too long."""
    packed: list[_Group] = []
    open_pieces: dict[Hashable, _Group] = {}
    for group, label in labelled:
        last = open_pieces.get(label)
        if last is not None and last.seconds + group.seconds <= longest:
            last.numbers += group.numbers
            last.seconds += group.seconds
        else:
            packed.append(group)
            if group.kind is not None:
                open_pieces[label] = group
    return packed


def _chains(graph: Graph, groups: list[_Group]) -> Iterator[tuple[_Group, Hashable]]:
    """Pieces, parents first, with the first piece of their chain as a label."""
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
    """Pieces, in graph order, with what makes them siblings as a label.

    Those at the same depth never wait for each other, so that no two groups can.
    """
    parents = _parents(graph, groups)
    depths = [0] * len(groups)
    awaited = [0] * len(groups)  # bit by bit: the pieces that are not cheap and that it waits for
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
