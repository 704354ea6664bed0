"""Recover from damaged stored results: select the nodes that a run computes or loads again.

Damage shows when a result is loaded, or, in a lazy value, in a node that uses the result.
Then the damaged result is computed again, and with it everything computed from the damaged value:
the node that failed, and nodes whose values may still read from the damaged files.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from functionfuse._execution.run_state import NodeState
from functionfuse._kernel.annotations import add_note
from functionfuse._kernel.damage import take_damage
from functionfuse.errors import DamagedResultWarning
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functionfuse._execution.replanning import Replanner
    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._execution.run_state import RunState
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.damage import Damage
    from functionfuse.engine import Engine

__all__ = ["Recovery"]

H = TypeVar("H")


class Recovery(Generic[H]):
    """The damaged results of one run; resets nodes in the run's state, and adds them again."""

    def __init__(
        self, spec: RunSpec, engine: Engine[H], run: RunState[H], replanner: Replanner[H]
    ) -> None:
        """Begin with no damage.

        Args:
            spec: The run.
            engine: The engine that runs the units.
            run: The state of the run.
            replanner: Adds nodes to the run.
        """
        # units in flight that use a damaged value: the nodes that run again with them
        self.outdated: dict[H, set[int]] = {}
        self._damaged: set[str] = set()  # nodes whose results are computed again, each once
        self._run_spec = spec
        self._engine = engine
        self._run = run
        self._replanner = replanner

    def recover_from(self, error: BaseException, node: GraphNode) -> bool:
        """Compute the damaged result again that made a unit fail; tell whether there was one.

        Args:
            error: The unit's exception.
            node: The unit's node.
        """
        users = self._run.groups.in_flight(node)
        damage = None if self._run.releases_early else self._damage_behind(error, users)
        if damage is not None:
            self.recover(self._run_spec.graph.nodes[damage.node], damage.problem, users)
        return damage is not None

    def recover(self, damaged: GraphNode, problem: str, users: Sequence[GraphNode]) -> None:
        """Compute a damaged result and the nodes that used it again.

        Args:
            damaged: The node whose stored result is damaged.
            problem: The reason, for the warning.
            users: The nodes of the unit that failed.
        """
        message = f"the stored result of node {damaged.name!r} is damaged and is computed again: {problem}"
        warnings.warn(message, DamagedResultWarning, stacklevel=2)
        run = self._run
        self._damaged.add(damaged.name)
        self._replanner.damaged.add(damaged.name)
        run.states[damaged.number] = NodeState.SKIPPED
        run.groups.pop_in_flight(users[0])
        dependents = self._dependents(damaged)
        used = [
            run.nodes[number]
            for number in sorted(dependents)
            if run.states[number] is NodeState.DONE and run.results[number] is not None
        ]
        dependents.update(node.number for node in users)
        self._outdate(dependents)
        nodes = {node.number: node for node in (damaged, *users, *used)}
        self._run_again([*nodes.values()], dependents)

    def rerun_outdated(self, handle: H, node: GraphNode) -> None:
        """Run a finished unit again that used a damaged value; a result that it stored is loaded."""
        dependents = self.outdated.pop(handle)
        with suppress(BaseException):  # retrieved, since engines log failures that are not
            self._replanner.mark_stored(self._engine.record(handle))
        self._engine.release(handle)
        self._run_again(self._run.groups.pop_in_flight(node), dependents)

    def _damage_behind(self, error: BaseException, users: Sequence[GraphNode]) -> Damage | None:
        """Return the damage that made a unit fail, if computing the damaged result again can help.

        Args:
            error: The unit's exception.
            users: The nodes of the unit.
        """
        damage = take_damage(error, self._run_spec.workflow)
        damaged = self._run_spec.graph.nodes.get(damage.node) if damage else None
        if damage is None or damaged is None:
            return None
        dependents = self._dependents(damaged)
        if all(node.number not in dependents for node in users):
            return None
        if damage.node in self._damaged:
            add_note(
                error,
                f"the result of node {damage.node!r} was damaged, was computed again in this run, "
                "and is damaged again: check the disk under the storage",
            )
            return None
        return damage

    def _dependents(self, damaged: GraphNode) -> set[int]:
        """Return the numbers of the computed nodes downstream of a damaged result."""
        found = {damaged.number}
        for node in self._run.nodes:
            computed = self._run.actions[node.number] is Action.COMPUTE
            if computed and not found.isdisjoint(node.parents):
                found.add(node.number)
        return found - {damaged.number}

    def _outdate(self, dependents: set[int]) -> None:
        """Mark units in flight that depend on some nodes as outdated: when they are done, they run again.

        Args:
            dependents: The nodes; those of the outdated units are added.
        """
        run = self._run
        for handle, (node, _, load, _) in run.pending.items():  # units come after their inputs
            parts = () if load else run.groups.in_flight(node)
            numbers = {part.number for part in parts}
            if parts and not dependents.isdisjoint(numbers.union(node.parents)):
                dependents |= numbers
                self.outdated[handle] = dependents
                run.unreported.discard(handle)
                for number in numbers:
                    run.results.drop(number)

    def _run_again(self, nodes: Sequence[GraphNode], dependents: set[int]) -> None:
        """Reset some nodes, add them again with their dependencies, and rebuild the queue."""
        run = self._run
        self._replanner.reset(nodes, dependents)
        self._replanner.add(nodes)
        run.groups.dissolve()  # the damaged result may depend on a node of one
        run.queue.clear()
        run.enqueue([node for node in run.nodes if run.states[node.number] is NodeState.WAITING])
