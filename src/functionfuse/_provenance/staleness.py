"""Staleness of stored results: compare stored with expected fingerprints, from needed results upstream.

The expected derivations need the graph only. So the walk reads the header of a needed result,
ends where the derivations are equal, and goes on upstream only where they differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from functionfuse._graph.nodes import Kind
from functionfuse._provenance.differences import same_code
from functionfuse._provenance.moved_functions import replaced_names
from functionfuse._provenance.stored_fingerprints import Derivations, combined_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from functionfuse._graph.graph import Graph, GraphNode
    from functionfuse._provenance.fingerprint import Fingerprint
    from functionfuse._provenance.graph_fingerprints import GraphFingerprints
    from functionfuse._provenance.policy import Difference, Reaction, StalePolicies
    from functionfuse._provenance.stored_fingerprints import StoredFingerprint, StoredFingerprints

__all__ = ["FRESH", "Staleness", "Verdict"]


class Verdict(NamedTuple):
    """What a run that needs the value of a node does, and why."""

    outcome: Literal["load", "maybe", "compute"]
    stale: Difference | None = None
    reaction: Reaction | None = None  # to the difference
    own: bool = False  # the node itself differs; else only results upstream
    #: The parents because of which it differs: others than it was computed from, or stale themselves.
    parents: tuple[int, ...] = ()
    unknown: bool = False  # it cannot be compared


FRESH: Final = Verdict("load")
_UNKNOWN: Final = Verdict("load", unknown=True)
_DIFFERENCES: Final[tuple[Difference, ...]] = ("graph", "code")

#: A node as a value, or (True) as the instance after its call, which is never stored.
_Key = tuple[int, bool]


class Staleness:
    """The verdicts on the nodes of a graph, found when they are needed."""

    def __init__(
        self,
        graph: Graph,
        expected: GraphFingerprints,
        stored: StoredFingerprints,
        policies: StalePolicies,
        always_run: Collection[str] = frozenset(),
    ) -> None:
        """Judge nothing yet.

        Args:
            graph: The graph.
            expected: Its fingerprints by the current graph and code.
            stored: The fingerprints of the stored results.
            policies: The reactions to stale results.
            always_run: The names of nodes that always run and are never stored.
        """
        self.graph = graph
        self.expected = expected
        self.stored = stored
        self._policies = policies
        self.always_run = always_run
        self._verdicts: dict[int, Verdict] = {}
        self._instances: dict[int, Verdict] = {}  # on nodes as instances, which are never stored
        self._effective: dict[_Key, Derivations] = {}
        self._instance_parents: dict[int, Collection[int]] = {}
        self._fingerprints: dict[int, Fingerprint] = {}

    def judge(self, numbers: Iterable[int]) -> Mapping[int, Verdict]:
        """Judge some nodes whose values are needed; return all verdicts so far."""
        found = self._descend([(number, False) for number in numbers])
        for key in sorted(found):  # parents come first
            self._evaluate(key)
        return self._verdicts

    def verdict(self, number: int) -> Verdict:
        """The verdict on one node."""
        known = self._verdicts.get(number)
        return known or self.judge((number,))[number]

    def known_verdict(self, number: int) -> Verdict | None:
        """The verdict on a node, if it was judged."""
        return self._verdicts.get(number)

    def reaction(self, number: int) -> Reaction | None:
        """The reaction to a stored result that a run uses although it is stale; None if it is not."""
        verdict = self._verdicts.get(number)
        if verdict is None or (verdict.outcome != "load" and not verdict.own):
            return None
        if verdict.outcome == "maybe":  # its own code changed, too: it may be kept
            return self._policies.of(self.graph.order[number].name, "code")
        return verdict.reaction if verdict.outcome == "load" else None

    def stored_at(self, number: int) -> StoredFingerprint | None:
        """What is stored of a node; None for nodes that are never stored."""
        node = self.graph.order[number]
        if node.name in self.always_run or node.kind is Kind.CONSTRUCT:
            return None
        return self.stored.get(node.name)

    def is_stored(self, node: GraphNode) -> bool:
        """Tell whether a result of a node is listed, and may be loaded by the node's kind."""
        stores = node.name not in self.always_run and node.kind is not Kind.CONSTRUCT
        return stores and node.name in self.stored

    def instance_parents(self, node: GraphNode) -> Collection[int]:
        """The parents whose instance a node takes."""
        if not self.graph.has_instances:
            return ()
        known = self._instance_parents.get(node.number)
        if known is None:
            known = self._instance_parents[node.number] = node.instance_parents
        return known

    def effective(self, number: int, *, instance: bool = False) -> Derivations:
        """The derivations that dependents of a node are stamped with, by the verdicts so far."""
        return self._effective.get((number, instance)) or self.expected_of(number)

    def expected_of(self, number: int) -> Derivations:
        """The derivations by the current graph and code."""
        return Derivations(self.expected.derivation(number), self.expected.graph_derivation(number))

    def is_expected(self, number: int, derivations: Derivations) -> bool:
        """Tell whether a node has the derivation that the current graph and code give it."""
        return derivations.derivation == self.expected.derivation(number)

    def derive(self, node: GraphNode, used: Mapping[int, Derivations]) -> Derivations:
        """The derivations of a node that is computed from some results.

        Args:
            node: The node.
            used: The derivations of its parents.
        """
        if all(self.is_expected(parent, used[parent]) for parent in node.parents):
            return self.expected_of(node.number)
        upstream = {parent: used[parent].derivation for parent in node.parents}
        made = self.expected.fingerprint(node.number, upstream)
        return Derivations(made.derivation, self.graph_derivation(node, used))

    def graph_derivation(self, node: GraphNode, used: Mapping[int, Derivations]) -> str:
        """The graph derivation of a node that is computed from some results.

        Of results that were loaded although the graph says something else it is never the expected one.
        """
        graph = self.expected.graph_derivation
        others = [p for p in node.parents if used[p].graph != graph(p)]
        if not others:
            return graph(node.number)
        return combined_digest(graph(node.number), *[used[parent].graph for parent in others])

    def inputs(self, node: GraphNode, stored: Fingerprint) -> list[tuple[int, str]]:
        """The parents of a node, each with the derivation of what it took in its place when it was computed.

        Compared by position: a parent may have another name now.
        """
        nodes = self.graph.nodes
        now = [nodes[name].number for name in self.fingerprint(node.number).upstream]
        return [*zip(now, stored.upstream.values(), strict=False)]

    def fingerprint(self, number: int) -> Fingerprint:
        """The fingerprint that the current graph and code give a node."""
        known = self._fingerprints.get(number)
        if known is None:
            known = self._fingerprints[number] = self.expected.fingerprint(number)
        return known

    # ---- the walk upstream ----

    def _descend(self, level: Sequence[_Key]) -> set[_Key]:
        """Find the nodes to be judged, each level with one call of the storage."""
        found: set[_Key] = set()
        while level:
            level = [key for key in dict.fromkeys(level) if key not in self._effective]
            found.update(level)
            order = self.graph.order
            values = [order[number] for number, instance in level if not instance]
            self.stored.read([node.name for node in values if self.is_stored(node)])
            level = [key for each in level for key in self._upstream_of(*each) if key not in found]
        return found

    def _upstream_of(self, number: int, instance: bool) -> list[_Key]:  # noqa: FBT001
        """The parents on which the verdict of a node depends."""
        node = self.graph.order[number]
        made = self.instance_parents(node)
        stored = None if instance else self.stored_at(number)
        if stored is None:
            return [(parent, parent in made) for parent in node.parents]
        if stored.fingerprint is None or self._is_fresh(number, stored.fingerprint):
            return []
        return [
            (parent, parent in made)
            for parent, before in self.inputs(node, stored.fingerprint)
            if before != self.expected.derivation(parent)
        ]

    def _is_fresh(self, number: int, fingerprint: Fingerprint) -> bool:
        return fingerprint.derivation == self.expected.derivation(number)

    # ---- verdicts ----

    def _evaluate(self, key: _Key) -> None:
        number, instance = key
        node = self.graph.order[number]
        stored = None if instance else self.stored_at(number)
        if stored is None:
            verdict = self._inherited(node)._replace(outcome="compute")
        else:
            verdict = self._judge(node, stored)
        (self._instances if instance else self._verdicts)[number] = verdict
        self._effective[key] = self._effective_of(node, stored, verdict)

    def _effective_of(
        self, node: GraphNode, stored: StoredFingerprint | None, verdict: Verdict
    ) -> Derivations:
        if stored is None or verdict.outcome != "load":
            return self._derived(node)
        if stored.fingerprint is None:
            graph = self.expected.graph_derivation(node.number)
            return Derivations(stored.without_fingerprint, graph)
        return Derivations(stored.fingerprint.derivation, stored.fingerprint.graph_derivation)

    def _derived(self, node: GraphNode) -> Derivations:
        return self.derive(node, self._parents_effective(node))

    def _parents_effective(self, node: GraphNode) -> dict[int, Derivations]:
        made = self.instance_parents(node)
        return {parent: self.effective(parent, instance=parent in made) for parent in node.parents}

    def _judge(self, node: GraphNode, stored: StoredFingerprint) -> Verdict:
        fingerprint, number = stored.fingerprint, node.number
        if fingerprint is None:
            return _UNKNOWN
        if self._is_fresh(number, fingerprint):
            return _UNKNOWN if self.expected.is_unknown(number) else FRESH
        return self._compare(node, fingerprint)

    def _compare(self, node: GraphNode, fingerprint: Fingerprint) -> Verdict:
        """The verdict on a result whose derivation is not the expected one."""
        expected = self.fingerprint(node.number)
        if not same_graph_parts(fingerprint, expected):
            return self._react(node, "graph", own=True)
        changed = self._changed_parents(node, fingerprint)
        own_code = not same_code(fingerprint, expected)
        if changed and self._differs_by_graph(node, fingerprint, changed):
            return self._with_upstream(node, fingerprint, changed, own_code=own_code)
        if own_code or changed:
            return self._react(node, "code", own=own_code, parents=changed)
        return self._consistent(node, fingerprint)

    def _react(
        self,
        node: GraphNode,
        difference: Difference,
        *,
        own: bool = False,
        parents: Sequence[int] = (),
    ) -> Verdict:
        reaction = self._policies.of(node.name, difference)
        outcome: Final = "compute" if reaction == "recompute" else "load"
        return Verdict(outcome, difference, reaction, own, tuple(parents))

    def _changed_parents(self, node: GraphNode, fingerprint: Fingerprint) -> list[int]:
        """The parents that have another derivation in this run than when the node was computed."""
        made, changed = self.instance_parents(node), []
        for parent, before in self.inputs(node, fingerprint):
            now = self.effective(parent, instance=parent in made).derivation
            if before not in (now, self.expected.derivation(parent)):
                changed.append(parent)
        return changed

    def _differs_by_graph(
        self, node: GraphNode, fingerprint: Fingerprint, changed: Sequence[int]
    ) -> bool:
        """Tell whether changed parents differ by what is written in the graph, or are computed again."""
        if any(self._is_replaced(node, parent) for parent in changed):
            return True
        graph = self.graph_derivation(node, self._parents_effective(node))
        before = fingerprint.graph_derivation
        return before not in (graph, self.expected.graph_derivation(node.number))

    def _is_replaced(self, node: GraphNode, parent: int) -> bool:
        """Tell whether a stored parent, needed for its value, is computed again."""
        verdict = self._verdicts.get(parent)
        if verdict is None or parent in self.instance_parents(node):
            return False
        return verdict.outcome != "load" and self.stored_at(parent) is not None

    def _with_upstream(
        self, node: GraphNode, fingerprint: Fingerprint, changed: Sequence[int], *, own_code: bool
    ) -> Verdict:
        """The verdict on a node whose values upstream differ by what is written in the graph."""
        verdict = self._react(node, "graph", parents=changed)
        if verdict.outcome == "load":
            return verdict
        code = self._policies.of(node.name, "code") if own_code else None
        keeps = code not in ("recompute", "error") and all(
            self._may_stay(node, fingerprint, parent) for parent in changed
        )
        outcome: Final = "maybe" if keeps else "compute"
        return verdict._replace(outcome=outcome, own=own_code)

    def _may_stay(self, node: GraphNode, fingerprint: Fingerprint, parent: int) -> bool:
        """Tell whether a node was computed from the file of a parent that is replaced, if its value has a digest."""
        if not self._is_replaced(node, parent):
            return False
        stored = self.stored_at(parent)
        if stored is None or stored.fingerprint is None or stored.digest is None:
            return False
        before = dict(self.inputs(node, fingerprint))[parent]
        return before == stored.fingerprint.derivation

    def _consistent(self, node: GraphNode, fingerprint: Fingerprint) -> Verdict:
        """The verdict on a node that was computed from the results that this run would load for it."""
        verdict = self._inherited(node)
        if verdict.stale is not None and verdict.reaction is not None:
            reaction = self._policies.of(node.name, verdict.stale)
            # to compute it again would change nothing
            return (
                verdict
                if reaction in ("recompute", "warn")
                else verdict._replace(reaction=reaction)
            )
        if verdict.unknown or verdict.parents or not fingerprint.code:  # parts of it were accepted
            return verdict
        expected = self.expected.graph_derivation(node.number)
        same_graph = fingerprint.graph_derivation == expected
        return self._react(node, "code" if same_graph else "graph", own=True)

    def _inherited(self, node: GraphNode) -> Verdict:
        """The verdict on a result that is computed from those that this run loads: stale or unknown, as these are."""
        made, found = self.instance_parents(node), dict[int, Verdict]()
        for parent, used in self._parents_effective(node).items():
            if not self.is_expected(parent, used):
                known = self._instances if parent in made else self._verdicts
                found[parent] = known.get(parent, FRESH)
        for difference in _DIFFERENCES:
            stale = {p: verdict for p, verdict in found.items() if verdict.stale == difference}
            if stale:
                silent = all(verdict.reaction == "ignore" for verdict in stale.values())
                return Verdict(
                    "load", difference, "ignore" if silent else "warn", parents=tuple(stale)
                )
        unknown = any(verdict.unknown for verdict in found.values())
        return Verdict("load", parents=tuple(found), unknown=unknown)


def same_graph_parts(stored: Fingerprint, expected: Fingerprint) -> bool:
    """Tell whether two fingerprints agree in what is written in the graph about the node itself.

    In `arguments` nodes count by their position, so the names in `structure` are not compared.
    """
    return (
        next(replaced_names(stored, expected), None) is None
        and [*stored.arguments.items()]
        == [*expected.arguments.items()]  # a function sees their order
        and stored.seed == expected.seed
        and len(stored.upstream) == len(expected.upstream)
    )
