"""Acceptance: fingerprints with which stale results, and their dependents, count as fresh without being computed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from functionfuse._provenance.differences import changed_parts, same_code
from functionfuse._provenance.staleness import same_graph_parts
from functionfuse._provenance.stored_fingerprints import Derivations, combined_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from functionfuse._graph.graph import GraphNode
    from functionfuse._provenance.differences import PartChange
    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse._provenance.staleness import Staleness
    from functionfuse._provenance.stored_fingerprints import StoredFingerprint

__all__ = ["Acceptance"]


class _Change(NamedTuple):
    """The derivations of a node's result before and after the acceptance."""

    before: Derivations
    after: Derivations


class Acceptance:
    """One pass over the graph, parents first."""

    def __init__(self, staleness: Staleness, selected: Collection[str], cause: str | None) -> None:
        """Accept nothing yet.

        Args:
            staleness: The stored and the expected fingerprints.
            selected: The names of the nodes whose results are accepted.
            cause: Accept only what is stale because of this part of the code alone; None accepts any difference.
        """
        self._staleness = staleness
        self._selected = selected
        self._cause = cause
        self._partly_accepted: set[int] = (
            set()
        )  # nodes that differ by more, and what is computed from them
        self._values: dict[int, _Change] = {}
        self._instances: dict[int, _Change] = {}

    def fingerprints(self) -> dict[str, Fingerprint]:
        """The new fingerprints of stored results, by name."""
        staleness, found = self._staleness, dict[str, "Fingerprint"]()
        staleness.stored.read(node.name for node in staleness.graph if staleness.is_stored(node))
        for node in staleness.graph:
            derived = self._derived(node)
            stored = staleness.stored_at(node.number)
            self._instances[node.number] = derived
            if stored is None:
                self._values[node.number] = derived
                self._pass_on(node)
                continue
            before, new = _before(staleness, node, stored), self._accepted(node, stored)
            if new is not None:
                found[node.name] = new
            after = before if new is None else _derivations(new)
            self._values[node.number] = _Change(before, after)
        return found

    def part_names(self) -> set[str]:
        """The names of all code that the graph reaches, or that its stored results were computed with."""
        staleness, found = self._staleness, set[str]()
        for node in staleness.graph:
            found.update(name for name, _ in staleness.fingerprint(node.number).parts)
            stored = staleness.stored_at(node.number)
            if stored is not None and stored.fingerprint is not None:
                found.update(name for name, _ in stored.fingerprint.parts)
        return found

    def is_complete(self, number: int) -> bool:
        """Tell whether nothing remains of what was accepted that makes a node differ."""
        return number not in self._partly_accepted

    def _pass_on(self, node: GraphNode) -> None:
        if not self._partly_accepted.isdisjoint(node.parents):
            self._partly_accepted.add(node.number)

    def _parents(self, node: GraphNode) -> dict[int, _Change]:
        made = self._staleness.instance_parents(node)
        return {
            parent: (self._instances if parent in made else self._values)[parent]
            for parent in node.parents
        }

    def _derived(self, node: GraphNode) -> _Change:
        parents = self._parents(node)
        derive = self._staleness.derive
        before = derive(node, {parent: each.before for parent, each in parents.items()})
        after = derive(node, {parent: each.after for parent, each in parents.items()})
        return _Change(before, after)

    def _accepted(self, node: GraphNode, stored: StoredFingerprint) -> Fingerprint | None:
        """The accepted fingerprint of a stored result; None if it stays as it is."""
        staleness, fingerprint = self._staleness, stored.fingerprint
        expected = staleness.expected.derivation(node.number)
        if fingerprint is not None and fingerprint.derivation == expected:
            return None
        selected = node.name in self._selected
        if selected and self._cause is None:
            return staleness.fingerprint(node.number)
        if fingerprint is None:
            return None
        return self._updated(node, fingerprint, selected=selected)

    def _updated(
        self, node: GraphNode, stored: Fingerprint, *, selected: bool
    ) -> Fingerprint | None:
        """The fingerprint of a result without the differences that are accepted; None if there are none of these."""
        staleness = self._staleness
        expected = staleness.fingerprint(node.number)
        if not same_graph_parts(stored, expected):
            return None
        changes = [] if same_code(stored, expected) else changed_parts(stored, expected)
        accepted = [change for change in changes if selected and change.name == self._cause]
        after = self._inputs_after(node, stored, own=bool(accepted))
        if after is None:
            return None
        inputs = staleness.inputs(node, stored)
        if not accepted and all(was == after[parent].derivation for parent, was in inputs):
            return None
        self._pass_on(node)
        if len(accepted) == len(changes):
            return self._restamped(node, after)
        self._partly_accepted.add(node.number)
        return self._partly(node, stored, accepted, after)

    def _inputs_after(
        self, node: GraphNode, stored: Fingerprint, *, own: bool
    ) -> dict[int, Derivations] | None:
        """The derivations of what a node took, after the acceptance; None if it took something else."""
        parents, after = self._parents(node), dict[int, Derivations]()
        for parent, was in self._staleness.inputs(node, stored):
            change, now = parents[parent], self._staleness.expected_of(parent)
            if was == now.derivation:
                after[parent] = now
            elif was == change.before.derivation or self._is_call_before(
                node, stored, parent, own=own
            ):
                after[parent] = change.after
            else:
                return None
        return after

    def _is_call_before(
        self, node: GraphNode, stored: Fingerprint, parent: int, *, own: bool
    ) -> bool:
        """Tell whether a method depends on its instance, whose class is the accepted cause.

        An instance is not stored: only the method's own code tells what changed in its class.
        """
        graph = self._staleness.expected.graph_derivation(node.number)
        is_instance = parent in self._staleness.instance_parents(node)
        return own and is_instance and stored.graph_derivation == graph

    def _restamped(self, node: GraphNode, after: Mapping[int, Derivations]) -> Fingerprint:
        staleness = self._staleness
        upstream = {parent: each.derivation for parent, each in after.items()}
        made = staleness.expected.fingerprint(node.number, upstream)
        return replace(made, graph_derivation=staleness.graph_derivation(node, after))

    def _partly(
        self,
        node: GraphNode,
        stored: Fingerprint,
        accepted: Sequence[PartChange],
        after: Mapping[int, Derivations],
    ) -> Fingerprint:
        """The fingerprint of a result of which some differences are accepted, and others are not."""
        made = self._restamped(node, after)
        names, digests = {change.name for change in accepted}, dict(made.parts)
        kept = [(name, digest) for name, digest in stored.parts if name not in names]
        parts = (*kept, *[(name, digests[name]) for name in names if name in digests])
        return replace(
            made,
            derivation=combined_digest(stored.derivation, made.derivation, *names),
            code="" if names else stored.code,
            parts=tuple(sorted(parts)),
        )


def _before(staleness: Staleness, node: GraphNode, stored: StoredFingerprint) -> Derivations:
    if stored.fingerprint is not None:
        return _derivations(stored.fingerprint)
    graph = staleness.expected.graph_derivation(node.number)
    return Derivations(stored.without_fingerprint, graph)


def _derivations(fingerprint: Fingerprint) -> Derivations:
    return Derivations(fingerprint.derivation, fingerprint.graph_derivation)
