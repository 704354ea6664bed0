"""Which nodes are so cheap that an engine spends more on them than they take, and can run together at no loss."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from functionfuse._graph.graph import Graph

__all__ = ["fuse_cheap"]

#: A group lasts at most this many times as long as the dearest node in it may: small enough to spread over workers.
_LONGEST: Final = 5
#: What a node costs at least, in seconds: its line in the log and its row on the page.
_LEAST: Final = 0.0002


# ---- how long nodes take ----


# ---- which of them run together ----


@dataclass(slots=True)
class _Piece:
    """Steps that run as one; at first each by itself."""

    numbers: list[int]
    seconds: float
    kind: Hashable  # None: it stays as it is


def fuse_cheap(
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
    pieces, count = _pieces(graph, seconds, kinds, threshold), 0
    while len(pieces) != count:
        count = len(pieces)
        for labels in (_chains, _siblings):
            pieces = _packed(labels(graph, pieces), _LONGEST * threshold)
    groups = [piece.numbers for piece in pieces if piece.kind is not None]
    names = [
        tuple(graph.order[number].name for number in sorted(group))
        for group in groups
        if len(group) > 1
    ]
    return graph.with_groups((*graph.groups, *names))


def _pieces(
    graph: Graph, seconds: Mapping[str, float], kinds: Mapping[str, Hashable], threshold: float
) -> list[_Piece]:
    grouped = {name for group in graph.groups for name in group}
    fixed = [[graph.steps[name].number for name in group] for group in graph.groups]
    pieces = [_Piece(group, 0, None) for group in fixed]
    for step in graph.order:
        if step.name not in grouped:
            taken = seconds.get(step.name, threshold)
            kind = (kinds.get(step.name),) if taken < threshold else None
            pieces.append(_Piece([step.number], max(taken, _LEAST), kind))
    return pieces


def _packed(labelled: Iterable[tuple[_Piece, Hashable]], longest: float) -> list[_Piece]:
    """Put pieces with the same label together, in this order, as long as they do not get too long."""
    packed: list[_Piece] = []
    open_pieces: dict[Hashable, _Piece] = {}
    for piece, label in labelled:
        last = open_pieces.get(label)
        if last is not None and last.seconds + piece.seconds <= longest:
            last.numbers += piece.numbers
            last.seconds += piece.seconds
        else:
            packed.append(piece)
            if piece.kind is not None:
                open_pieces[label] = piece
    return packed


def _chains(graph: Graph, pieces: list[_Piece]) -> Iterator[tuple[_Piece, Hashable]]:
    """Pieces, parents first, with the first piece of their chain as a label."""
    parents = _parents(graph, pieces)
    children: list[int] = [0] * len(pieces)
    for those in parents:
        for parent in those:
            children[parent] += 1
    heads = list(range(len(pieces)))
    for index in _parents_first(parents):
        if len(parents[index]) == 1:
            (parent,) = parents[index]
            if children[parent] == 1 and pieces[parent].kind == pieces[index].kind:
                heads[index] = heads[parent]
        yield pieces[index], heads[index]


def _siblings(graph: Graph, pieces: list[_Piece]) -> Iterator[tuple[_Piece, Hashable]]:
    """Pieces, in graph order, with what makes them siblings as a label.

    Those at the same depth never wait for each other, so that no two groups can.
    """
    parents = _parents(graph, pieces)
    depths = [0] * len(pieces)
    awaited = [0] * len(pieces)  # bit by bit: the pieces that are not cheap and that it waits for
    for index in _parents_first(parents):
        for parent in parents[index]:
            depths[index] = max(depths[index], depths[parent] + 1)
            awaited[index] |= 1 << parent if pieces[parent].kind is None else awaited[parent]
    for index in sorted(range(len(pieces)), key=lambda index: pieces[index].numbers[0]):
        yield pieces[index], (depths[index], awaited[index], pieces[index].kind)


def _parents(graph: Graph, pieces: list[_Piece]) -> list[set[int]]:
    owners = {number: index for index, piece in enumerate(pieces) for number in piece.numbers}
    return [
        {owners[parent] for number in piece.numbers for parent in graph.order[number].parents}
        - {index}
        for index, piece in enumerate(pieces)
    ]


def _parents_first(parents: list[set[int]]) -> Iterable[int]:
    return TopologicalSorter(dict(enumerate(parents))).static_order()
