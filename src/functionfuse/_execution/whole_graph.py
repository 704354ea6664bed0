"""Fast path: run a whole graph in one loop when it has no storage, plugin, seed or engine option.

The scheduler submits, waits for and records each node separately.
Where `submit()` only calls the function in this thread, that takes longer than a short function;
observers see the same events of both.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from functionfuse._execution.mutation_watch import MIN_SECONDS, MutationWatch, count_uses
from functionfuse._graph.builder import LazyGraph
from functionfuse._graph.scopes import NodeScope
from functionfuse._kernel.annotations import add_node_note, name_item_note
from functionfuse._kernel.binding import bind, resolve_reference
from functionfuse._kernel.kernel import compute, worker_name
from functionfuse._kernel.units import Record
from functionfuse.events import (
    NodeFailed,
    NodeFinished,
    NodeSubmitted,
    RunFinished,
    RunStarted,
    notify,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._graph.nodes import Node
    from functionfuse.engine import Engine
    from functionfuse.events import Event

__all__ = ["WholeGraphRun", "can_run_whole_graph"]


def can_run_whole_graph(spec: RunSpec, engine: Engine[Any]) -> bool:
    """Tell whether running a node of this graph is calling its function."""
    return (
        engine.capabilities.calls_directly
        and type(spec.graph) is LazyGraph
        and spec.results is None
        and spec.on_error == "raise"
        and not (spec.plugins or spec.options or spec.node_seeds)
        and not (spec.read_only or spec.mutation == "raise")
    )


class WholeGraphRun:
    """One run of a graph in the order of its calls, with the interface of `Scheduler`."""

    def __init__(self, spec: RunSpec) -> None:
        assert type(spec.graph) is LazyGraph
        self.plan = spec.plan()
        self._graph = spec.graph
        self._workflow = spec.workflow
        self._observers = spec.observers
        self._records = _Records(spec.graph)
        self._failed: Record | None = None
        self._watch: MutationWatch[Node[Any]] = MutationWatch(
            lambda node: self._graph.node(node).name
        )
        self._min_seconds = MIN_SECONDS if spec.mutation == "warn" else float("inf")

    @property
    def kept(self) -> Collection[str]:
        """No node: nothing is stored."""
        return ()

    @property
    def records(self) -> Mapping[str, Record]:
        """The records of finished and failed nodes, by name."""
        return _RecordsByName(self._records, self._failed)

    def execute(self) -> list[Any]:
        """Compute all nodes; return the targets' values.

        Raises:
            BaseException: The failure of a node, as the user's function raised it.
        """
        self._notify(RunStarted, self._workflow, self.plan)
        error: BaseException | None = None
        try:
            values = self._compute_nodes()
            return [
                resolve_reference(target, values[target.node])
                for target in self._graph.collected.targets
            ]
        except BaseException as raised:
            error = raised
            name_item_note(error, lambda node: self._graph.node(node).name)
            raise
        finally:
            self._notify(RunFinished, self._workflow, error)
            self._watch.close()

    def _compute_nodes(self) -> dict[Node[Any], Any]:
        """Call the functions of all nodes; return the values of the targets' nodes."""
        graph, watched, records = self._graph, bool(self._observers), self._records
        nodes, readers, replaced = (
            graph.collected.nodes,
            graph.collected.instance_uses,
            graph.replaced,
        )
        values: dict[Node[Any], Any] = {}
        lookup = _value_lookup(values, graph.collected.uses)
        if watched:
            graph.order  # noqa: B018 - events name nodes: number them before the clock starts
        shortest, before = self._min_seconds, 0.0
        clock, ended, began = time.perf_counter, records.ends.append, records.start()
        with NodeScope() as scope:  # one for all, since each is checked in turn
            for node in nodes:
                if watched:
                    self._notify(NodeSubmitted, graph.order[len(records)].name)
                    if scope.made:  # by an observer
                        scope.clear()
                    records.begins.append(clock() - began)
                try:
                    exclusive_instance = node.state is not None and readers[node.state] == 1
                    args, kwargs = bind(node, lookup, exclusive_instance=exclusive_instance)
                    values[node] = compute(replaced.get(node, node), args, kwargs, scope)
                except BaseException as error:
                    self._fail(error)
                    raise
                now = clock() - began
                ended(now)
                if watched:
                    self._notify(NodeFinished, records[-1])
                if now - before > shortest:
                    shortest = self._watch_results(node, values[node], now - before)
                before = now
        return values

    def _watch_results(self, node: Node[Any], value: Any, seconds: float) -> float:
        """Watch the result of a node, and those that it took; return the time from which on to call this next."""
        watch, uses = self._watch, self._graph.collected.uses[node]
        parents = count_uses(node)
        watch.begin(node, parents)
        watch.end(node, parents, seconds)
        if uses > 1:
            watch.add(node, value, seconds, uses)
        return -1.0 if watch.watched else self._min_seconds

    def _fail(self, error: BaseException) -> None:
        """Record the failure of the node after those that are done."""
        graph, done = self._graph, self._records
        node = graph.order[len(done)]
        name_item_note(error, lambda node: graph.node(node).name)
        add_node_note(error, node, self._workflow)
        if isinstance(error, Exception):
            started = done.started + done.begin(len(done))
            seconds = time.time() - started
            self._failed = Record(node.name, "failed", started, seconds, "", None)
            self._notify(NodeFailed, self._failed, error)

    def _notify(self, event: Callable[..., Event], *fields: Any) -> None:
        if self._observers:
            notify(self._observers, event(*fields))


def _value_lookup(
    values: dict[Node[Any], Any], uses: Mapping[Node[Any], int]
) -> Callable[[Node[Any]], Any]:
    """Return a function that gives the value of a node, and releases it at its last use."""
    left = dict(uses)

    def lookup(node: Node[Any]) -> Any:
        uses = left[node]
        if uses == 1:
            return values.pop(node)
        left[node] = uses - 1
        return values[node]

    return lookup


@dataclass(slots=True)
class _Records(Sequence[Record]):
    """The records of the nodes that are computed, made on access: a run keeps one number a node."""

    graph: LazyGraph
    worker: str = field(default_factory=worker_name)
    started: float = 0.0  # seconds since the epoch
    ends: array[float] = field(default_factory=lambda: array("d"))  # seconds after `started`
    begins: array[float] = field(default_factory=lambda: array("d"))  # if not the end before

    def start(self) -> float:
        """Start the clock; return the time of `time.perf_counter`."""
        self.started = time.time()
        return time.perf_counter()

    def begin(self, number: int) -> float:
        """The seconds from the start to a call; without observers it follows the end of the last."""
        if self.begins:
            return self.begins[number]
        return self.ends[number - 1] if number else 0.0

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self.ends))[index]
        if isinstance(number, range):
            return [self[part] for part in number]
        began = self.begin(number)
        name, seconds = self.graph.order[number].name, self.ends[number] - began
        return Record(name, "computed", self.started + began, seconds, self.worker, None)


@dataclass(frozen=True, slots=True)
class _RecordsByName(Mapping[str, Record]):
    """The records of a run by node name, found by the nodes' numbers."""

    done: _Records
    failed: Record | None

    def __getitem__(self, name: str) -> Record:
        number = self.done.graph.nodes[name].number
        if number < len(self.done):
            record: Record = self.done[number]
            return record
        if self.failed is None or self.failed.name != name:
            raise KeyError(name)
        return self.failed

    def __len__(self) -> int:
        return len(self.done) + (self.failed is not None)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.done.graph.nodes if name in self)
