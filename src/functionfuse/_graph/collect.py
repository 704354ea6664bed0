"""What some targets need, found and checked: nodes as they were written, before they have numbers and names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from functionfuse._common.gc import gc_paused
from functionfuse._graph.instances import Instance
from functionfuse._graph.nodes import ATOMS, Container, Item, Node
from functionfuse.errors import DuplicateNameError, NotANodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["CollectedGraph", "collect", "duplicate_name"]


@dataclass(frozen=True, slots=True, eq=False)
class CollectedGraph:
    """Nodes, each after all that it needs itself, and what is taken of them."""

    nodes: Sequence[Node[Any]]  # in the order of writing
    targets: Sequence[Item]
    uses: Mapping[Node[Any], int]  # how often the outcome of each is taken, by nodes and as targets
    instance_uses: Mapping[Node[Any], int]  # of these, how often the instance that it leaves
    names: Mapping[Node[Any], str]  # those that were given until now


def collect(targets: Iterable[Any]) -> CollectedGraph:
    """Everything that the targets need.

    Args:
        targets: Nodes, items of nodes, or instances of decorated classes.

    Raises:
        NotANodeError: A target is something else, or there is none.
        DuplicateNameError: Two different nodes were given one name.
    """
    wanted = tuple([_target(target) for target in targets])
    if not wanted:
        message = "a workflow needs at least one node to compute"
        raise NotANodeError(message)
    with gc_paused():
        uses, instance_uses = _count_uses(wanted)
        nodes = sorted(uses, key=attrgetter("serial"))
    names = {node: node.name for node in nodes if node.name is not None}
    _check(names)
    return CollectedGraph(nodes, wanted, uses, instance_uses, names)


def _target(target: Any) -> Item:
    if isinstance(target, Instance):
        return target._current()
    if isinstance(target, Node):
        return Item(target, ())
    if isinstance(target, Item):
        return target
    message = f"a workflow takes the nodes that it shall compute, not {target!r}"
    if isinstance(target, list | tuple):
        message += "; to give several, write them as separate arguments: Workflow(*nodes)"
    raise NotANodeError(message)


def _count_uses(wanted: Iterable[Item]) -> tuple[dict[Node[Any], int], Counter[Node[Any]]]:
    """How often each node's outcome is taken, and its instance; without recursion, graphs are deep."""
    uses: dict[Node[Any], int] = {}
    waiting: list[Node[Any]] = []
    instances: list[Node[Any]] = []
    _scan(wanted, waiting, instances)
    while waiting:
        node = waiting.pop()
        if node in uses:
            uses[node] += 1
            continue
        uses[node] = 1
        for value in node.args:  # what `_scan` does, without a call for each node
            kind = type(value)
            if kind is Node:
                waiting.append(value)
            elif kind not in ATOMS:
                _scan((value,), waiting, instances)
        if node.kwargs:
            _scan(node.kwargs.values(), waiting, instances)
        if node.state is not None:
            waiting.append(node.state)
            instances.append(node.state)
    return uses, Counter(instances)


def _scan(values: Iterable[Any], found: list[Node[Any]], instances: list[Node[Any]]) -> None:
    for value in values:
        kind = type(value)
        if kind is Node:
            found.append(value)
        elif kind is Item:
            found.append(value.node)
            if value.slot == "state":
                instances.append(value.node)
        elif kind is Container:
            _scan(value.parts, found, instances)


def _check(names: Mapping[Node[Any], str]) -> None:
    """Refuse a name that two nodes were given."""
    first: dict[str, Node[Any]] = {}
    for node, name in names.items():
        if first.setdefault(name, node) is not node:
            raise duplicate_name(name, node, first[name])


def duplicate_name(name: str, *nodes: Node[Any]) -> DuplicateNameError:
    """What is wrong when two nodes have one name."""
    first, second = sorted(nodes, key=attrgetter("serial"))
    message = (
        f"two different nodes are called {name!r}: {first.location} and {second.location}. "
        "Results are stored under these names: call set_name() on one of them"
    )
    return DuplicateNameError(message)
