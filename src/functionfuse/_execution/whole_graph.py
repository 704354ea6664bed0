"""Runs that an engine can be given whole: it is done when it has the graph, and nobody looks on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from functionfuse._graph.builder import LazyGraph
from functionfuse._graph.graph import GraphNode
from functionfuse._graph.nodes import Kind
from functionfuse._kernel.annotations import add_node_note, name_item_note
from functionfuse._kernel.binding import resolve_reference
from functionfuse._kernel.kernel import FAILED_SUBUNIT
from functionfuse._kernel.units import Record, Unit, WholeGraphUnits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse.engine import Engine

__all__ = ["WholeGraphRun", "can_run_whole_graph"]


def can_run_whole_graph(spec: RunSpec, engine: Engine[Any]) -> bool:
    """Tell whether there is nothing to do around the calls of the nodes."""
    return (
        engine.capabilities.inline
        and type(spec.graph) is LazyGraph
        and spec.results is None
        and spec.on_error == "raise"
        and not (spec.plugins or spec.observers or spec.options)
    )


class WholeGraphRun:
    """One run of a whole graph as one unit, see `Run`."""

    def __init__(self, spec: RunSpec, engine: Engine[Any]) -> None:
        assert type(spec.graph) is LazyGraph
        self.plan = spec.plan()
        self._graph = spec.graph
        self._workflow = spec.workflow
        self._engine = engine
        self._done: Sequence[Record] = ()
        self._failed: Record | None = None

    @property
    def records(self) -> Mapping[str, Record]:
        """What is known of the steps that are done, by name."""
        return _RecordsByName(self._graph, self._done, self._failed)

    def execute(self) -> list[Any]:
        """Run everything; give the values of the targets.

        Raises:
            BaseException: The failure of a node, as the user's function raised it.
        """
        started = time.time()
        try:
            handle = self._engine.submit(self._unit(), [], {})
            for done in self._engine.wait([handle]):
                self._done = self._engine.record(done).subrecords
            values = self._engine.fetch(handle)
            return [
                resolve_reference(target, values[target.node])
                for target in self._graph.collected.targets
            ]
        except BaseException as error:
            name_item_note(error, lambda node: self._graph.node(node).name)
            self._note(error, started)
            raise

    def _unit(self) -> Unit:
        name = self._engine.name
        node = GraphNode(self._workflow, 0, lambda: None, (), {}, Kind.FUNCTION, None, "", ())
        return Unit(
            node, self._workflow, name, subunits=WholeGraphUnits(self._graph, self._workflow, name)
        )

    def _note(self, error: BaseException, started: float) -> None:
        """Remember what was done until a node failed, and that it did."""
        name, done = error.__dict__.pop(FAILED_SUBUNIT, (None, ()))
        if name is None:
            return
        self._done, node = done, self._graph.order[len(done)]
        add_node_note(error, node, self._workflow)
        if isinstance(error, Exception):
            began = done[-1].started + done[-1].seconds if done else started
            self._failed = Record(node.name, "failed", began, time.time() - began, "", None)


class _RecordsByName(Mapping[str, Record]):
    """Records by the names of their steps, found by the steps' numbers."""

    def __init__(self, graph: LazyGraph, done: Sequence[Record], failed: Record | None) -> None:
        self._graph = graph
        self._done = done
        self._failed = failed

    def __getitem__(self, name: str) -> Record:
        number = self._graph.nodes[name].number
        if number < len(self._done):
            return self._done[number]
        if self._failed is None or self._failed.name != name:
            raise KeyError(name)
        return self._failed

    def __len__(self) -> int:
        return len(self._done) + (self._failed is not None)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._graph.nodes if name in self)
