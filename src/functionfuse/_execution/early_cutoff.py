"""Early cutoff: keep stored results if the stale results that they were computed from get the same values again.

A node with the action `MAYBE` waits until its stale parents are computed or kept, on every engine.
Then it is kept: its stored result is stamped again, and loaded only if something takes its value.
Or a parent has another value: then the node is computed, with everything that it requires.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from functionfuse._execution.run_state import NodeState
from functionfuse._execution.stamping import Stamping
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functionfuse._execution.replanning import Replanner
    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._execution.run_state import RunState
    from functionfuse._graph.graph import GraphNode

__all__ = ["EarlyCutoff"]

H = TypeVar("H")


class _Decided(NamedTuple):
    """Nodes that were decided together."""

    kept: list[GraphNode]
    changed: list[GraphNode]


class EarlyCutoff(Generic[H]):
    """The nodes of one run that are kept or computed, as the values of their stale parents turn out."""

    def __init__(self, spec: RunSpec, run: RunState[H], replanner: Replanner[H]) -> None:
        """Begin without nodes.

        Args:
            spec: The run; it has a storage that keeps fingerprints.
            run: The state of the run.
            replanner: Adds nodes to the run.
        """
        assert run.plan.provenance is not None
        assert spec.results is not None
        self.kept: set[str] = set()  # and not loaded
        self._run = run
        self._replanner = replanner
        self._provenance = run.plan.provenance
        self._planned = run.plan.actions
        self._stamping = Stamping(spec.results)
        # by node that is not decided: its stale parents; those that it waits for;
        # and the parents whose values are retained, for the case that it is computed
        self._stale: dict[int, list[int]] = {}
        self._awaited: dict[int, set[int]] = {}
        self._retained: dict[int, list[int]] = {}
        self._children: defaultdict[int, list[int]] = defaultdict(list)  # that wait for a node
        self._is_same: dict[int, bool] = {}  # whether a decided node has its earlier value

    def begin(self) -> list[str]:
        """Let the planned nodes wait for their stale parents; return the names of those that are kept already."""
        run, waiting = self._run, []
        for node in run.nodes:
            if run.actions[node.number] is Action.MAYBE:
                computed = [p for p in node.parents if self._will_have_value(p)]
                run.results.retain(computed)
                self._retained[node.number] = computed
                self._stale[node.number] = [*self._provenance.stale_parents(node.number)]
                waiting.append(node.number)
        return self._decide([number for number in waiting if not self._wait(number)])

    def finish(self, numbers: Iterable[int]) -> list[str]:
        """Decide on the nodes that waited for computed nodes only; return the names of those that are kept and not loaded.

        Args:
            numbers: The nodes that are done.
        """
        ready: list[int] = []
        for number in filter(self._is_decisive, numbers):
            if self._run.actions[number] is Action.COMPUTE:
                self._is_same[number] = self._has_replaced_value(number)
            else:  # loaded: a unit had stored it before recovery ran it again
                self._is_same.setdefault(number, False)
            ready += self._release_children(number)
        return self._decide(ready) if ready else []

    def end(self) -> None:
        """Wait until all kept results are stamped."""
        self._stamping.end()

    # ---- waiting ----

    def _is_decisive(self, number: int) -> bool:
        """Tell whether the value of a node that is done decides on others, now or later."""
        if number in self._children or number in self._is_same:
            return True
        was_loaded = self._planned[self._run.nodes[number].name] is Action.LOAD
        return was_loaded and self._run.actions[number] is Action.COMPUTE

    def _will_have_value(self, number: int) -> bool:
        return self._run.actions[number] in (Action.COMPUTE, Action.LOAD)

    def _wait(self, number: int) -> bool:
        """Let a node wait for its stale parents that are not decided; tell whether there are any."""
        awaited = {parent for parent in self._relevant(number) if self._is_undecided(parent)}
        for parent in awaited:
            self._children[parent].append(number)
        self._awaited[number] = awaited
        return bool(awaited)

    def _relevant(self, number: int) -> list[int]:
        """The parents whose values decide: the stale ones, and loaded ones that were damaged and are computed."""
        stale, run = self._stale[number], self._run
        damaged = [
            parent
            for parent in run.nodes[number].parents
            if self._planned[run.nodes[parent].name] is Action.LOAD
            and (parent in self._is_same or run.will_compute(run.nodes[parent]))
        ]
        return [*stale, *damaged]

    def _is_undecided(self, number: int) -> bool:
        return number not in self._is_same or self._run.will_compute(self._run.nodes[number])

    def _release_children(self, number: int) -> list[int]:
        """Return the nodes that waited for this one only; recovery may have added parents again."""
        ready = []
        for child in self._children.pop(number, ()):
            awaited = self._awaited.get(child)
            if awaited is None:  # decided
                continue
            awaited.discard(number)
            if not awaited and not self._wait(child):
                ready.append(child)
        return ready

    def _has_replaced_value(self, number: int) -> bool:
        record = self._run.records[number]
        digest = record.digest if record else None
        return digest is not None and digest == self._provenance.replaced_digest(number)

    # ---- settling ----

    def _decide(self, ready: list[int]) -> list[str]:
        """Keep nodes, and those that waited for these only; compute the others."""
        decided = _Decided([], [])
        while ready:
            number = ready.pop()
            node = self._run.nodes[number]
            del self._awaited[number]
            self._run.actions[number], self._run.states[number] = Action.SKIP, NodeState.SKIPPED
            if self._is_unchanged(node):
                self._keep(node)
                decided.kept.append(node)
                ready += self._release_children(number)
            else:
                self._replanner.changed.add(number)
                decided.changed.append(node)
        return self._continue(decided)

    def _is_unchanged(self, node: GraphNode) -> bool:
        """Tell whether all stale parents have their earlier values, and their instances were not called."""
        relevant, actions = self._relevant(node.number), self._run.actions
        if not all(map(self._is_same.__getitem__, relevant)):
            return False
        computed = {parent for parent in relevant if actions[parent] is Action.COMPUTE}
        return not computed or computed.isdisjoint(node.instance_parents)

    def _keep(self, node: GraphNode) -> None:
        self._is_same[node.number] = True
        self._replanner.mark_loadable(node)
        fingerprint = self._provenance.keep(node.number)
        self._stamping.add(node.name, fingerprint, self._provenance.header(node.number))
        self._run.results.release(self._retained.pop(node.number))

    def _continue(self, decided: _Decided) -> list[str]:
        """Add the nodes that are computed, and the kept ones whose values are taken, with what these require."""
        run = self._run
        taken = [node for node in decided.kept if run.results.count(node.number)]
        added = self._replanner.add([*decided.changed, *taken])
        for node in decided.changed:
            run.results.release(self._retained.pop(node.number))
        self._retain_for_children(added)
        if any(run.actions[node.number] is Action.COMPUTE for node in taken):
            self._stamping.flush()  # it runs for its instance, and reads its result if that is fresh
        run.enqueue(added)
        kept = {node.name for node in decided.kept} - {node.name for node in added}
        self.kept |= kept
        self.kept -= {node.name for node in added}
        return [node.name for node in decided.kept if node.name in kept]

    def _retain_for_children(self, added: Sequence[GraphNode]) -> None:
        """Retain the values of nodes for children that are not decided yet."""
        for node in added:
            for child in self._run.children[node.number]:
                if child in self._awaited:
                    self._run.results.retain([node.number])
                    self._retained[child].append(node.number)
