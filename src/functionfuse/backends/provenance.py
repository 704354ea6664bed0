"""Provenance API of workflows: what to do with stale results, explain, accept and forget them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from functionfuse._common.validation import validate_names
from functionfuse._provenance.policy import (
    ProvenanceOptions,
    StalePolicies,
    reactions,
    validated_names,
)
from functionfuse.errors import GraphError, OptionError
from functionfuse.options import Options, select
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from functionfuse._execution.run_spec import OnError, RunSpec
    from functionfuse._graph.graph import Graph
    from functionfuse._provenance.explanation import Explanation
    from functionfuse._provenance.policy import Difference, OnStale
    from functionfuse._provenance.run_provenance import RunProvenance
    from functionfuse.plan import Plan
    from functionfuse.storage.base import Results

__all__ = ["StaleQuery", "StaleResults", "announce_stale"]

_DIFFERENCES: tuple[Difference, ...] = ("graph", "code")


class StaleQuery:
    """Part of a query: what a run does with stale results of the nodes."""

    names: Sequence[str]
    _options: Options

    def set_on_stale(self, on_stale: OnStale) -> Self:
        """Set what a run does with stale results of these nodes; a later rule wins.

        Args:
            on_stale: "recompute", "warn", "ignore" or "error", or a dict of these for "graph" and "code",
                see `set_storage`.

        Raises:
            OptionError: It is something else.
        """
        for difference, reaction in reactions(on_stale).items():
            self._options.set(f"stale {difference}", self.names, reaction)
        return self


class StaleResults:
    """Part of a workflow: stored results that are stale."""

    workflow_name: str
    _graph: Graph
    _options: Options
    _results: Results | None
    _stale_options: ProvenanceOptions

    def explain(self, name: str) -> Explanation:
        """Explain what a run would do with a node and why: what its stored result was made of, and what differs.

        Raises:
            GraphError: No node has this name.
            OptionError: No storage is set, or it keeps no fingerprints.
        """
        from functionfuse._provenance.explanation import explain

        if name not in self._graph.nodes:
            message = f"there is no node {name!r} in workflow {self.workflow_name!r}"
            raise GraphError(message)
        plan = self._run_spec("raise").plan()
        if plan.provenance is None:
            raise self._no_fingerprints(self.explain)
        planned, number = plan[name], plan.graph.nodes[name].number
        plan.provenance.judge((number,))
        return explain(plan.provenance, number, planned.action.value, plan[name].reason)

    def accept(self, pattern: str | None, cause: str | None = None) -> list[str]:
        """Let stale stored results count as fresh, without computing them.

        Their dependents that are stale for no other reason count as fresh, too.

        Args:
            pattern: A regular expression that matches the full names of the nodes; None matches all.
            cause: The qualified name of a function, class or global: accept only what is stale
                because of this one alone.

        Returns:
            The names of the nodes that were accepted, with such dependents, in graph order.

        Raises:
            OptionError: No storage is set, or it keeps no fingerprints, or the pattern is invalid,
                or no node has code of the name `cause`.
        """
        from functionfuse._provenance.acceptance import Acceptance

        selected = frozenset(select(self._graph, pattern, stacklevel=2))
        spec = self._run_spec("raise")
        provenance = spec.provenance(spec.stored())
        if provenance is None or spec.results is None:
            raise self._no_fingerprints(self.accept)
        acceptance = Acceptance(provenance.staleness, selected, cause)
        found = acceptance.fingerprints()
        if not found:
            if cause is not None:
                validate_names([cause], acceptance.part_names(), "cause")
            return []
        spec.results.save_sources(provenance.code_texts())
        numbers = {name: self._graph.nodes[name].number for name in found}
        headers = {name: provenance.header(number) for name, number in numbers.items()}
        stamps = {name: fingerprint.to_header() for name, fingerprint in found.items()}
        stamped = frozenset(spec.results.stamp(stamps, headers))
        return [name for name in found if name in stamped and acceptance.is_complete(numbers[name])]

    def forget(self, pattern: str | None, *, downstream: bool = True) -> list[str]:
        """Remove stored results: the next run computes the nodes again.

        Args:
            pattern: A regular expression that matches the full names of the nodes; None matches all.
            downstream: Remove the results of all nodes downstream of them, too.

        Returns:
            The names of the removed results, in graph order.

        Raises:
            OptionError: No storage is set, or it cannot remove results, or the pattern is invalid.
        """
        names = select(self._graph, pattern, stacklevel=2)
        if self._results is None:
            raise self._no_fingerprints(self.forget)
        wanted = self.find_downstream(names) if downstream else names
        removed = frozenset(self._results.remove(wanted))
        return [name for name in wanted if name in removed]

    def find_downstream(self, names: Iterable[str]) -> list[str]:
        """The names of some nodes and of all nodes downstream of them, in graph order; other names do not count."""
        nodes = self._graph.nodes
        found = {nodes[name].number for name in names if name in nodes}
        for node in self._graph:
            if not found.isdisjoint(node.parents):
                found.add(node.number)
        return [node.name for node in self._graph if node.number in found]

    def _no_fingerprints(self, method: Callable[..., Any]) -> OptionError:
        name = method.__name__
        if self._results is None:
            return OptionError(f"{name}() is about stored results: call set_storage first")
        return OptionError(
            f"{name}() compares fingerprints, and {self._results!r} keeps none: "
            "use a storage of storage_factory"
        )

    def _set_stale_options(
        self, on_stale: OnStale | None, code_roots: Iterable[str], ignore: Iterable[str]
    ) -> None:
        policies = StalePolicies()
        if on_stale is not None:
            policies = StalePolicies({**policies.defaults, **reactions(on_stale)})
        self._stale_options = ProvenanceOptions(
            policies,
            _existing_roots(validated_names(code_roots, "code_roots")),
            frozenset(validated_names(ignore, "ignore")),
        )

    def _provenance_options(self) -> ProvenanceOptions:
        rules = {each: self._options.of(f"stale {each}") for each in _DIFFERENCES}
        return self._stale_options.with_rules(rules)

    def _run_spec(self, on_error: OnError) -> RunSpec:
        raise NotImplementedError


def _existing_roots(code_roots: Sequence[str]) -> tuple[str, ...]:
    """The folders and files of code roots; relative paths are those of now.

    Raises:
        OptionError: There is none of this name.
    """
    if not code_roots:
        return ()
    from functionfuse._provenance.project_border import code_root  # late: few use it

    return tuple(map(code_root, code_roots))


def announce_stale(spec: RunSpec, plan: Plan) -> None:
    """Before a run begins: warn of stale results that it uses, and store the texts of the code.

    Raises:
        StaleResultError: A stale result is an error by `on_stale`.
    """
    provenance = plan.provenance
    if provenance is None or spec.results is None:
        return
    from functionfuse._provenance.announcement import announce

    actions = list(plan.actions.values())
    used = _used_results(spec.graph, actions, provenance)
    computed = [number for number, action in enumerate(actions) if action is Action.COMPUTE]
    announce(spec.workflow, provenance, used, computed)
    if computed or Action.MAYBE in actions:
        spec.results.save_sources(provenance.code_texts())


def _used_results(
    graph: Graph, actions: Sequence[Action], provenance: RunProvenance
) -> Iterable[int]:
    """The nodes whose stored results the run uses, also in results that it may keep."""
    used = {ref.number for ref in graph.targets if actions[ref.number] is Action.SKIP}
    for number, action in enumerate(actions):
        if action in (Action.LOAD, Action.MAYBE):
            used.add(number)
        if action is Action.MAYBE:
            node = graph.order[number]
            used.update({*node.parents} - {*provenance.staleness.instance_parents(node)})
    return sorted(used)
