"""Collect the targets' transitive dependencies and validate explicit node names."""

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
    """The targets' nodes, each after its dependencies, with their reference counts."""

    nodes: Sequence[Node[Any]]  # in the order of the calls
    targets: Sequence[Item]
    uses: Mapping[Node[Any], int]  # how often nodes and targets refer to the outcome of each
    instance_uses: Mapping[Node[Any], int]  # of these, how often to its instance
    names: Mapping[Node[Any], str]  # those that were set until now


def collect(targets: Iterable[Any]) -> CollectedGraph:
    """Collect the targets and all their dependencies.

    Args:
        targets: Nodes, items of nodes, or instances of decorated classes.

    Raises:
        NotANodeError: A target is something else, or there are no targets.
        DuplicateNameError: Two different nodes were given the same name.
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
    message = f"a workflow takes the nodes to compute, not {target!r}"
    if isinstance(target, list | tuple):
        message += "; pass several nodes as separate arguments: Workflow(*nodes)"
    raise NotANodeError(message)


def _count_uses(wanted: Iterable[Item]) -> tuple[dict[Node[Any], int], Counter[Node[Any]]]:
    """Count the references to each node's outcome and instance; without recursion, since graphs are deep."""
    uses: dict[Node[Any], int] = {}
    waiting: list[Node[Any]] = []
    instances: list[Node[Any]] = []
    others: list[Any] = []  # arguments of one node that are neither nodes nor atoms
    _scan(wanted, waiting, instances, set())
    while waiting:
        node = waiting.pop()
        if node in uses:
            uses[node] += 1
            continue
        uses[node] = 1
        values = (*node.args, *node.kwargs.values()) if node.kwargs else node.args
        for value in values:  # as in `_scan`, without a call for each node
            kind = type(value)
            if kind is Node:
                waiting.append(value)
            elif kind not in ATOMS:
                others.append(value)
        if others:
            _scan(others, waiting, instances, set())
            others.clear()
        if node.state is not None:
            waiting.append(node.state)
            instances.append(node.state)
    return uses, Counter(instances)


def _scan(
    values: Iterable[Any], found: list[Node[Any]], instances: list[Node[Any]], seen: set[int]
) -> None:
    """Find the nodes among the arguments of one node; a container that occurs twice counts once."""
    for value in values:
        kind = type(value)
        if kind is Node:
            found.append(value)
        elif kind is Item:
            found.append(value.node)
            if value.slot == "state":
                instances.append(value.node)
        elif kind is Container and id(value) not in seen:
            seen.add(id(value))
            _scan(value.parts, found, instances, seen)


def _check(names: Mapping[Node[Any], str]) -> None:
    """Raise if two nodes were given the same name."""
    first: dict[str, Node[Any]] = {}
    for node, name in names.items():
        if first.setdefault(name, node) is not node:
            raise duplicate_name(name, node, first[name])


def duplicate_name(name: str, *nodes: Node[Any]) -> DuplicateNameError:
    """Return the error of two nodes with the same name."""
    first, second = sorted(nodes, key=attrgetter("serial"))
    message = (
        f"two different nodes are called {name!r}: {first.location} and {second.location}. "
        "Results are stored under these names: call set_name() on one of them"
    )
    return DuplicateNameError(message)
