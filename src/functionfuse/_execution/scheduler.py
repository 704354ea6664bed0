"""Scheduler: submits units to an engine when their inputs are ready and records their completion."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from functionfuse._execution.groups import Groups
from functionfuse._execution.ready_queue import ReadyQueue
from functionfuse._execution.recovery import Recovery
from functionfuse._execution.reference_counts import RefCounts
from functionfuse._graph.graph import new_tuple
from functionfuse._kernel.annotations import add_node_note, add_note
from functionfuse._kernel.binding import resolve_reference
from functionfuse._kernel.kernel import DAMAGE_ERRORS, FAILED_SUBUNIT
from functionfuse._kernel.units import Record, Unit
from functionfuse.engine import Cancelled
from functionfuse.errors import DamagedResultWarning, StorageError
from functionfuse.events import (
    NodeFailed,
    NodeFinished,
    NodeSubmitted,
    RunFinished,
    RunStarted,
    notify,
)
from functionfuse.plan import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from functionfuse._execution.groups import Group
    from functionfuse._execution.run_spec import RunSpec
    from functionfuse._graph.graph import GraphNode, ItemRef
    from functionfuse._kernel.damage import Damage
    from functionfuse.engine import Engine
    from functionfuse.events import Event

__all__ = ["Scheduler"]

H = TypeVar("H")
_NOTHING: Final[Mapping[str, Any]] = {}


class _Submitted(NamedTuple):
    """A unit in flight."""

    node: GraphNode
    time: float  # seconds since the epoch
    load: bool  # the unit reads a stored result and computes nothing
    inputs: Sequence[Any]  # the handles of the units that it takes, on an engine that schedules


class Scheduler(Generic[H]):
    """One run of a graph on an engine, and the state of this run."""

    def __init__(self, spec: RunSpec, engine: Engine[H]) -> None:
        self.plan = spec.plan()
        self._run_spec = spec
        self._engine = engine
        # lists by node number, since a graph may be large
        self._nodes = spec.graph.order
        self._actions = [Action.SKIP] * len(self._nodes)
        self._records: list[Record | None] = [None] * len(self._nodes)
        self._queue = ReadyQueue()
        self._pending: dict[H, _Submitted] = {}
        self._in_flight: dict[int, H] = {}  # computed nodes, on an engine that schedules
        self._groups = Groups(spec, self.plan)
        self._failures: dict[str, BaseException] = {}
        self._upstream_failed: set[int] = set()  # failed nodes, and their dependents in flight
        # a loaded result may be damaged: then results of units in flight may be needed again
        reads = self.plan.reads or (spec.results is not None and spec.results.always_read)
        self._early = engine.capabilities.releases_early and not reads
        self._inline, self._schedules = engine.capabilities.inline, engine.capabilities.schedules
        in_flight = self._pending if self._schedules else ()
        self._results = RefCounts(engine, len(self._nodes), in_flight, release_early=self._early)
        self._recovery = Recovery(spec, self._actions, self._records, self._results)
        # units in flight that use a damaged value: the nodes that run again with them
        self._outdated: dict[H, set[int]] = {}
        # in graph order, parents of an inline engine's nodes are done: nothing has to wait
        self._in_order = self._inline and not self._groups
        self._max_in_flight = spec.max_in_flight or len(self._nodes) + 1
        self._stopping = False  # nothing is submitted any more

    @property
    def records(self) -> dict[str, Record]:
        """The records of finished and failed nodes, by name."""
        return {record.name: record for record in self._records if record is not None}

    def execute(self) -> list[Any]:
        """Run the plan; return the values of the targets.

        Raises:
            BaseException: The first failure of a node, as the user's function raised it.
        """
        self._notify(RunStarted, self._run_spec.workflow, self.plan)
        error: BaseException | None = None
        try:
            return self._execute()
        except BaseException as raised:
            error = raised
            self._engine.cancel(self._pending)
            self._discard_damage_reports()
            raise
        finally:
            self._notify(RunFinished, self._run_spec.workflow, error)

    def _execute(self) -> list[Any]:
        if self._run_spec.results is not None:
            self._run_spec.results.prepare()
        self._setups = self._run_spec.setups()
        targets = self._run_spec.graph.targets if self._run_spec.fetch_targets else ()
        self._results.retain(ref.number for ref in targets)
        self._enqueue(self._add(zip(self._nodes, self.plan.actions.values(), strict=True)))
        self._loop()
        if self._failures:
            raise self._first_failure()
        values = [self._target(ref) for ref in targets]
        if self._run_spec.results is not None:
            self._run_spec.results.wait_verified()  # of loaded results, before they are returned
        return values

    def _discard_damage_reports(self) -> None:
        """Keep what background verification found in a failed run from failing the next one."""
        if self._run_spec.results is not None:
            with suppress(StorageError):
                self._run_spec.results.wait_verified()

    def _loop(self) -> None:
        nodes, pending, queue = self._nodes, self._pending, self._queue
        while True:
            while queue and not self._stopping and len(pending) < self._max_in_flight:
                self._submit(nodes[queue.pop()])
            if not pending:
                return
            done = self._engine.wait(pending)
            for handle in self._topological_order(done) if self._schedules else done:
                node, submitted, load, _ = pending.pop(handle)
                self._finish(handle, node, submitted, load)

    def _topological_order(self, done: Iterable[H]) -> Iterable[H]:
        """Order finished units after their inputs: an engine may report a unit before its inputs.

        A unit that is finished says so of the inputs that it was submitted with.
        A later unit of the same node, in flight because of damage, may still run.
        """
        ordered: dict[H, None] = {}
        stack = list(done)
        while stack:
            handle = stack.pop()
            if handle in ordered:
                continue
            unit = self._pending[handle]
            inputs = () if handle in self._outdated else unit.inputs
            ahead = [other for other in inputs if other in self._pending and other not in ordered]
            if ahead:
                stack += (handle, *ahead)
                continue
            ordered[handle] = None
            for part in () if unit.load else self._groups.in_flight(unit.node):
                if self._in_flight.get(part.number) is handle:
                    del self._in_flight[part.number]
        return ordered

    # ---- submitting ----

    def _add(self, planned: Iterable[tuple[GraphNode, Action]]) -> list[GraphNode]:
        """Add planned nodes to the run; return those that are not skipped."""
        added: list[GraphNode] = []
        for node, action in planned:
            if action is not Action.SKIP:
                self._actions[node.number] = action
                added.append(node)
                if action is Action.COMPUTE:
                    self._results.retain(node.parents)
        return added

    def _enqueue(self, nodes: Sequence[GraphNode]) -> None:
        """Make nodes ready, or let them wait for their parents."""
        if not self._in_order:
            for node in nodes:
                self._wait_for_parents(node)
        leaders = [node.number for node in nodes]
        if self._groups:
            leaders = [number for number in leaders if number == self._groups.leader(number)]
        self._queue.push(leaders)

    def _blocks_children(self, parent: int) -> bool:
        """Tell whether the children of a node cannot be submitted yet.

        An engine that schedules takes them as soon as the parent is submitted,
        but not before a stored result is loaded: it may turn out to be damaged.
        """
        in_flight = self._in_flight.get(parent)
        if in_flight is not None and in_flight is self._results[parent]:
            return False
        return self._recovery.is_open(self._nodes[parent])

    def _wait_for_parents(self, node: GraphNode) -> None:
        if self._actions[node.number] is Action.LOAD:
            return
        leader = self._groups.leader(node.number)
        parents = [
            parent
            for parent in node.parents
            if self._blocks_children(parent) and self._groups.leader(parent) != leader
        ]
        self._queue.wait(leader, parents)

    def _submit(self, node: GraphNode) -> None:
        if self._groups and (group := self._groups.get(node.number)):
            self._submit_group(group)
            return
        load = self._actions[node.number] is Action.LOAD
        parents = () if load else node.parents
        inputs = [self._results[parent] for parent in parents]
        if self._failures and None in inputs:  # a parent failed after this node was ready
            self._upstream_failed.add(node.number)
            return
        if self._run_spec.observers:
            self._notify(NodeSubmitted, node.name)
        self._submit_unit(self._unit(node, load=load), inputs, (node,), load=load)
        self._results.release(parents)

    def _submit_group(self, group: Group) -> None:
        node = group.as_node()
        inputs = [self._results[parent] for parent in node.parents]
        if self._failures and None in inputs:
            self._upstream_failed |= group.numbers
            return
        for part in group.nodes:
            self._notify(NodeSubmitted, part.name)
        unit = self._unit(node, load=False)._replace(
            subunits=tuple(self._unit(part, load=False) for part in group.nodes),
            outputs=group.outputs(self._results.count, self._groups.recovery_outputs),
        )
        self._results.release_internal(group.internal_uses)
        self._groups.add_in_flight(group)
        self._submit_unit(unit, inputs, group.nodes, load=False)
        self._results.release(group.external_uses)

    def _unit(self, node: GraphNode, *, load: bool) -> Unit:
        name, spec = node.name, self._run_spec
        storage = None if name in spec.always_run else spec.results
        exclusive_instance = (
            node.state is not None and spec.graph.instance_uses[node.state.number] == 1
        )
        setup, engine = self._setups.get(name), self._engine.name
        recompute = name in self._recovery.unusable
        fields = (
            node,
            spec.workflow,
            engine,
            storage,
            load,
            setup,
            exclusive_instance,
            (),
            (),
            recompute,
        )
        return new_tuple(Unit, fields)

    def _submit_unit(
        self, unit: Unit, inputs: list[Any], nodes: Sequence[GraphNode], *, load: bool
    ) -> None:
        """Submit the unit of some nodes, with the engine's options of the first."""
        options, submitted = self._run_spec.options.get(nodes[0].name, _NOTHING), time.time()
        handle = self._engine.submit(unit, inputs, options)
        if self._inline:
            self._finish(handle, unit.node, submitted, load)
            return
        known = inputs if self._schedules else ()
        self._pending[handle] = _Submitted(unit.node, submitted, load, known)
        if self._schedules and not load:
            numbers = [node.number for node in nodes]
            self._in_flight |= dict.fromkeys(numbers, handle)
            self._deliver(handle, numbers)

    def _deliver(self, handle: H, numbers: Sequence[int]) -> None:
        """Set the handle of the results of some nodes, and unblock their children."""
        self._results.set_handle(handle, numbers)
        self._queue.unblock_children(numbers)

    # ---- completion ----

    def _finish(self, handle: H, node: GraphNode, submitted: float, load: bool) -> None:  # noqa: FBT001
        number = node.number
        if load and self._actions[number] is Action.COMPUTE:  # recovery needs more than the result
            self._engine.release(handle)
            return
        if self._outdated and handle in self._outdated:
            self._rerun_outdated(handle, node)
            return
        try:
            record = self._engine.record(handle)
        except BaseException as error:  # noqa: BLE001 - the user's own
            self._finish_with_error(node, submitted, error, load=load)
            return
        if record.subrecords:
            self._finish_group(handle, record)
            return
        self._records[number] = record
        if not self._results.count(number):
            self._engine.release(handle)
        self._deliver(handle, (number,))
        if self._run_spec.observers:
            self._notify(NodeFinished, record)

    def _finish_with_error(
        self, node: GraphNode, submitted: float, error: BaseException, *, load: bool
    ) -> None:
        if load and isinstance(error, DAMAGE_ERRORS):
            self._recover(node, str(error), (node,))
        elif damage := self._damage_behind(error, node):
            self._recover(
                self._run_spec.graph.nodes[damage.node],
                damage.problem,
                self._groups.in_flight(node),
            )
        elif self._upstream_failed.isdisjoint(node.parents) and not isinstance(error, Cancelled):
            self._fail(node, submitted, error)
        else:  # in flight when a parent failed: it never started
            self._mark_upstream_failed(node)

    def _finish_group(self, handle: H, record: Record) -> None:
        numbers = [self._run_spec.graph.nodes[part.name].number for part in record.subrecords]
        self._groups.pop_in_flight(self._nodes[numbers[0]])
        for number, part in zip(numbers, record.subrecords, strict=True):
            self._records[number] = part
            self._notify(NodeFinished, part)
        self._deliver(handle, numbers)
        if not self._results.is_referenced(handle):
            self._engine.release(handle)

    def _mark_upstream_failed(self, node: GraphNode) -> None:
        """Record that a node, and the other nodes of its unit, will have no value."""
        for other in self._groups.pop_in_flight(node):
            self._upstream_failed.add(other.number)
            self._results.discard(other.number)
            self._in_flight.pop(other.number, None)

    def _fail(self, node: GraphNode, submitted: float, error: BaseException) -> None:
        self._mark_upstream_failed(node)
        # removed from the exception: this run may be within a node of another run
        name, done = error.__dict__.pop(FAILED_SUBUNIT, (node.name, ()))
        # a worker that died with a group reports no node: then the first is blamed
        node = self._run_spec.graph.nodes.get(name, self._nodes[node.number])
        for part in done:
            self._records[self._run_spec.graph.nodes[part.name].number] = part
            self._notify(NodeFinished, part)
        add_node_note(error, node, self._run_spec.workflow)
        record = Record(node.name, "failed", submitted, time.time() - submitted, "", None)
        self._records[node.number] = record
        self._failures[node.name] = error
        if self._run_spec.on_error == "raise":
            self._stopping = True
            self._cancel_waiting()
            if self._engine.capabilities.cancels_queued:
                self._engine.cancel(self._pending)
        self._notify(NodeFailed, record, error)

    def _cancel_waiting(self) -> None:
        """Cancel the units that wait for their inputs, on an engine that schedules."""
        in_flight = {*self._in_flight.values()}
        waiting = [
            (handle, node)
            for handle, (node, _, load, inputs) in self._pending.items()
            if not load and handle not in self._outdated and not in_flight.isdisjoint(inputs)
        ]
        self._engine.cancel([handle for handle, _ in waiting])
        for handle, node in waiting:
            del self._pending[handle]
            self._mark_upstream_failed(node)

    def _first_failure(self) -> BaseException:
        _, *others = self._failures
        first = next(iter(self._failures.values()))
        if others:
            add_note(first, f"other nodes failed as well: {', '.join(map(repr, others))}")
        return first

    # ---- recovery from damage ----

    def _damage_behind(self, error: BaseException, node: GraphNode) -> Damage | None:
        """Return the damage that made a unit fail, if the run can compute the result again."""
        if self._early or self._stopping or not self._upstream_failed.isdisjoint(node.parents):
            return None
        return self._recovery.damage_behind(error, self._groups.in_flight(node))

    def _recover(self, damaged: GraphNode, problem: str, users: Sequence[GraphNode]) -> None:
        """Compute a damaged result and the nodes that used it again.

        Args:
            damaged: The node whose stored result is damaged.
            problem: The reason, for the warning.
            users: The nodes of the unit that failed.
        """
        message = f"the stored result of node {damaged.name!r} is damaged and is computed again: {problem}"
        warnings.warn(message, DamagedResultWarning, stacklevel=2)
        self._recovery.condemn(damaged)
        self._groups.pop_in_flight(users[0])
        dependents = self._recovery.dependents(damaged)
        used = [
            node
            for node in map(self._nodes.__getitem__, sorted(dependents))
            if self._records[node.number] is not None and self._results[node.number] is not None
        ]
        dependents.update(node.number for node in users)
        self._outdate(dependents)
        nodes = {node.number: node for node in (damaged, *users, *used)}
        self._run_again([*nodes.values()], dependents)

    def _outdate(self, dependents: set[int]) -> None:
        """Mark units in flight that depend on some nodes as outdated: when they are done, they run again.

        Args:
            dependents: The nodes; those of the outdated units are added.
        """
        for handle, (node, _, load, _) in self._pending.items():  # units come after their inputs
            parts = () if load else self._groups.in_flight(node)
            numbers = {part.number for part in parts}
            if parts and not dependents.isdisjoint(numbers.union(node.parents)):
                dependents |= numbers
                self._outdated[handle] = dependents
                for number in numbers:
                    self._in_flight.pop(number, None)
                    self._results.drop(number)

    def _rerun_outdated(self, handle: H, node: GraphNode) -> None:
        """Run a finished unit again that used a damaged value; a result that it stored is loaded."""
        dependents = self._outdated.pop(handle)
        with suppress(BaseException):  # asked for, since engines log failures that nobody retrieves
            self._engine.record(handle)
        self._engine.release(handle)
        self._run_again(self._groups.pop_in_flight(node), dependents)

    def _run_again(self, nodes: Sequence[GraphNode], dependents: set[int]) -> None:
        """Reset some nodes, add them again with what they need, and rebuild the queue."""
        self._recovery.forget(nodes, dependents)
        again = self._recovery.plan_again(nodes, self._failures)
        for node, _ in again:
            self._records[node.number] = None
            self._results.drop(node.number)
        self._add(again)
        self._groups.dissolve()  # the damaged result may depend on a node of one
        self._queue.clear()
        in_flight = self._numbers_in_flight()
        is_open = self._recovery.is_open
        self._enqueue(
            [node for node in self._nodes if is_open(node) and node.number not in in_flight]
        )

    def _numbers_in_flight(self) -> set[int]:
        """The nodes in flight, without loads whose nodes are now computed."""
        return {
            part.number
            for node, _, load, _ in self._pending.values()
            if not load or self._actions[node.number] is Action.LOAD
            for part in ((node,) if load else self._groups.in_flight(node))
        }

    def _target(self, ref: ItemRef) -> Any:
        return resolve_reference(ref, self._engine.fetch(self._results[ref.number]))

    def _notify(self, event: Callable[..., Event], *fields: Any) -> None:
        if self._run_spec.observers:
            notify(self._run_spec.observers, event(*fields))
