"""Comparison of one graph's results on several backends, node by node."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functionfuse._graph.builder import build
from functionfuse._graph.nodes import Kind
from functionfuse.comparison.equality import Equality, Mismatch, short_repr
from functionfuse.comparison.fingerprints import fingerprint_differences
from functionfuse.comparison.mutation import Mutation, read_mutations
from functionfuse.comparison.result import Comparison, Difference
from functionfuse.comparison.runs import ComparedRun
from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from functionfuse._graph.graph import Graph, GraphNode

__all__ = ["compare"]


def compare(
    *targets: Any, backends: Sequence[Callable[..., Any]], rtol: float = 0.0, atol: float = 0.0
) -> Comparison:
    """Run one graph on several backends and compare the results node by node.

    Every node is a target of these runs, so that its value is returned;
    instances of decorated classes are compared in their state after the last method call.
    A graph in which nodes fail is run again without these nodes.

    Args:
        targets: Nodes, items and instances, as for a workflow.
        backends: Workflow classes, or functions that return a workflow for given targets, like
            `lambda *nodes: LocalWorkflow(*nodes, workflow_name="x", workers=2)`.
            The first one is the reference.
        rtol: Tolerance for floats and arrays, relative to the reference.
        atol: Absolute tolerance for floats and arrays.

    Raises:
        OptionError: `backends` is empty, or a tolerance is negative.
        Exception: A backend failed before any node did.
    """
    if not backends or min(rtol, atol) < 0:
        message = "compare() needs at least one backend and tolerances that are not negative"
        raise OptionError(message)
    graph = build(targets)
    nodes = graph.collected.nodes
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "changes"
        runs = [ComparedRun(backends[0], nodes, graph, file)]
        runs += [ComparedRun(backend, nodes, graph) for backend in backends[1:]]
        changes = read_mutations(file)
    return _NodeComparer(graph, runs, changes, Equality(rtol, atol)).result()


class _NodeComparer:
    """Compares the outcomes of several runs with the reference, node by node."""

    def __init__(
        self,
        graph: Graph,
        runs: Sequence[ComparedRun],
        changes: Sequence[Mutation],
        equality: Equality,
    ) -> None:
        self._graph = graph
        self._reference, *self._others = runs
        self._names = _numbered_duplicates([run.name for run in runs])
        self._changes = changes
        self._changed_by = {change.of: change.node for change in reversed(changes) if change.of}
        self._equality = equality
        self._unknown: dict[str, str] = {}

    def result(self) -> Comparison:
        """The comparison of all nodes."""
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
            tuple(self._fingerprint_differences()),
        )

    def _fingerprint_differences(self) -> Iterator[str]:
        expected = self._reference.fingerprints
        for run, name in zip(self._others, self._names[1:], strict=True):
            yield from fingerprint_differences(expected, run.fingerprints, name)

    def _reason(self, node: GraphNode, differing: set[int]) -> str:
        order = self._graph.order
        parents = [order[number].name for number in node.parents if number in differing]
        return parents[0] if parents else self._changed_by.get(node.name, "")

    def _mismatch(self, run: ComparedRun, node: GraphNode) -> Mismatch | None:
        name, reference = node.name, self._reference
        if name in reference.failures and name in run.failures:
            return self._compare_values(reference.failures[name], run.failures[name], name, "")
        if name not in reference.values or name not in run.values:
            return _status_mismatch(_status_text(reference, name), _status_text(run, name))
        mismatch = self._compare_values(reference.values[name], run.values[name], name, "")
        if mismatch is None and name in reference.states and name in run.states:
            states = reference.states[name], run.states[name]
            return self._compare_values(*states, name, "the instance after the node")
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
            self._unknown[node.name] = f"the engine cannot return the instance: {reason}"


def _status_text(run: ComparedRun, name: str) -> str:
    """The outcome of a node as text."""
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
    """Number the names that occur more than once."""
    counts: Counter[str] = Counter()
    numbered = []
    for name in names:
        counts[name] += 1
        numbered.append(f"{name} ({counts[name]})" if names.count(name) > 1 else name)
    return numbered
