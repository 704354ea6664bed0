"""The facade that every backend's users call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

from functionfuse._common.validation import validate_names
from functionfuse._execution.durations import expected_seconds
from functionfuse._execution.run_spec import RunSpec
from functionfuse._execution.scheduler import Scheduler
from functionfuse._execution.whole_graph import WholeGraphRun, can_run_whole_graph
from functionfuse._graph.builder import build
from functionfuse._graph.fusion import fuse_short_nodes
from functionfuse.backends.plugins import PluginCollection
from functionfuse.errors import GraphError, OptionError
from functionfuse.observers.report import Report
from functionfuse.options import Options, Plugin, select
from functionfuse.storage.base import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import TypeVar as TypeVarWithDefault

    from functionfuse._execution.run_spec import OnError
    from functionfuse._graph.graph import Graph
    from functionfuse._graph.nodes import Placeholder
    from functionfuse.engine import Engine
    from functionfuse.events import Observer
    from functionfuse.plan import Plan

__all__ = ["Query", "Workflow"]

_STORAGE_METHODS = ("save", "read_task")


class Query:
    """The nodes that a pattern matched, to be given options."""

    def __init__(self, names: Sequence[str], options: Options) -> None:  # noqa: D107
        self.names = names
        self._options = options

    def set_plugin(self, plugin: Plugin) -> Self:
        """Prepare the process before each of these nodes.

        Raises:
            OptionError: It is no plugin.
        """
        if not isinstance(plugin, Plugin):
            message = (
                f"{plugin!r} is no plugin: it needs local_initialize() and remote_initialize()"
            )
            raise OptionError(message)
        self._options.set("plugin", self.names, plugin)
        return self

    def set_plugins(self, plugins: Sequence[Plugin]) -> Self:
        """Prepare the process with several plugins, in this order."""
        return self.set_plugin(PluginCollection(plugins))

    def fuse(self) -> Self:
        """Run these nodes together, in as few units of the engine as their order allows.

        Each keeps its name, its stored result and its line in the report.
        Nodes with different options or plugins stay apart, and a run with `on_error="continue"` fuses none.
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


