"""Unit factory: makes the units of one run, with the storage, set-up, guard and fingerprint of each node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse._context.caller_context import CallerContext
from functionfuse._execution.argument_guards import ArgumentGuards
from functionfuse._graph.graph import new_tuple, references
from functionfuse._kernel.units import Unit
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from functionfuse._execution.groups import Group
    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._execution.run_state import RunState
    from functionfuse._graph.graph import GraphNode
    from functionfuse._kernel.seeding import NodeSeeding
    from functionfuse._kernel.units import Guard
    from functionfuse.engine import Engine

__all__ = ["UnitFactory"]


class UnitFactory:
    """Makes the units of one run when they are submitted: fingerprints are made of the results that are used."""

    def __init__(
        self, spec: RunSpec, engine: Engine[Any], run: RunState[Any], damaged: Collection[str]
    ) -> None:
        """Prepare what all units have in common.

        Args:
            spec: The run.
            engine: The engine that runs the units.
            run: The state of the run.
            damaged: The names of nodes whose stored results are damaged, as they become known.
        """
        self._spec = spec
        self._engine, self._inline = engine.name, engine.capabilities.inline
        self._run = run
        self._damaged = damaged
        self._provenance = run.plan.provenance
        # settings for units in other threads or processes, and their log records and warnings
        self._context = None if engine.capabilities.inline else CallerContext()
        self._guards = ArgumentGuards(spec, engine, run.plan)
        self._setups: Mapping[str, Callable[[], object] | NodeSeeding | None] = {}

    def prepare(self) -> None:
        """Prepare the plugins of the run."""
        self._setups = self._spec.setups(inline=self._inline)

    def end(self) -> None:
        """Warn of values that nodes changed, and release the data of the run."""
        self._guards.end()

    def loading(self, node: GraphNode) -> Unit:
        """The unit that loads a stored result."""
        return self._new(node, load=True)

    def computing(self, node: GraphNode) -> Unit:
        """The unit that computes a node."""
        guard = self._guards.of(node)
        if self._provenance is None:
            return self._new(node, guard=guard)
        fingerprint = self._provenance.stamp(node.number)
        replace = node.state is None or self._is_value_used(node)
        return self._new(node, guard=guard, fingerprint=fingerprint, replace=replace)

    def fused(self, group: Group, outputs: tuple[int, ...]) -> Unit:
        """The unit that computes the nodes of a group.

        Args:
            group: The group.
            outputs: The numbers of the nodes whose values are used outside.
        """
        subunits = tuple(map(self.computing, group.nodes))
        return self._new(group.as_node())._replace(subunits=subunits, outputs=outputs)

    def _new(
        self,
        node: GraphNode,
        *,
        load: bool = False,
        guard: Guard | None = None,
        fingerprint: Mapping[str, Any] | None = None,
        replace: bool = True,
    ) -> Unit:
        name, spec = node.name, self._spec
        storage = None if name in spec.always_run else spec.results
        exclusive_instance = (
            node.state is not None and spec.graph.instance_uses[node.state.number] == 1
        )
        fields = (
            node,
            spec.workflow,
            self._engine,
            storage,
            load,
            self._setups.get(name),
            exclusive_instance,
            (),
            (),
            name in self._damaged,
            self._context,
            guard,
            fingerprint,
            replace,
        )
        return new_tuple(Unit, fields)

    def _is_value_used(self, node: GraphNode) -> bool:
        """Tell whether a target or a node takes the value of a method, and not only its instance."""
        run, number = self._run, node.number
        if any(ref.number == number and ref.slot != "state" for ref in self._spec.graph.targets):
            return True
        children = [run.nodes[child] for child in run.children[number]]
        return any(
            ref.number == number and ref.slot != "state"
            for child in children
            if run.actions[child.number] in (Action.COMPUTE, Action.MAYBE)
            for ref in references(child.arguments)
        )
