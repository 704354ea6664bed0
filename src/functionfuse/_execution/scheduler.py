"""Scheduler: submits units to an engine when their inputs are ready and records their completion."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from functionfuse._context.caller_context import CallerContext
from functionfuse._execution.argument_guards import ArgumentGuards
from functionfuse._execution.delivery import MessageDelivery
from functionfuse._execution.recovery import Recovery
from functionfuse._execution.run_state import NodeState, RunState, Submitted
from functionfuse._graph.graph import new_tuple
from functionfuse._kernel.annotations import add_failures_note, add_node_note
from functionfuse._kernel.binding import resolve_reference
from functionfuse._kernel.kernel import DAMAGE_ERRORS, FAILED_SUBUNIT
from functionfuse._kernel.units import Record, Unit
from functionfuse.engine import Cancelled
from functionfuse.errors import StorageError
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
    from functionfuse.engine import Engine
    from functionfuse.events import Event

__all__ = ["Scheduler"]

H = TypeVar("H")
_NOTHING: Final[Mapping[str, Any]] = {}
_DONE: Final = NodeState.DONE  # the attribute of an enum is slow, for each node


class Scheduler(Generic[H]):
    """One run of a graph on an engine, and the state of this run."""

    def __init__(self, spec: RunSpec, engine: Engine[H]) -> None:
        self._run_spec = spec
        self._engine = engine
        # settings for units in other threads or processes, and their log records and warnings
        self._context = None if engine.capabilities.inline else CallerContext()
        self._delivery = MessageDelivery()
        self._inline, self._schedules = engine.capabilities.inline, engine.capabilities.schedules
        self._run = RunState(spec, engine)
        self.plan = self._run.plan
        self._guards = ArgumentGuards(spec, engine, self.plan)
        # of the run's state, what each node needs
        self._nodes, self._states = self._run.nodes, self._run.states
        self._actions, self._records = self._run.actions, self._run.records
        self._results, self._groups = self._run.results, self._run.groups
        self._pending, self._failures = self._run.pending, self._run.failures
        self._recovery = Recovery(spec, engine, self._run)
        self._outdated = self._recovery.outdated
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
            self._guards.end()

    def _execute(self) -> list[Any]:
        if self._run_spec.results is not None:
            self._run_spec.results.prepare()
        self._setups = self._run_spec.setups(inline=self._inline)
        targets = self._run_spec.graph.targets if self._run_spec.fetch_targets else ()
        self._results.retain(ref.number for ref in targets)
        run, actions = self._run, self.plan.actions.values()
        run.enqueue(run.add(zip(run.nodes, actions, strict=True)))
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
        nodes, pending, queue = self._nodes, self._pending, self._run.queue
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
            self._run.unreported.discard(handle)
        return ordered

    # ---- submitting ----

    def _submit(self, node: GraphNode) -> None:
        if self._groups and (group := self._groups.get(node.number)):
            self._submit_group(group)
            return
        load = self._actions[node.number] is Action.LOAD
        parents = () if load else node.parents
        inputs = [self._results[parent] for parent in parents]
        if self._failures and None in inputs:  # a parent failed after this node was ready
            self._states[node.number] = NodeState.UPSTREAM_FAILED
            return
        if self._run_spec.observers:
            self._notify(NodeSubmitted, node.name)
        self._submit_unit(self._unit(node, load=load), inputs, (node,), load=load)
        self._results.release(parents)

    def _submit_group(self, group: Group) -> None:
        node = group.as_node()
        inputs = [self._results[parent] for parent in node.parents]
        if self._failures and None in inputs:
            for number in group.numbers:
                self._states[number] = NodeState.UPSTREAM_FAILED
            return
        for part in group.nodes:
            self._notify(NodeSubmitted, part.name)
        unit = self._unit(node, load=False)._replace(
            guard=None,
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
            self._context,
            None if load else self._guards.of(node),
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
        for node in nodes:
            self._states[node.number] = NodeState.IN_FLIGHT
        known = inputs if self._schedules else ()
        self._pending[handle] = Submitted(unit.node, submitted, load, known)
        if self._schedules and not load:
            self._run.unreported.add(handle)
            self._run.deliver(handle, [node.number for node in nodes])

    # ---- completion ----

    def _finish(self, handle: H, node: GraphNode, submitted: float, load: bool) -> None:  # noqa: FBT001
        number = node.number
        if load and self._actions[number] is Action.COMPUTE:  # recovery needs more than the result
            self._engine.release(handle)
            return
        if self._outdated and handle in self._outdated:
            self._recovery.rerun_outdated(handle, node)
            return
        try:
            record = self._engine.record(handle)
        except BaseException as error:  # noqa: BLE001 - the user's own
            self._delivery.of_error(error)
            self._finish_with_error(node, submitted, error, load=load)
            return
        if record.messages or record.subrecords:
            record = self._delivery.of_record(record)
        if record.subrecords:
            self._finish_group(handle, record)
            return
        self._records[number] = record
        self._states[number] = _DONE
        if self._results.count(number):
            self._run.deliver(handle, (number,))
        else:
            self._engine.release(handle)
        if self._run_spec.observers:
            self._notify(NodeFinished, record)

    def _finish_with_error(
        self, node: GraphNode, submitted: float, error: BaseException, *, load: bool
    ) -> None:
        parent_failed = any(map(self._run.has_failed, node.parents))
        if load and isinstance(error, DAMAGE_ERRORS):
            self._recovery.recover(node, str(error), (node,))
            return
        can_recover = not (parent_failed or self._stopping)
        if can_recover and self._recovery.recover_from(error, node):
            return
        if parent_failed or isinstance(error, Cancelled):  # the unit never started
            self._run.mark_upstream_failed(node)
        else:
            self._fail(node, submitted, error)

    def _finish_group(self, handle: H, record: Record) -> None:
        numbers = [self._run_spec.graph.nodes[part.name].number for part in record.subrecords]
        self._groups.pop_in_flight(self._nodes[numbers[0]])
        for number, part in zip(numbers, record.subrecords, strict=True):
            self._records[number] = part
            self._states[number] = NodeState.DONE
            self._notify(NodeFinished, part)
        self._run.deliver(handle, numbers)
        if not self._results.is_referenced(handle):
            self._engine.release(handle)

    def _fail(self, node: GraphNode, submitted: float, error: BaseException) -> None:
        self._run.mark_upstream_failed(node)
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
        self._states[node.number] = NodeState.FAILED
        self._failures[node.name] = error
        if self._run_spec.on_error == "raise":
            self._stopping = True
            self._cancel_waiting()
            if self._engine.capabilities.cancels_queued:
                self._engine.cancel(self._pending)
        self._notify(NodeFailed, record, error)

    def _cancel_waiting(self) -> None:
        """Cancel the units that wait for their inputs, on an engine that schedules."""
        unreported = self._run.unreported
        waiting = [
            (handle, node)
            for handle, (node, _, load, inputs) in self._pending.items()
            if not load and handle not in self._outdated and not unreported.isdisjoint(inputs)
        ]
        self._engine.cancel([handle for handle, _ in waiting])
        for handle, node in waiting:
            del self._pending[handle]
            unreported.discard(handle)
            self._run.mark_upstream_failed(node)

    def _first_failure(self) -> BaseException:
        (_, first), *others = self._failures.items()
        add_failures_note(first, others)
        return first

    def _target(self, ref: ItemRef) -> Any:
        return resolve_reference(ref, self._engine.fetch(self._results[ref.number]))

    def _notify(self, event: Callable[..., Event], *fields: Any) -> None:
        if self._run_spec.observers:
            notify(self._run_spec.observers, event(*fields))
