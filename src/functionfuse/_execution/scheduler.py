"""The only driver loop: submits units to an engine in the right order and settles what comes back."""

from __future__ import annotations

import time
import warnings
from bisect import insort
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

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
    """One run of a job on an engine; keeps all that is only true of this run."""

    def __init__(self, spec: RunSpec, engine: Engine[H]) -> None:
        self.plan = spec.plan()
        self._run_spec = spec
        self._engine = engine
        # what follows is indexed by the steps' numbers: lists, since a graph may be large
        self._nodes = spec.graph.order
        self._actions = [Action.SKIP] * len(self._nodes)
        self._records: list[Record | None] = [None] * len(self._nodes)
        self._ready: list[int] = []  # negative and sorted: the last comes first
        self._missing_parents: dict[int, int] = {}  # parents that a waiting step still waits for
        self._children: defaultdict[int, list[int]] = defaultdict(list)  # who waits for a step
        self._pending: dict[H, _Submitted] = {}
        self._in_flight: dict[int, H] = {}  # by number, where the engine schedules: not to be read
        self._groups = self._plan_groups()  # the steps that run together with a step
        self._groups_in_flight: dict[
            int, tuple[GraphNode, ...]
        ] = {}  # those in flight, by the first
        self._recovery_outputs = self._outputs_for_recovery()
        self._failures: dict[str, BaseException] = {}
        self._upstream_failed: set[int] = set()  # what failed, and what was in flight and needed it
        # what is read may turn out to be damaged: then what is in flight may be needed once more
        reads = self.plan.reads or (spec.results is not None and spec.results.always_read)
        self._early = engine.capabilities.releases_early and not reads
        self._inline, self._schedules = engine.capabilities.inline, engine.capabilities.schedules
        in_flight = self._pending if self._schedules else ()
        self._results = RefCounts(engine, len(self._nodes), in_flight, release_early=self._early)
        self._recovery = Recovery(spec, self._actions, self._records, self._results)
        # in flight with a value that turned out to be damaged: what else runs again
        self._outdated: dict[H, set[int]] = {}
        # parents come first in graph order: an engine that is done at once needs no more
        self._in_order = self._inline and not self._groups
        self._max_in_flight = spec.max_in_flight or len(self._nodes) + 1

    @property
    def records(self) -> dict[str, Record]:
        """What is known of the steps that are done, by name."""
        return {record.name: record for record in self._records if record is not None}

    def execute(self) -> list[Any]:
        """Run everything; give the values of the targets.

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
            self._run_spec.results.wait_verified()  # nothing is given out that was read and is still being checked
        return values

    def _discard_damage_reports(self) -> None:
        """This run has failed, of damage that a storage has found or otherwise: the next one shall not."""
        if self._run_spec.results is not None:
            with suppress(StorageError):
                self._run_spec.results.wait_verified()

    def _loop(self) -> None:
        nodes, pending, ready = self._nodes, self._pending, self._ready
        while True:
            while ready and len(pending) < self._max_in_flight:
                self._submit(nodes[-ready.pop()])
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
            for part in () if unit.load else self._parts(unit.node):
                if self._in_flight.get(part.number) is handle:
                    del self._in_flight[part.number]
        return ordered

    # ---- taking steps on ----

    def _plan_groups(self) -> dict[int, tuple[GraphNode, ...]]:
        """For each step that runs together with others: all of them, in graph order."""
        if self._run_spec.on_error == "continue":  # a failure would take what is done along
            return {}
        actions, nodes = self.plan.actions, self._run_spec.graph.nodes
        groups: dict[int, tuple[GraphNode, ...]] = {}
        for names in self._run_spec.graph.groups:
            group = tuple(nodes[name] for name in names if actions[name] is Action.COMPUTE)
            if len(group) > 1:
                groups |= {node.number: group for node in group}
        return groups

    def _outputs_for_recovery(self) -> set[int]:
        """The steps that run together with others, and whose value a step outside may come to need.

        With a storage, a step that is only read may turn out to be damaged while its parents are in flight.
        """
        if not self._groups or self._run_spec.results is None:
            return set()
        return {
            parent
            for node in self._nodes
            for parent in node.parents
            if parent in self._groups and self._leader(parent) != self._leader(node.number)
        }

    def _leader(self, number: int) -> int:
        """The step that is submitted for this one: the first of its group, or itself."""
        return self._groups[number][0].number if number in self._groups else number

    def _parts(self, node: GraphNode) -> tuple[GraphNode, ...]:
        """The steps of a unit in flight."""
        return self._groups_in_flight.get(node.number, (node,))

    def _add(self, planned: Iterable[tuple[GraphNode, Action]]) -> list[GraphNode]:
        """Add what a plan wants done with some steps to what this run does; gives these steps."""
        taken: list[GraphNode] = []
        for node, action in planned:
            if action is not Action.SKIP:
                self._actions[node.number] = action
                taken.append(node)
                if action is Action.COMPUTE:
                    self._results.retain(node.parents)
        return taken

    def _enqueue(self, nodes: Sequence[GraphNode]) -> None:
        """Make steps ready, or let them wait for their parents."""
        if not self._in_order:
            for node in nodes:
                self._count_missing_parents(node)
        leaders = [node.number for node in nodes]
        if self._groups:
            leaders = [number for number in leaders if number == self._leader(number)]
        self._ready += [-number for number in leaders if number not in self._missing_parents]
        self._ready.sort()

    def _blocks_children(self, parent: int) -> bool:
        """Tell whether the children of a step cannot be submitted yet.

        An engine that schedules takes them as soon as it has the parent,
        but not before a stored result was read: it may turn out to be damaged.
        """
        in_flight = self._in_flight.get(parent)
        if in_flight is not None and in_flight is self._results[parent]:
            return False
        return self._recovery.is_open(self._nodes[parent])

    def _count_missing_parents(self, node: GraphNode) -> None:
        if self._actions[node.number] is Action.LOAD:
            return
        leader = self._leader(node.number)
        parents = [
            parent
            for parent in node.parents
            if self._blocks_children(parent) and self._leader(parent) != leader
        ]
        for parent in parents:
            self._children[parent].append(leader)
        if parents:
            self._missing_parents[leader] = self._missing_parents.get(leader, 0) + len(parents)

    def _submit(self, node: GraphNode) -> None:
        if node.number in self._groups:
            self._submit_group(self._groups[node.number])
            return
        load = self._actions[node.number] is Action.LOAD
        parents = () if load else node.parents
        inputs = [self._results[parent] for parent in parents]
        if self._failures and None in inputs:  # a parent failed after this was ready
            self._upstream_failed.add(node.number)
            return
        if self._run_spec.observers:
            self._notify(NodeSubmitted, node.name)
        self._submit_unit(self._unit(node, load=load), inputs, (node,), load=load)
        self._results.release(parents)

    def _submit_group(self, group: tuple[GraphNode, ...]) -> None:
        numbers = {node.number for node in group}
        within = Counter(parent for node in group for parent in node.parents if parent in numbers)
        outside = {
            parent: None for node in group for parent in node.parents if parent not in numbers
        }
        inputs = [self._results[parent] for parent in outside]
        if self._failures and None in inputs:
            self._upstream_failed |= numbers
            return
        first, last = group[0], group[-1]
        node = first._replace(
            name=f"{first.name} .. {last.name} ({len(group)} nodes)", parents=tuple(outside)
        )
        for part in group:
            self._notify(NodeSubmitted, part.name)
        unit = self._unit(node, load=False)._replace(
            subunits=tuple(self._unit(part, load=False) for part in group),
            outputs=tuple(
                number
                for number in numbers
                if self._results.count(number) > within[number] or number in self._recovery_outputs
            ),
        )
        self._results.release_internal(within)
        self._groups_in_flight[first.number] = group
        self._submit_unit(unit, inputs, group, load=False)
        self._results.release(
            parent for part in group for parent in part.parents if parent in outside
        )

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
        """Submit the unit of some steps, with the engine's options for the first."""
        options, submitted = self._run_spec.options.get(nodes[0].name, _NOTHING), time.time()
        handle = self._engine.submit(unit, inputs, options)
        if self._inline:
            self._finish(handle, unit.node, submitted, load)
            return
        taken = inputs if self._schedules else ()
        self._pending[handle] = _Submitted(unit.node, submitted, load, taken)
        if self._schedules and not load:
            numbers = [node.number for node in nodes]
            self._in_flight |= dict.fromkeys(numbers, handle)
            self._deliver(handle, numbers)

    def _deliver(self, handle: H, numbers: Sequence[int]) -> None:
        """Let the children of some steps have what a handle stands for."""
        self._results.set_handle(handle, numbers)
        if self._children:
            for number in numbers:
                self._unblock(self._children.pop(number, ()))

    # ---- settling what is done ----

    def _finish(self, handle: H, node: GraphNode, submitted: float, load: bool) -> None:  # noqa: FBT001
        number = node.number
        if load and self._actions[number] is Action.COMPUTE:  # by now, more than reading is needed
            self._engine.release(handle)
            return
        if self._outdated and handle in self._outdated:
            self._settle_outdated(handle, node)
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
                self._run_spec.graph.nodes[damage.node], damage.problem, self._parts(node)
            )
        elif self._upstream_failed.isdisjoint(node.parents) and not isinstance(error, Cancelled):
            self._fail(node, submitted, error)
        else:  # in flight when something that it needs failed: it never started
            self._mark_upstream_failed(node)

    def _finish_group(self, handle: H, record: Record) -> None:
        numbers = [self._run_spec.graph.nodes[part.name].number for part in record.subrecords]
        del self._groups_in_flight[numbers[0]]
        for number, part in zip(numbers, record.subrecords, strict=True):
            self._records[number] = part
            self._notify(NodeFinished, part)
        self._deliver(handle, numbers)
        if not self._results.is_referenced(handle):
            self._engine.release(handle)

    def _mark_upstream_failed(self, node: GraphNode) -> None:
        """Note that a step, with those that run together with it, has no value and will have none."""
        for other in self._groups_in_flight.pop(node.number, (node,)):
            self._upstream_failed.add(other.number)
            self._results.discard(other.number)
            self._in_flight.pop(other.number, None)

    def _unblock(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._missing_parents[number] -= 1
            if not self._missing_parents[number]:
                del self._missing_parents[number]
                insort(self._ready, -number)

    def _fail(self, node: GraphNode, submitted: float, error: BaseException) -> None:
        self._mark_upstream_failed(node)
        # taken off: this run may be within a node of another one
        name, done = error.__dict__.pop(FAILED_SUBUNIT, (node.name, ()))
        # a worker that died with a group does not tell which part it was: then the first
        node = self._run_spec.graph.nodes.get(name, self._nodes[node.number])
        for part in done:
            self._records[self._run_spec.graph.nodes[part.name].number] = part
            self._notify(NodeFinished, part)
        add_node_note(error, node, self._run_spec.workflow)
        record = Record(node.name, "failed", submitted, time.time() - submitted, "", None)
        self._records[node.number] = record
        self._failures[node.name] = error
        if self._run_spec.on_error == "raise":
            self._max_in_flight = 0  # nothing new is started
            self._cancel_waiting()
            if self._engine.capabilities.cancels_queued:
                self._engine.cancel(self._pending)
        self._notify(NodeFailed, record, error)

    def _cancel_waiting(self) -> None:
        """Take back what an engine has that schedules, and that waits for something in flight."""
        waiting = [
            (handle, node)
            for handle, (node, _, load, _) in self._pending.items()
            if not load
            and handle not in self._outdated
            and not self._in_flight.keys().isdisjoint(node.parents)
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

    # ---- recovering from damage ----

    def _damage_behind(self, error: BaseException, node: GraphNode) -> Damage | None:
        """The damaged result that made a unit fail, where the run goes on and can compute the result again."""
        if (
            self._early
            or not self._max_in_flight
            or not self._upstream_failed.isdisjoint(node.parents)
        ):
            return None
        return self._recovery.damage_behind(error, self._parts(node))

    def _recover(self, damaged: GraphNode, problem: str, users: Sequence[GraphNode]) -> None:
        """Compute a damaged result again, and the steps that used it.

        Args:
            damaged: The step whose stored result it is.
            problem: What is wrong with it.
            users: The steps of the unit that failed.
        """
        message = f"the stored result of node {damaged.name!r} is damaged and is computed again: {problem}"
        warnings.warn(message, DamagedResultWarning, stacklevel=2)
        self._recovery.condemn(damaged)
        self._groups_in_flight.pop(users[0].number, None)
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
        """Let nobody have the values of units in flight that depend on some steps; they run again when they are done.

        Args:
            dependents: The steps; those of the units are added.
        """
        for handle, (node, _, load, _) in self._pending.items():  # units come after their inputs
            parts = () if load else self._parts(node)
            numbers = {part.number for part in parts}
            if parts and not dependents.isdisjoint(numbers.union(node.parents)):
                dependents |= numbers
                self._outdated[handle] = dependents
                for number in numbers:
                    self._in_flight.pop(number, None)
                    self._results.drop(number)

    def _settle_outdated(self, handle: H, node: GraphNode) -> None:
        """Run a unit again that was in flight with a damaged value; a result that it stored is loaded."""
        dependents = self._outdated.pop(handle)
        with suppress(
            BaseException
        ):  # whatever became of it: engines complain of what nobody asks for
            self._engine.record(handle)
        self._engine.release(handle)
        self._run_again(self._groups_in_flight.pop(node.number, (node,)), dependents)

    def _run_again(self, nodes: Sequence[GraphNode], dependents: set[int]) -> None:
        """Forget some steps, take them on once more with what they need, and let all others wait for them."""
        self._recovery.forget(nodes, dependents)
        again = self._recovery.plan_again(nodes, self._failures)
        for node, _ in again:
            self._records[node.number] = None
            self._results.drop(node.number)
        self._add(again)
        self._groups = {}  # what is damaged may depend on a part of one
        self._missing_parents.clear()
        self._children.clear()
        self._ready.clear()
        in_flight = self._numbers_in_flight()
        is_open = self._recovery.is_open
        self._enqueue(
            [node for node in self._nodes if is_open(node) and node.number not in in_flight]
        )

    def _numbers_in_flight(self) -> set[int]:
        """The steps that are in flight, without those that are loaded in vain."""
        return {
            part.number
            for node, _, load, _ in self._pending.values()
            if not load or self._actions[node.number] is Action.LOAD
            for part in ((node,) if load else self._parts(node))
        }

    def _target(self, ref: ItemRef) -> Any:
        return resolve_reference(ref, self._engine.fetch(self._results[ref.number]))

    def _notify(self, event: Callable[..., Event], *fields: Any) -> None:
        if self._run_spec.observers:
            notify(self._run_spec.observers, event(*fields))
