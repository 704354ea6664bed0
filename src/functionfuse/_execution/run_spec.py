"""Run specification: a graph with the storage, plugins, options and observers of one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from functionfuse._common.process_identity import this_process
from functionfuse._kernel.seeding import NodeSeeding
from functionfuse._provenance.policy import ProvenanceOptions
from functionfuse.options import for_run
from functionfuse.plan import Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence

    from functionfuse._graph.graph import Graph
    from functionfuse._provenance.run_provenance import RunProvenance
    from functionfuse.events import Observer
    from functionfuse.options import Plugin
    from functionfuse.storage.base import Results

__all__ = ["OnError", "OnMutation", "RunSpec"]

OnError = Literal["raise", "continue"]
#: What happens when a node changes a value that others have: "warn" looks only where that costs little.
OnMutation = Literal["raise", "warn", "ignore"]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that a run depends on, apart from the engine."""

    graph: Graph
    workflow: str
    results: Results | None = None
    always_run: Collection[str] = frozenset()  # nodes that always run and are never stored
    plugins: Mapping[str, Plugin] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the engine's, by node
    observers: Sequence[Observer] = ()
    on_error: OnError = "raise"
    max_in_flight: int = 0  # the most units in flight; 0: no limit but the engine's
    fetch_targets: bool = True  # else the targets' values stay in the storage
    mutation: OnMutation = "warn"
    read_only: bool = False  # nodes take arrays and frames read-only
    seeds: Mapping[str, int] = field(default_factory=dict)  # by node
    node_seeds: Mapping[str, int] = field(default_factory=dict)  # of these, those of `set_seed`
    provenance_options: ProvenanceOptions = field(default_factory=ProvenanceOptions)

    def plan(self) -> Plan:
        """Plan a run by the results that are stored now."""
        stored, wanted = self.stored(), None
        provenance = self.provenance(stored)
        if not self.fetch_targets:
            wanted = [
                ref
                for ref in self.graph.targets
                if ref.node not in stored or (provenance and not provenance.may_load(ref.number))
            ]
        unknown = "the storage keeps no fingerprints" if self.results and not provenance else ""
        return make_plan(
            self.graph, stored, self.always_run, wanted, provenance=provenance, unknown=unknown
        )

    def provenance(self, stored: Container[str]) -> RunProvenance | None:
        """The provenance of a run that begins now; None without a storage that keeps fingerprints.

        Args:
            stored: The names of the stored results.
        """
        if self.results is None or not self.results.has_fingerprints:
            return None
        from functionfuse._provenance.run_provenance import RunProvenance  # only with a storage

        return RunProvenance.of_graph(
            self.graph,
            self.results,
            stored,
            self.seeds,
            self.provenance_options,
            self.always_run,
        )

    def stored(self) -> Container[str]:
        """The names of the results that are stored now."""
        return self.results.names() if self.results else frozenset()

    def setups(self, *, inline: bool) -> dict[str, Callable[[], object] | NodeSeeding | None]:
        """Prepare the plugins; return how workers set up each node.

        Plugins are called for *every* node in graph order, so that a seed never depends on stored results.

        Args:
            inline: The engine runs one node after the other, in this thread.
        """
        fresh = {id(plugin): for_run(plugin) for plugin in self.plugins.values()}
        threads_of = "" if inline or self.max_in_flight == 1 else this_process()
        setups: dict[str, Callable[[], object] | NodeSeeding | None] = {}
        for name in self.graph.nodes if self.plugins or self.node_seeds else ():
            call = None
            if name in self.plugins:
                plugin = fresh[id(self.plugins[name])]
                plugin.local_initialize()
                setups[name] = call = plugin.remote_initialize()
            if name in self.node_seeds or getattr(call, "seed", None) is not None:
                setups[name] = NodeSeeding(name, self.node_seeds.get(name), call, threads_of)
        return setups
