"""Mutation watch: detect by digests that a node changed a result that several nodes take.

Only results whose digests are cheap, compared with the time of the nodes, are watched.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from functionfuse._common.user_warnings import warn_user
from functionfuse._graph.nodes import ATOMS, Container, Item, Node
from functionfuse._kernel.digests import digest_within
from functionfuse._kernel.units import InstanceResult
from functionfuse.errors import MutationWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from functionfuse._graph.graph import GraphNode

__all__ = ["MIN_SECONDS", "MutationWatch", "WatchedNode", "count_uses"]

K = TypeVar("K", bound=Hashable)
#: Results of nodes that take less time are not watched.
MIN_SECONDS: Final = 0.01
_BUDGET_SHARE: Final = 0.05  # of the time of the nodes, for digests


@dataclass(slots=True)
class _Watched(Generic[K]):
    """A result, its digest, and the nodes that may have changed it since."""

    value: Any
    digest: int
    cost: float  # seconds that one digest takes
    uses: int  # by nodes that have not ended
    budget: float  # seconds that digests may still take
    running: set[K] = field(default_factory=set)
    suspects: dict[K, None] = field(default_factory=dict)


class MutationWatch(Generic[K]):
    """The watched results of one run, by a key of their nodes; may be used from several threads."""

    def __init__(self, name_of: Callable[[K], str]) -> None:
        """Start without results; nodes are named in warnings only, since names cost more than short nodes."""
        self._name_of = name_of
        self._lock = Lock()
        self._messages: list[str] = []
        self.watched: dict[K, _Watched[K]] = {}

    def add(self, key: K, value: Any, seconds: float, uses: int) -> None:
        """Watch the result of a node, if two digests cost less than the share of its time.

        Args:
            key: The node.
            value: Its result.
            seconds: The time that it took.
            uses: How often the result is used.
        """
        if seconds < MIN_SECONDS or type(value) in ATOMS or type(value) is InstanceResult:
            return
        budget, start = seconds * _BUDGET_SHARE, time.perf_counter()
        digest = digest_within(value, budget / 2)
        cost = time.perf_counter() - start
        if digest is not None:
            # the budget includes a second digest, after the last use
            self.watched[key] = _Watched(value, digest, cost, uses, budget - 2 * cost)

    def begin(self, key: K, parents: Iterable[K]) -> None:
        """Register the start of a node that takes results of its parents."""
        for parent in parents:
            if watched := self.watched.get(parent):
                with self._lock:
                    watched.running.add(key)
                    watched.suspects[key] = None

    def end(self, key: K, parents: Mapping[K, int], seconds: float) -> None:
        """Register the end of a node; verify the results of its parents, with the number of uses of each."""
        for parent, uses in parents.items():
            if watched := self.watched.get(parent):
                with self._lock:
                    watched.running.discard(key)
                    watched.uses -= uses
                    watched.budget += seconds * _BUDGET_SHARE
                    if not watched.uses:
                        del self.watched[parent]
                    elif watched.budget < watched.cost:
                        continue
                    self._verify(parent, watched)

    def _verify(self, parent: K, watched: _Watched[K]) -> None:
        watched.budget -= watched.cost
        digest = digest_within(watched.value, float("inf"))
        if digest != watched.digest:
            names = " or ".join([repr(self._name_of(key)) for key in watched.suspects])
            self._messages.append(
                f"the value of node {self._name_of(parent)!r}, which is used several times, was changed in place "
                f"by node {names}: what the others get depends on the order in which they run. "
                "Change a copy; run(check_mutation=True) shows what is changed"
            )
            watched.digest = digest or 0
        watched.suspects = dict.fromkeys(watched.running)

    def close(self) -> None:
        """Verify the remaining results, and warn of changes, in the thread that called `run()`."""
        for key, watched in [*self.watched.items()]:
            if watched.suspects:
                self._verify(key, watched)
        self.watched.clear()
        messages, self._messages = self._messages, []
        run_failed = sys.exception() is not None
        for message in messages:
            try:
                warn_user(message, MutationWarning)
            except MutationWarning:  # an error by the filters of warnings
                if not run_failed:
                    raise


class WatchedNode(NamedTuple):
    """Calls a node under a watch."""

    watch: MutationWatch[int]
    uses: int  # of its result
    shared: Collection[int]  # the node and its parents, if several nodes take their results

    def call(
        self,
        compute: Callable[[GraphNode, Sequence[Any], Mapping[str, Any]], Any],
        node: GraphNode,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Compute a node."""
        watch, number = self.watch, node.number
        parents = dict.fromkeys([each for each in node.parents if each in self.shared], 1)
        watch.begin(number, parents)
        start = time.perf_counter()
        value = compute(node, args, kwargs)
        seconds = time.perf_counter() - start
        if parents:
            watch.end(number, parents, seconds)
        if number in self.shared:
            watch.add(number, value, seconds, self.uses)
        return value


def count_uses(node: Node[Any]) -> Counter[Node[Any]]:
    """Count how often a node takes the result of each parent."""
    found: list[Node[Any]] = [] if node.state is None else [node.state]
    waiting = [*node.args, *node.kwargs.values()]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is Node:
            found.append(value)
        elif kind is Item:
            found.append(value.node)
        elif kind is Container:
            waiting += value.parts
    return Counter(found)
