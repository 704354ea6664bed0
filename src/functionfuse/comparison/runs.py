"""Run of a graph on one backend for a comparison: the value, final state or exception of each node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functionfuse._graph.nodes import Item, Kind, Node
from functionfuse.comparison.equality import short_repr
from functionfuse.comparison.fingerprints import fingerprints_of
from functionfuse.comparison.mutation import with_mutation_checks
from functionfuse.events import NodeFailed, NodeFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from functionfuse._graph.graph import Graph
    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse.backends.base import Workflow
    from functionfuse.events import Event

__all__ = ["ComparedRun"]

_NAME: Final = "compare"  # of workflows that are created from backend classes


class ComparedRun:
    """The outcome of every node on one backend."""

    def __init__(  # noqa: D107
        self,
        backend: Callable[..., Any],
        nodes: Sequence[Node[Any]],
        graph: Graph,
        changes: Path | None = None,
    ) -> None:
        self._backend = backend
        self._changes = changes
        self._names = dict(zip(nodes, graph.nodes, strict=True))
        self.name = ""
        self.values: dict[str, Any] = {}  # by node name
        self.states: dict[str, Any] = {}  # of instances, by the name of the last method call
        self.failures: dict[str, Exception] = {}
        self.fingerprints: dict[str, Fingerprint] = {}  # by node name
        self.stateless: str = ""  # why the states of instances are unknown
        self._run(nodes, _last_calls(nodes))

    def _run(self, nodes: Sequence[Node[Any]], objects: Sequence[Node[Any]]) -> None:
        """Run nodes; after a failure run the finished ones again, because a failed run returns no values."""
        if not nodes:
            return
        states = [Item(node, (), "state") for node in objects]
        seen = _StatusObserver()
        try:
            workflow = self._new_workflow([*nodes, *states], seen)
            values = workflow.run(on_error="continue", check_mutation=False)
        except Exception as error:  # noqa: BLE001 - of a node or of the engine
            self._run_rest(nodes, objects, seen, error)
            return
        values = values if len(nodes) + len(states) > 1 else [values]
        self.values |= {self._names[node]: values.pop(0) for node in nodes}
        self.states |= {self._names[node]: values.pop(0) for node in objects}

    def _run_rest(
        self,
        nodes: Sequence[Node[Any]],
        objects: Sequence[Node[Any]],
        seen: _StatusObserver,
        error: Exception,
    ) -> None:
        by_name = dict(zip(seen.names, nodes, strict=True)) if seen.names else {}
        self.failures |= {self._names[by_name[name]]: each for name, each in seen.failed.items()}
        if seen.failed:
            done = [by_name[name] for name in seen.names if name in seen.finished]
            self._run(done, _last_calls(done) if objects else ())
        elif objects:  # the engine cannot return their instances
            self.stateless = short_repr(error)
            self._run(nodes, ())
        else:
            raise error

    def _new_workflow(self, targets: Sequence[Any], seen: _StatusObserver) -> Workflow[Any]:
        backend = self._backend
        named = {"workflow_name": _NAME} if isinstance(backend, type) else {}
        workflow: Workflow[Any] = backend(*targets, **named)
        self.name = type(workflow).__name__
        if not self.fingerprints:
            self.fingerprints = dict(
                zip(self._names.values(), fingerprints_of(workflow), strict=True)
            )
        if self._changes is not None:
            file = self._changes
            workflow.transform_graph(lambda graph: with_mutation_checks(graph, file))
        seen.names = list(workflow.graph.nodes)
        workflow.add_observer(seen)
        return workflow


def _last_calls(nodes: Sequence[Node[Any]]) -> list[Node[Any]]:
    """The last method call on each instance, or its construction."""
    continued = {node.state for node in nodes if node.state is not None}
    return [node for node in nodes if node.kind is not Kind.FUNCTION and node not in continued]


class _StatusObserver:
    """Observer that records which nodes finished and which failed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.finished: set[str] = set()
        self.failed: dict[str, Exception] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, NodeFinished):
            self.finished.add(event.record.name)
        elif isinstance(event, NodeFailed) and isinstance(event.error, Exception):
            self.failed[event.record.name] = event.error