class Workflow(Generic[Q, ResultT]):
    """A graph, what its nodes were given, and a way to run it.

    For type checkers `ResultT` is what `run()` returns; the overloads of `__init__` infer it from the targets.
    A subclass with parameters of its own repeats them, with its own class as the type of `self`.
    """

    _query: ClassVar[type[Query]]
    _option: ClassVar[str] = ""  # the kind of option that the engine takes for a node

    @overload
    def __init__(
        self: Workflow[Q, ResultT], node: Placeholder[ResultT], /, *, workflow_name: str
    ) -> None: ...
    @overload
    def __init__(self: Workflow[Q, list[Any]], *nodes: Any, workflow_name: str) -> None: ...
    def __init__(self, *nodes: Any, workflow_name: str) -> None:
        """Make a workflow of everything that some nodes need.

        Args:
            nodes: The targets: nodes, items of nodes, instances of decorated classes.
            workflow_name: The name under which results are stored and runs are shown.

        Raises:
            NotANodeError: A target is something else.
            DuplicateNameError: Two nodes have one name.
        """
        if not isinstance(workflow_name, str) or not workflow_name:
            message = f"workflow_name is a string that is not empty, not {workflow_name!r}"
            raise GraphError(message)
        self.workflow_name = workflow_name
        self._graph: Graph = build(nodes)
        self._options = Options()
        self._always_run: dict[str, None] = {}
        self._results: Results | None = None
        self._observers: list[Observer] = []
        self._report: Report | None = None

    # ---- the graph ----

    @property
    def graph(self) -> Graph:
        """The graph; a picture in notebooks."""
        return self._graph

    def find_nodes(self, pattern: str | None = None) -> list[str]:
        """The names that a regular expression matches in full, in graph order."""
        return select(self._graph, pattern, stacklevel=2)

    def replace_func(self, name: str, func: Callable[..., Any]) -> None:
        """Put another function in a node's place, in this workflow only.

        Raises:
            GraphError: There is no such node.
            TypeError: The function cannot take the node's arguments.
        """
        self._graph = self._graph.replace_func(name, func)

    # ---- what nodes are given ----

    def query(self, pattern: str | None = None) -> Q:
        """The nodes whose names a regular expression matches in full, to be given options.

        Raises:
            OptionError: It is no regular expression.
        """
        names = select(self._graph, pattern, stacklevel=2)
        return self._query(names, self._options)  # type: ignore[return-value]

    def set_plugin(self, pattern: str | None, plugin: Plugin) -> None:
        """Prepare the process before each node that the pattern matches."""
        Query(select(self._graph, pattern, stacklevel=2), self._options).set_plugin(plugin)

    def log_nodes(self, pattern: str | None) -> None:
        """Let nodes always run and never be stored: those that print, plot or send."""
        self._always_run.update(dict.fromkeys(select(self._graph, pattern, stacklevel=2)))

    def set_storage(self, storage: Any) -> None:
        """Save each result as soon as it is there, and read what is stored instead of computing it.

        Args:
            storage: Of `storage_factory`, or any object with `save`, `read_task` and `always_read`.
                None takes the storage away.

        Raises:
            OptionError: It cannot save or read.
        """
        missing = [method for method in _STORAGE_METHODS if not hasattr(storage, method)]
        if storage is not None and missing:
            message = f"{storage!r} is no storage: it has no {' and no '.join(missing)}"
            raise OptionError(message)
        self._results = None if storage is None else Results(storage, self.workflow_name)

    def add_observer(self, observer: Observer) -> None:
        """Call something with every event of a run; what it raises is logged and fails nothing."""
        self._observers.append(observer)

    # ---- running ----

    def plan(self) -> Plan:
        """What a run would compute, load and skip now, and why."""
        return self._run_spec("raise").plan()

    @property
    def report(self) -> Report | None:
        """What became of each node in the last run; None before."""
        return self._report

    def run(self, *, on_error: OnError = "raise") -> ResultT:
        """Compute the targets.

        Args:
            on_error: After the first failure, `"raise"` starts nothing new and lets what is running end;
                `"continue"` lets everything that does not depend on the failed node end first.

        Returns:
            The value of the target; for several targets a list, in their order.

        Raises:
            BaseException: The first failure, as the user's function raised it, with the node in a note.
        """
        validate_names([on_error], ("raise", "continue"), "value of on_error")
        result: ResultT = self._run(self._run_spec(on_error))
        return result

    def _run(self, spec: RunSpec) -> Any:
        engine = self._engine()
        return engine.drive(lambda: self._execute(spec, engine))

    def _execute(self, spec: RunSpec, engine: Engine[Any]) -> Any:
        whole = can_run_whole_graph(spec, engine)
        run = WholeGraphRun(spec) if whole else Scheduler(spec, engine)
        try:
            values = run.execute()
        finally:
            self._report = Report(spec.workflow, run.plan, run.records)
        return values[0] if len(values) == 1 else values

    def _engine(self) -> Engine[Any]:
        raise NotImplementedError

    def _run_spec(self, on_error: OnError) -> RunSpec:
        return RunSpec(
            self._fused(),
            self.workflow_name,
            self._results,
            frozenset(self._always_run),
            self._options.of("plugin"),
            self._options.of(self._option),
            tuple(self._observers),
            on_error,
        )

    def _fused(self) -> Graph:
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
        """The seconds below which nodes are fused unasked; None if none are."""
        return None

    def _may_fuse(self, name: str) -> bool:  # noqa: ARG002 - for backends
        """Tell whether a node that shall be fused can be."""
        return True

    def _may_fuse_automatically(self, name: str) -> bool:
        """Tell whether a node means the same in a group, whatever options it was given."""
        return self._may_fuse(name)
