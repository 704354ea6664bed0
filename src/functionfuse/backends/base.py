"""Workflow base class: the API that all backends have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

from functionfuse._common.validation import validate_names
from functionfuse._context.event_loop import EventLoopScope
from functionfuse._execution.durations import expected_seconds
from functionfuse._execution.interruption import SignalScope
from functionfuse._execution.run_spec import RunSpec
from functionfuse._execution.scheduler import Scheduler
from functionfuse._execution.whole_graph import WholeGraphRun, can_run_whole_graph
from functionfuse._graph.builder import LazyGraph, build
from functionfuse._graph.changed_objects import forget_objects
from functionfuse._graph.fusion import fuse_short_nodes
from functionfuse._graph.scopes import open_scopes, release_nodes
from functionfuse._graph.seed_rules import SeedRule, check_key, seeds_by_rule, validated_root
from functionfuse._graph.seeded_graph import bind_seeds
from functionfuse._provenance.policy import ProvenanceOptions
from functionfuse.backends.plugins import PluginCollection
from functionfuse.backends.plugins.seeds import combined_seeds
from functionfuse.backends.provenance import StaleQuery, StaleResults, announce_stale
from functionfuse.errors import GraphError, OptionError
from functionfuse.observers.report import Report
from functionfuse.options import Options, Plugin, compile_pattern, select
from functionfuse.storage.base import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import TypeVar as TypeVarWithDefault

    from functionfuse._execution.run_spec import OnError
    from functionfuse._graph.graph import Graph
    from functionfuse._graph.placeholder import Placeholder
    from functionfuse._provenance.policy import OnStale
    from functionfuse.engine import Engine
    from functionfuse.events import Observer
    from functionfuse.plan import Plan

__all__ = ["Query", "Workflow"]

_STORAGE_METHODS = ("save", "read_task")
_DEBUG = "FUNCTIONFUSE_DEBUG"  # the environment variable that enables checks for all runs
_OFF = ("", "0")


class Query(StaleQuery):
    """The nodes that match a pattern; its methods set their options."""

    def __init__(self, names: Sequence[str], options: Options) -> None:  # noqa: D107
        self.names = names
        self._options = options

    def set_plugin(self, plugin: Plugin) -> Self:
        """Set the plugin that prepares the process before each of these nodes.

        Raises:
            OptionError: The object does not implement the plugin protocol.
        """
        if not isinstance(plugin, Plugin):
            message = f"{plugin!r} does not implement the plugin protocol: local_initialize(), remote_initialize()"
            raise OptionError(message)
        self._options.set("plugin", self.names, plugin)
        return self

    def set_plugins(self, plugins: Sequence[Plugin]) -> Self:
        """Set several plugins, which prepare the process in this order."""
        return self.set_plugin(PluginCollection(plugins))

    def set_seed(self, seed: int | None, key: str | None = None) -> Self:
        r"""Give each of these nodes a seed of its own, derived from this one and the node's name.

        Args:
            seed: Any integer. None: the nodes have no seed.
            key: A regular expression that matches each name in full, with groups: nodes with equal groups share a seed.
                With `key=r"fit-.*-(\d+)"`, all models of one repetition have the same one.

        Raises:
            OptionError: The seed is not an integer; the key has no group, or does not match a name.
        """
        rule = None if seed is None else SeedRule(validated_root(seed), compile_pattern(key))
        if rule is not None and rule.key is not None:
            check_key(rule.key, self.names)
        self._options.set("seed", self.names, rule)
        return self

    def fuse(self) -> Self:
        """Fuse these nodes into task groups, as few as their order allows; the engine runs a group as one unit.

        Every node keeps its name, its stored result and its row in the report.
        Nodes with different options or plugins are not fused; a run with `on_error="continue"` fuses no nodes.
        """
        self._options.set("fuse", self.names, True)  # noqa: FBT003
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.names)} nodes>"


Q = TypeVar("Q", bound=Query)
if TYPE_CHECKING:  # `LocalWorkflow` alone, as an annotation, is a workflow of anything
    ResultT = TypeVarWithDefault("ResultT", default=Any)
else:
    ResultT = TypeVar("ResultT")


class Workflow(StaleResults, Generic[Q, ResultT]):
    """A graph with its options and a way to run it.

    For type checkers `ResultT` is the type of the result of `run()`; the overloads of `__init__` infer it from the targets.
    A subclass whose `__init__` has more parameters repeats the overloads, with the subclass as the type of `self`.
    """

    _query: ClassVar[type[Query]]
    _option: ClassVar[str] = ""  # the kind of node options that the engine takes

    @overload
    def __init__(
        self: Workflow[Q, ResultT],
        node: Placeholder[ResultT],
        /,
        *,
        workflow_name: str,
        read_only: bool = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: Workflow[Q, list[Any]], *nodes: Any, workflow_name: str, read_only: bool = ...
    ) -> None: ...
    def __init__(self, *nodes: Any, workflow_name: str, read_only: bool = False) -> None:
        """Create a workflow of the targets and their transitive dependencies.

        Args:
            nodes: The targets: nodes, items of nodes, instances of decorated classes.
            workflow_name: The name under which results are stored and runs are shown.
            read_only: Nodes take arrays and frames read-only: writing to one is an error.

        Raises:
            NotANodeError: A target is not a node, item or instance.
            DuplicateNameError: Two nodes have the same name.
        """
        if not isinstance(workflow_name, str) or not workflow_name:
            message = f"workflow_name must be a non-empty string, not {workflow_name!r}"
            raise GraphError(message)
        self.workflow_name = workflow_name
        self.read_only = read_only
        self._graph: Graph = build(nodes)
        self._options = Options()
        self._always_running: dict[str, None] = {}
        self._results: Results | None = None
        self._stale_options = ProvenanceOptions()
        self._observers: list[Observer] = []
        self._report: Report | None = None

    # ---- the graph ----

    @property
    def graph(self) -> Graph:
        """The graph; notebooks show it as a picture."""
        return self._graph

    def find_nodes(self, pattern: str | None = None) -> list[str]:
        """The names of nodes that match a regular expression in full, in graph order."""
        return select(self._graph, pattern, stacklevel=2)

    def replace_func(self, name: str, func: Callable[..., Any]) -> None:
        """Replace the function of a node, in this workflow only.

        Raises:
            GraphError: No node has this name.
            TypeError: The function cannot take the node's arguments.
        """
        self._graph = self._graph.replace_func(name, func)

    def transform_graph(self, function: Callable[[Graph], Graph]) -> None:
        """Replace the graph, in this workflow only, by the result of a function; `compare` uses it.

        Args:
            function: Returns a new graph with the same node names.
        """
        self._graph = function(self._graph)

    # ---- options of nodes ----

    def query(self, pattern: str | None = None) -> Q:
        """Select the nodes whose full names match a regular expression, to set their options.

        Raises:
            OptionError: The pattern is not a valid regular expression.
        """
        names = select(self._graph, pattern, stacklevel=2)
        return self._query(names, self._options)  # type: ignore[return-value]

    def set_plugin(self, pattern: str | None, plugin: Plugin) -> None:
        """Set the plugin that prepares the process before each node that matches a pattern."""
        Query(select(self._graph, pattern, stacklevel=2), self._options).set_plugin(plugin)

    def set_seed(self, seed: int | None) -> None:
        """Give each node a seed of its own, derived from this one and the node's name.

        A node has the same seed on every backend, whatever other nodes there are and what is stored.
        Functions take it as `seed=SEED`, or as a generator, `rng=RNG`; see `Query.set_seed`.

        Raises:
            OptionError: The seed is not an integer.
        """
        Query(list(self._graph.nodes), self._options).set_seed(seed)

    def always_run(self, pattern: str | None) -> None:
        """Compute the nodes that match a pattern in every run, and never store them.

        For nodes with side effects, which print, plot or send.
        """
        self._always_running.update(dict.fromkeys(select(self._graph, pattern, stacklevel=2)))

    log_nodes = always_run  # the published name

    def set_storage(
        self,
        storage: Any,
        on_stale: OnStale | None = None,
        code_roots: Iterable[str] = (),
        ignore: Iterable[str] = (),
    ) -> None:
        """Save each result when its node finishes, and load stored results instead of computing them.

        Args:
            storage: A path, a URL or a mapping, as `storage_factory` takes them;
                or any object with `save`, `read_task` and `always_read`. None removes the storage.
            on_stale: What a run does with a stored result that is stale: "recompute", "warn" (load it),
                "ignore" (load it without a word) or "error". A dict has one for "graph", which is everything
                that is written in the graph, and one for "code"; by default these are "recompute" and "warn".
            code_roots: Folders and packages whose code counts as the project's, besides the script's own.
            ignore: Qualified names of functions and globals whose changes do not count: `["proj.utils._CACHE"]`.

        Raises:
            OptionError: The object lacks `save` or `read_task`, or `storage_factory` refuses the configuration,
                or an option is invalid.
        """
        self._set_stale_options(on_stale, code_roots, ignore)
        missing = [method for method in _STORAGE_METHODS if not hasattr(storage, method)]
        if isinstance(storage, str | os.PathLike | Mapping) and missing:
            from functionfuse.storage.factory import storage_factory  # with all kinds of storages

            storage, missing = storage_factory(storage), []
        if storage is not None and missing:
            message = (
                f"{storage!r} does not implement the storage protocol: missing {', '.join(missing)}"
            )
            raise OptionError(message)
        self._results = None if storage is None else Results(storage, self.workflow_name)

    def add_observer(self, observer: Observer) -> None:
        """Call an observer with every event of a run; an exception of an observer is logged and never fails the run."""
        self._observers.append(observer)

    # ---- running ----

    def plan(self) -> Plan:
        """The nodes that a run would now compute, load and skip, with reasons."""
        return self._run_spec("raise").plan()

    @property
    def report(self) -> Report | None:
        """The report of the last run; None before the first."""
        return self._report

    def run(self, *, on_error: OnError = "raise", check_mutation: bool | None = None) -> ResultT:
        """Compute the targets.

        Args:
            on_error: After the first failure, `"raise"` submits no more nodes and waits for those in flight;
                `"continue"` first runs all nodes that do not depend on the failed one.
            check_mutation: True fails a node that changes a value in place that others have, too.
                None does so if the environment has `FUNCTIONFUSE_DEBUG=1`; otherwise it looks for such nodes
                only where that takes less than a twentieth of their time, and warns. False does not look.

        Returns:
            The value of the target, or the list of values of several targets in their order.

        Raises:
            MutationError: A node changed a value that others have, too.
            BaseException: The first failure, with its own type; a note names the node.
            SystemExit: SIGTERM or SIGHUP arrived in the main thread, and you have not set a handler for it.
        """
        validate_names([on_error], ("raise", "continue"), "value of on_error")
        with SignalScope():
            result: ResultT = self._run(self._checked_spec(on_error, check_mutation=check_mutation))
        return result

    def _checked_spec(self, on_error: OnError, *, check_mutation: bool | None) -> RunSpec:
        forget_objects()
        spec = self._run_spec(on_error)
        if check_mutation is None:
            return spec
        return replace(spec, mutation="raise" if check_mutation else "ignore")

    def _run(self, spec: RunSpec) -> Any:
        engine = self._engine()
        return engine.drive(lambda: self._execute(spec, engine))

    def _execute(self, spec: RunSpec, engine: Engine[Any]) -> Any:
        with EventLoopScope():
            return self._execute_graph(spec, engine)

    def _execute_graph(self, spec: RunSpec, engine: Engine[Any]) -> Any:
        whole = can_run_whole_graph(spec, engine)
        run = WholeGraphRun(spec) if whole else Scheduler(spec, engine)
        announce_stale(spec, run.plan)
        try:
            values = run.execute()
        finally:
            self._report = Report(spec.workflow, run.plan, run.records, run.kept, spec.seeds)
        return values[0] if len(values) == 1 else values

    def _engine(self) -> Engine[Any]:
        raise NotImplementedError

    def _run_spec(self, on_error: OnError) -> RunSpec:
        if open_scopes and isinstance(self._graph, LazyGraph):  # a node runs this workflow
            release_nodes(self._graph.collected.nodes)
        seeds, plugins = seeds_by_rule(self._options.of("seed")), self._options.of("plugin")
        return RunSpec(
            bind_seeds(self._fuse_graph(), seeds, self.workflow_name),
            self.workflow_name,
            self._results,
            frozenset(self._always_running),
            plugins,
            self._options.of(self._option),
            tuple(self._observers),
            on_error,
            mutation="raise" if os.environ.get(_DEBUG, "0") not in _OFF else "warn",
            read_only=self.read_only,
            provenance_options=self._provenance_options(),
            seeds=combined_seeds(self._graph.nodes, seeds, plugins) if seeds or plugins else seeds,
            node_seeds=seeds,
        )

    def _fuse_graph(self) -> Graph:
        asked = [name for name in self._options.of("fuse") if self._may_fuse(name)]
        threshold = self._fusion_threshold()
        if not asked and threshold is None:
            return self._graph
        given = [self._options.of(kind) for kind in ("plugin", self._option)]
        kinds = {
            name: tuple(id(values.get(name)) for values in given) for name in self._graph.nodes
        }
        graph = self._graph.fuse(asked, kinds)
        if threshold is None:
            return graph
        durations = self._report.durations if self._report else {}
        seconds = expected_seconds(graph, durations, self._results)
        cheap = {
            name: taken for name, taken in seconds.items() if self._may_fuse_automatically(name)
        }
        return fuse_short_nodes(graph, cheap, kinds, threshold)

    def _fusion_threshold(self) -> float | None:
        """The seconds below which nodes are fused automatically; None disables that."""
        return None

    def _may_fuse(self, name: str) -> bool:  # noqa: ARG002 - for backends
        """Whether the engine can run a node in a task group."""
        return True

    def _may_fuse_automatically(self, name: str) -> bool:
        """Whether a node behaves the same in a task group, whatever its options."""
        return self._may_fuse(name)
