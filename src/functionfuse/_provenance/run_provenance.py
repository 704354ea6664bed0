"""Provenance of one run: the fingerprints with which its results are stored, made of what was used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from functionfuse._graph.nodes import Kind
from functionfuse._provenance.causes import Causes
from functionfuse._provenance.code import CodeDigests
from functionfuse._provenance.differences import same_code
from functionfuse._provenance.graph_fingerprints import GraphFingerprints
from functionfuse._provenance.staleness import Staleness
from functionfuse._provenance.stored_fingerprints import (
    Derivations,
    StoredFingerprints,
    combined_digest,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

    from functionfuse._graph.graph import Graph, GraphNode
    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse._provenance.policy import ProvenanceOptions
    from functionfuse._provenance.stored_fingerprints import HeaderSource

__all__ = ["RunProvenance", "kept_fingerprint"]


class RunProvenance:
    """What the scheduler asks about fingerprints; nodes are given by number.

    A fingerprint is made of the results that were really used: call `stamp` and `keep` in an order
    in which parents come before their dependents.
    """

    def __init__(self, staleness: Staleness, texts: Mapping[str, str]) -> None:
        """Begin with nothing computed.

        Args:
            staleness: The verdicts of the plan.
            texts: The texts of the current code, by digest.
        """
        self.staleness = staleness
        self.causes = Causes(staleness, texts)
        #: The nodes whose stored results were looked at for the warning of stale ones.
        self.announced: set[int] = set()
        self._texts = texts
        self._used: dict[int, Derivations] = {}  # of nodes that were computed or kept in this run
        self._expected: set[int] = set()  # nodes whose results have the expected derivations

    def stamp(self, number: int) -> dict[str, Any] | None:
        """Return the header field `fingerprint` with which a node that is submitted now is stored.

        From now on the node counts as computed in this run, also if it was planned to be loaded or kept.
        None for nodes that are not stored: instances, and nodes that always run.
        """
        node = self.staleness.graph.order[number]
        stores = node.kind is not Kind.CONSTRUCT and node.name not in self.staleness.always_run
        if self._expected.issuperset(node.parents):
            self._expected.add(number)
            return self.staleness.expected.header(number) if stores else None
        used = self._parents_used(node)
        derivations = self._note(number, self.staleness.derive(node, used))
        return self._fingerprint(node, used, derivations).to_header() if stores else None

    def keep(self, number: int) -> dict[str, Any]:
        """Return the header field with which the stored result of a `MAYBE` node is re-stamped.

        Call it when all stale parents got the values that they replace: the result counts as loaded from now on.
        """
        staleness = self.staleness
        node, stored = staleness.graph.order[number], staleness.stored_at(number)
        assert stored is not None
        assert stored.fingerprint is not None
        kept = kept_fingerprint(staleness, node, stored.fingerprint, self._parents_used(node))
        self._note(number, Derivations(kept.derivation, kept.graph_derivation))
        return kept.to_header()

    def stale_parents(self, number: int) -> tuple[int, ...]:
        """The parents for which a `MAYBE` node waits: it is kept if all of them get the values that they replace."""
        return self.staleness.verdict(number).parents

    def replaced_digest(self, number: int) -> str | None:
        """The digest of the stored value that a computed node replaces; None if it has none."""
        stored = self.staleness.stored_at(number)
        return stored.digest if stored else None

    def expected(self, number: int) -> str:
        """The derivation that the current graph and code give a node."""
        return self.staleness.expected.derivation(number)

    def may_load(self, number: int) -> bool:
        """Tell whether the result of a node that was stored before this run may be loaded.

        For results that the plan did not need.
        """
        return self.staleness.verdict(number).outcome == "load"

    def is_stale(self, number: int) -> bool:
        """Tell whether a stored result that the run loads or keeps is stale, by the plan."""
        return self.staleness.reaction(number) is not None

    def is_compared(self, number: int) -> bool:
        """Tell whether the plan found a stored result to be stale or unknown."""
        verdict = self.staleness.known_verdict(number)
        found = verdict is not None and (verdict.stale is not None or verdict.unknown)
        return found and self.staleness.stored_at(number) is not None

    def code_texts(self) -> Mapping[str, str]:
        """The texts of all code that the graph reaches, by digest."""
        if len(self.staleness.graph):
            self.staleness.expected.derivation(0)  # makes the digests of all nodes
        return self._texts

    def judge(self, numbers: Iterable[int]) -> None:
        """Read the headers of some stored results, in as few calls of the storage as possible."""
        self.staleness.judge(numbers)

    def header(self, number: int) -> Mapping[str, Any]:
        """The header that the stored result of a node had when it was judged."""
        stored = self.staleness.stored_at(number)
        return stored.header if stored else {}

    @classmethod
    def of_graph(  # noqa: PLR0913 - all that fingerprints are made of
        cls,
        graph: Graph,
        source: HeaderSource,
        stored: Container[str],
        seeds: Mapping[str, int],
        options: ProvenanceOptions,
        always_run: Collection[str] = frozenset(),
    ) -> RunProvenance:
        """Return the provenance of a run that begins now.

        Args:
            graph: The graph.
            source: Reads the headers of stored results.
            stored: The names of the stored results.
            seeds: The seeds of nodes.
            options: What counts as code, and the reactions to stale results.
            always_run: The names of nodes that always run and are never stored.
        """
        code = CodeDigests(options.code_roots, options.ignore)
        expected = GraphFingerprints(graph, code, seeds)
        fingerprints = StoredFingerprints(source, stored)
        staleness = Staleness(graph, expected, fingerprints, options.policies, always_run)
        return cls(staleness, code.texts)

    # ---- what was used ----

    def _fingerprint(
        self, node: GraphNode, used: Mapping[int, Derivations], derivations: Derivations
    ) -> Fingerprint:
        if self.staleness.is_expected(node.number, derivations):
            return self.staleness.expected.fingerprint(node.number)
        upstream = {parent: each.derivation for parent, each in used.items()}
        made = self.staleness.expected.fingerprint(node.number, upstream)
        return replace(made, graph_derivation=derivations.graph)

    def _note(self, number: int, derivations: Derivations) -> Derivations:
        """Remember the derivations of a result that this run has."""
        self._used[number] = derivations
        if self.staleness.is_expected(number, derivations):
            self._expected.add(number)
        else:
            self._expected.discard(number)
        return derivations

    def _parents_used(self, node: GraphNode) -> dict[int, Derivations]:
        return {parent: self._used_of(parent, node) for parent in node.parents}

    def _used_of(self, parent: int, node: GraphNode) -> Derivations:
        """The derivations of the result of a parent: computed in this run, or loaded."""
        if parent in self._expected:
            return self.staleness.expected_of(parent)
        known = self._used.get(parent)
        if known is not None:
            return known
        instance = parent in self.staleness.instance_parents(node)
        if instance:
            return self.staleness.effective(parent, instance=True)
        self.staleness.verdict(parent)
        return self._note(parent, self.staleness.effective(parent))


def kept_fingerprint(
    staleness: Staleness, node: GraphNode, stored: Fingerprint, used: Mapping[int, Derivations]
) -> Fingerprint:
    """The fingerprint of a stored result whose results upstream have other derivations, but the same values.

    Args:
        staleness: The expected fingerprints.
        node: The node.
        stored: The fingerprint with which the result is stored.
        used: The derivations of its parents now.
    """
    derivations = staleness.derive(node, used)
    upstream = {parent: each.derivation for parent, each in used.items()}
    made = staleness.expected.fingerprint(node.number, upstream)
    if same_code(stored, made):
        return replace(made, graph_derivation=derivations.graph)
    # its own code is still stale: it must differ from what the current code gives
    mixed = combined_digest(stored.derivation, derivations.derivation)
    return replace(
        stored,
        derivation=mixed,
        graph_derivation=derivations.graph,
        upstream=made.upstream,
        structure=made.structure,
    )
