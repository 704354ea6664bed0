"""Running one graph on several backends, and telling where they differ."""

from __future__ import annotations

import html
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.tables import Table
from functionfuse._graph.builder import build
from functionfuse._graph.nodes import Item, Kind, Node
from functionfuse.comparison.equality import Equality, Mismatch, short_repr
from functionfuse.comparison.mutation import Mutation, read_mutations, with_mutation_checks
from functionfuse.errors import DifferentResults, OptionError
from functionfuse.events import NodeFailed, NodeFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse._graph.graph import Graph, GraphNode
    from functionfuse.backends.base import Workflow
    from functionfuse.events import Event

__all__ = ["Comparison", "Difference", "compare"]

_NAME: Final = "compare"  # of the workflows that are made of backend classes
_HEADER: Final = ("node", "written at", "backend", "where", "expected", "actual", "because of")


@dataclass(frozen=True, slots=True)
class Difference:
    """A node whose result on a backend is not that of the reference."""

    node: str
    location: str  # "train at pipeline.py:41"
    backend: str
    path: str  # where in the value, as `[0]['loss']`; empty for all of it
    expected: str  # of the reference
    actual: str
    because_of: str = ""  # the node that it needs and that differs as well, or that changed it

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        reason = f" (because of node {self.because_of!r})" if self.because_of else ""
        return (
            f"node {self.node!r} ({self.location}){where}: expected {self.expected}, "
            f"on {self.backend} it is {self.actual}{reason}"
        )


@dataclass(frozen=True)
class Comparison:
    """What became of one graph on several backends; the first of them is the reference."""

    backends: tuple[str, ...]
    nodes: int
    differences: tuple[Difference, ...]  # in graph order
    changes: tuple[Mutation, ...]  # nodes that change what they are given, on the reference
    unknown: Mapping[str, str]  # nodes whose results cannot be compared, and why

    @property
    def equal(self) -> bool:
        """Tell whether no node differs."""
        return not self.differences

    @property
    def first(self) -> Difference | None:
        """The first difference in graph order."""
        return self.differences[0] if self.differences else None

    def raise_if_different(self) -> None:
        """Raise what is found.

        Raises:
            DifferentResults: A node differs. It is an AssertionError, too.
        """
        if self.differences:
            raise DifferentResults(str(self))

    def __str__(self) -> str:
        parts = [*self._lines(), self._table().text() if self.differences else ""]
        return "\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>\n" for line in self._lines())
        return lines + (self._table().html() if self.differences else "")

    def _lines(self) -> list[str]:
        names = f"{', '.join(self.backends)} ({self.nodes} nodes)"
        first = self.first
        return [
            f"{names}: no node differs" if first is None else f"{names}: the first is {first}",
            *map(str, self.changes),
            *[f"node {name!r} cannot be compared: {why}" for name, why in self.unknown.items()],
        ]

    def _table(self) -> Table:
        rows = [
            (each.node, each.location, each.backend, each.path, each.expected, each.actual, because)
            for each in self.differences
            for because in [each.because_of]
        ]
        return Table(_HEADER, rows)


def compare(
    *targets: Any, backends: Sequence[Callable[..., Any]], rtol: float = 0.0, atol: float = 0.0
) -> Comparison:
    """Run one graph on several backends, and find the first node at which they differ.

    Every node is a target of these runs, so that its value can be seen,
    and the objects of decorated classes are looked at as their last call leaves them.
    What fails is run once more without the nodes that failed.

    Args:
        targets: What a workflow takes.
        backends: Classes of workflows, or what makes a workflow of targets,
            as `lambda *nodes: LocalWorkflow(*nodes, workflow_name="x", workers=2)`.
            The first is the reference.
        rtol: How much floats and arrays may differ, relative to the reference.
        atol: How much floats and arrays may differ.

    Raises:
        OptionError: There is no backend, or a tolerance is negative.
        Exception: A backend cannot run at all.
    """
    if not backends or min(rtol, atol) < 0:
        message = "compare() takes at least one backend, and no negative tolerance"
        raise OptionError(message)
    graph = build(targets)
    nodes = graph.collected.nodes
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "changes"
        runs = [_Run(backends[0], nodes, graph, file)]
        runs += [_Run(backend, nodes, graph) for backend in backends[1:]]
        changes = read_mutations(file)
    return _NodeComparer(graph, runs, changes, Equality(rtol, atol)).result()


class _Run:
    """What a backend makes of each node."""

    def __init__(
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
        self.values: dict[str, Any] = {}  # by the name of the step
        self.states: dict[str, Any] = {}  # of objects, by the name of the last step that has them
        self.failures: dict[str, Exception] = {}
        self.stateless: str = ""  # why there are no states
        self._run(nodes, _last_calls(nodes))

    def _run(self, nodes: Sequence[Node[Any]], objects: Sequence[Node[Any]]) -> None:
        """Run some nodes; those that did not fail once more, since a failed run gives no values."""
        if not nodes:
            return
        states = [Item(node, (), "state") for node in objects]
        seen = _StatusObserver()
        try:
            workflow = self._workflow([*nodes, *states], seen)
            values = workflow.run(on_error="continue")
        except Exception as error:  # noqa: BLE001 - that of a node, or what the engine cannot do
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
        elif objects:  # it is their objects that cannot be had
            self.stateless = short_repr(error)
            self._run(nodes, ())
        else:
            raise error

    def _workflow(self, targets: Sequence[Any], seen: _StatusObserver) -> Workflow[Any]:
        backend = self._backend
        named = {"workflow_name": _NAME} if isinstance(backend, type) else {}
        workflow: Workflow[Any] = backend(*targets, **named)
        self.name = type(workflow).__name__
        if self._changes is not None:
            workflow._graph = with_mutation_checks(workflow.graph, self._changes)
        seen.names = list(workflow.graph.nodes)
        workflow.add_observer(seen)
        return workflow


def _last_calls(nodes: Sequence[Node[Any]]) -> list[Node[Any]]:
    """The nodes that leave an object as it is at the end."""
    continued = {node.state for node in nodes if node.state is not None}
    return [node for node in nodes if node.kind is not Kind.FUNCTION and node not in continued]


class _StatusObserver:
    """An observer that keeps which steps ended in which way."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.finished: set[str] = set()
        self.failed: dict[str, Exception] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, NodeFinished):
            self.finished.add(event.record.name)
        elif isinstance(event, NodeFailed) and isinstance(event.error, Exception):
            self.failed[event.record.name] = event.error


class _NodeComparer:
    """Compares what several runs gave, node by node."""

    def __init__(
        self, graph: Graph, runs: Sequence[_Run], changes: Sequence[Mutation], equality: Equality
    ) -> None:
        self._graph = graph
        self._reference, *self._others = runs
        self._names = _numbered_duplicates([run.name for run in runs])
        self._changes = changes
        self._changed_by = {change.of: change.node for change in reversed(changes) if change.of}
        self._equality = equality
        self._unknown: dict[str, str] = {}

    def result(self) -> Comparison:
        """What is found."""
        differences: list[Difference] = []
        differing: list[set[int]] = [set() for _ in self._others]
        for node in self._graph:
            for run, name, numbers in zip(self._others, self._names[1:], differing, strict=True):
                mismatch = self._mismatch(run, node)
                if mismatch is not None:
                    because = self._reason(node, numbers)
                    numbers.add(node.number)
                    differences.append(_difference(node, name, mismatch, because))
        return Comparison(
            tuple(self._names),
            len(self._graph),
            tuple(differences),
            tuple(self._changes),
            self._unknown,
        )

    def _reason(self, node: GraphNode, differing: set[int]) -> str:
        order = self._graph.order
        parents = [order[number].name for number in node.parents if number in differing]
        return parents[0] if parents else self._changed_by.get(node.name, "")

    def _mismatch(self, run: _Run, node: GraphNode) -> Mismatch | None:
        name, reference = node.name, self._reference
        if name in reference.failures and name in run.failures:
            return self._compare_values(reference.failures[name], run.failures[name], name, "")
        if name not in reference.values or name not in run.values:
            return _status_mismatch(_status_text(reference, name), _status_text(run, name))
        mismatch = self._compare_values(reference.values[name], run.values[name], name, "")
        if mismatch is None and name in reference.states and name in run.states:
            states = reference.states[name], run.states[name]
            return self._compare_values(*states, name, "the object after it")
        if mismatch is None and (run.stateless or reference.stateless):
            self._note_stateless(node, run.stateless or reference.stateless)
        return mismatch

    def _compare_values(self, expected: Any, actual: Any, name: str, path: str) -> Mismatch | None:
        equality = Equality(self._equality.rtol, self._equality.atol)
        mismatch = equality.mismatch(expected, actual, path)
        if mismatch is None and equality.unknown:
            self._unknown[name] = f"{equality.unknown[0]}, which has neither == nor attributes"
        return mismatch

    def _note_stateless(self, node: GraphNode, reason: str) -> None:
        if node.kind is Kind.CONSTRUCT:
            self._unknown[node.name] = f"the object cannot be had: {reason}"


def _status_text(run: _Run, name: str) -> str:
    """What became of a node, as text."""
    if name in run.failures:
        return f"a failure: {short_repr(run.failures[name])}"
    return short_repr(run.values[name]) if name in run.values else "not started"


def _status_mismatch(expected: str, actual: str) -> Mismatch | None:
    return None if expected == actual else Mismatch("", expected, actual)


def _difference(node: GraphNode, backend: str, mismatch: Mismatch, because: str) -> Difference:
    location = f"{node.function} at {node.location}"
    return Difference(
        node.name, location, backend, mismatch.path, mismatch.expected, mismatch.actual, because
    )


def _numbered_duplicates(names: Sequence[str]) -> list[str]:
    """Names with a number where one comes more than once."""
    counts: Counter[str] = Counter()
    told = []
    for name in names:
        counts[name] += 1
        told.append(f"{name} ({counts[name]})" if names.count(name) > 1 else name)
    return told
