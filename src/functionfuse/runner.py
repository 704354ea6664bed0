"""The only driver loop: submits units to an engine in the right order and settles what comes back."""

from __future__ import annotations

import time
import warnings
from bisect import insort
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from functionfuse.binding import pick
from functionfuse.engine import Withdrawn
from functionfuse.errors import DamagedResultWarning, StorageError
from functionfuse.events import (
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepSubmitted,
    notify,
)
from functionfuse.graph import new
from functionfuse.kernel import DAMAGED, FAILED_PART
from functionfuse.notes import add_note, annotate
from functionfuse.plan import Action
from functionfuse.recovery import Recovery
from functionfuse.units import Record, Unit
from functionfuse.values import Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from functionfuse.damage import Damage
    from functionfuse.engine import Engine
    from functionfuse.events import Event
    from functionfuse.graph import Ref, Step
    from functionfuse.job import Job

__all__ = ["Run"]

H = TypeVar("H")
_NOTHING: Final[Mapping[str, Any]] = {}


class Run(Generic[H]):
    """One run of a job on an engine; keeps all that is only true of this run."""

    def __init__(self, job: Job, engine: Engine[H]) -> None:  # noqa: D107
        self.plan = job.plan()
        self._job = job
        self._engine = engine
        # what follows is indexed by the steps' numbers: lists, since a graph may be large
        self._steps = job.graph.order
        self._actions = [Action.LEAVE_OUT] * len(self._steps)
        self._records: list[Record | None] = [None] * len(self._steps)
        self._ready: list[int] = []  # negative and sorted: the last comes first
        self._missing: dict[int, int] = {}  # parents that a waiting step still waits for
        self._children: defaultdict[int, list[int]] = defaultdict(list)  # who waits for a step
        # in flight: the step, when it was submitted, and whether only to be read
        self._pending: dict[H, tuple[Step, float, bool]] = {}
        self._flying: dict[int, H] = {}  # by number, where the engine schedules: not to be read
        self._groups = self._grouped()  # the steps that run together with a step
        self._together: dict[int, tuple[Step, ...]] = {}  # those in flight, by the first
        self._read_outside = self._kept_for_others()
        self._failures: dict[str, BaseException] = {}
        self._lost: set[int] = set()  # what failed, and what was in flight and needed it
        # what is read may turn out to be damaged: then what is in flight may be needed once more
        reads = self.plan.reads or (job.results is not None and job.results.always_read)
        self._early = engine.capabilities.releases_early and not reads
        self._inline, self._schedules = engine.capabilities.inline, engine.capabilities.schedules
        flying = self._pending if self._schedules else ()
        self._values = Values(engine, len(self._steps), flying, early=self._early)
        self._recovery = Recovery(job, self._actions, self._records, self._values)
        self._unusable = self._recovery.unusable
        # in flight with a value that turned out to be damaged: what else runs again
        self._outdated: dict[H, set[int]] = {}
        # parents come first in graph order: an engine that is done at once needs no more
        self._in_order = self._inline and not self._groups
        self._limit = job.max_pending or len(self._steps) + 1

    @property
    def records(self) -> dict[str, Record]:
        """What is known of the steps that are done, by name."""
        return {record.name: record for record in self._records if record is not None}

    def execute(self) -> list[Any]:
        """Run everything; give the values of the targets.

        Raises:
            BaseException: The first failure of a node, as the user's function raised it.
        """
        self._tell(RunStarted, self._job.workflow, self.plan)
        error: BaseException | None = None
        try:
            return self._execute()
        except BaseException as raised:
            error = raised
            self._engine.cancel(self._pending)
            self._forget_damage()
            raise
        finally:
            self._tell(RunFinished, self._job.workflow, error)

    def _execute(self) -> list[Any]:
        if self._job.results is not None:
            self._job.results.prepare()
        self._setups = self._job.setups()
        targets = self._job.graph.targets if self._job.give_values else ()
        self._values.need(ref.number for ref in targets)
        self._line_up(self._take_on(zip(self._steps, self.plan.actions.values(), strict=True)))
        self._loop()
        if self._failures:
            raise self._first_failure()
        values = [self._target(ref) for ref in targets]
        if self._job.results is not None:
            self._job.results.settle()  # nothing is given out that was read and is still being checked
        return values

    def _forget_damage(self) -> None:
        """This run has failed, of damage that a storage has found or otherwise: the next one shall not."""
        if self._job.results is not None:
            with suppress(StorageError):
                self._job.results.settle()

    def _loop(self) -> None:
        steps, pending, ready = self._steps, self._pending, self._ready
        while True:
            while ready and len(pending) < self._limit:
                self._submit(steps[-ready.pop()])
            if not pending:
                return
            done = self._engine.wait(pending)
            for handle in self._parents_first(done) if self._schedules else done:
                self._settle(handle, *pending.pop(handle))

    def _parents_first(self, done: Iterable[H]) -> Iterable[H]:
        """What is done, in an order in which it may have become so: an engine may tell of a child first."""
        ordered: dict[H, None] = {}
        stack = list(done)
        while stack:
            handle = stack.pop()
            if handle not in ordered:
                step, _, load = self._pending[handle]
                parents = () if load or handle in self._outdated else step.parents
                flying = [self._flying[parent] for parent in parents if parent in self._flying]
                ahead = [other for other in flying if other not in ordered]
                if ahead:
                    stack += (handle, *ahead)
                else:
                    ordered[handle] = None
                    for part in () if load else self._parts(step):
                        self._flying.pop(part.number, None)
        return ordered

    # ---- taking steps on ----

    def _grouped(self) -> dict[int, tuple[Step, ...]]:
        """For each step that runs together with others: all of them, in graph order."""
        if self._job.on_error == "continue":  # a failure would take what is done along
            return {}
        actions, steps = self.plan.actions, self._job.graph.steps
        groups: dict[int, tuple[Step, ...]] = {}
        for names in self._job.graph.groups:
            group = tuple(steps[name] for name in names if actions[name] is Action.COMPUTE)
            if len(group) > 1:
                groups |= {step.number: group for step in group}
        return groups

    def _kept_for_others(self) -> set[int]:
        """The steps that run together with others, and whose value a step outside may come to need.

        With a storage, a step that is only read may turn out to be damaged while its parents are in flight.
        """
        if not self._groups or self._job.results is None:
            return set()
        return {
            parent
            for step in self._steps
            for parent in step.parents
            if parent in self._groups and self._leader(parent) != self._leader(step.number)
        }

    def _leader(self, number: int) -> int:
        """The step that is submitted for this one: the first of its group, or itself."""
        return self._groups[number][0].number if number in self._groups else number

    def _parts(self, step: Step) -> tuple[Step, ...]:
        """The steps of a unit in flight."""
        return self._together.get(step.number, (step,))

    def _take_on(self, planned: Iterable[tuple[Step, Action]]) -> list[Step]:
        """Add what a plan wants done with some steps to what this run does; gives these steps."""
        taken: list[Step] = []
        for step, action in planned:
            if action is not Action.LEAVE_OUT:
                self._actions[step.number] = action
                taken.append(step)
                if action is Action.COMPUTE:
                    self._values.need(step.parents)
        return taken

    def _line_up(self, steps: Sequence[Step]) -> None:
        """Make steps ready, or let them wait for their parents."""
        if not self._in_order:
            for step in steps:
                self._wait_for_parents(step)
        leaders = [step.number for step in steps]
        if self._groups:
            leaders = [number for number in leaders if number == self._leader(number)]
        self._ready += [-number for number in leaders if number not in self._missing]
        self._ready.sort()

    def _is_awaited(self, parent: int) -> bool:
        """Tell whether the children of a step cannot be submitted yet.

        An engine that schedules takes them as soon as it has the parent,
        but not before a stored result was read: it may turn out to be damaged.
        """
        flying = self._flying.get(parent)
        if flying is not None and flying is self._values[parent]:
            return False
        return self._recovery.is_open(self._steps[parent])

    def _wait_for_parents(self, step: Step) -> None:
        if self._actions[step.number] is Action.LOAD:
            return
        leader = self._leader(step.number)
        parents = [
            parent
            for parent in step.parents
            if self._is_awaited(parent) and self._leader(parent) != leader
        ]
        for parent in parents:
            self._children[parent].append(leader)
        if parents:
            self._missing[leader] = self._missing.get(leader, 0) + len(parents)

    def _submit(self, step: Step) -> None:
        if step.number in self._groups:
            self._submit_together(self._groups[step.number])
            return
        load = self._actions[step.number] is Action.LOAD
        parents = () if load else step.parents
        inputs = [self._values[parent] for parent in parents]
        if self._failures and None in inputs:  # a parent failed after this was ready
            self._lost.add(step.number)
            return
        if self._job.observers:
            self._tell(StepSubmitted, step.name)
        self._hand_over(self._unit(step, load=load), inputs, (step,), load=load)
        self._values.taken(parents)

    def _submit_together(self, group: tuple[Step, ...]) -> None:
        numbers = {step.number for step in group}
        within = Counter(parent for step in group for parent in step.parents if parent in numbers)
        outside = {
            parent: None for step in group for parent in step.parents if parent not in numbers
        }
        inputs = [self._values[parent] for parent in outside]
        if self._failures and None in inputs:
            self._lost |= numbers
            return
        first, last = group[0], group[-1]
        step = first._replace(
            name=f"{first.name} .. {last.name} ({len(group)} nodes)", parents=tuple(outside)
        )
        for part in group:
            self._tell(StepSubmitted, part.name)
        unit = self._unit(step, load=False)._replace(
            parts=tuple(self._unit(part, load=False) for part in group),
            keep=tuple(
                number
                for number in numbers
                if self._values.uses(number) > within[number] or number in self._read_outside
            ),
        )
        self._values.settle_within(within)
        self._together[first.number] = group
        self._hand_over(unit, inputs, group, load=False)
        self._values.taken(parent for part in group for parent in part.parents if parent in outside)

    def _unit(self, step: Step, *, load: bool) -> Unit:
        name, job = step.name, self._job
        storage = None if name in job.logged else job.results
        sole = step.state is not None and job.graph.state_readers[step.state.number] == 1
        setup, engine = self._setups.get(name), self._engine.name
        again = name in self._unusable
        return new(Unit, (step, job.workflow, engine, storage, load, setup, sole, (), (), again))

    def _hand_over(
        self, unit: Unit, inputs: list[Any], steps: Sequence[Step], *, load: bool
    ) -> None:
        """Submit the unit of some steps, with the engine's options for the first."""
        options, submitted = self._job.options.get(steps[0].name, _NOTHING), time.time()
        handle = self._engine.submit(unit, inputs, options)
        if self._inline:
            self._settle(handle, unit.step, submitted, load)
            return
        self._pending[handle] = unit.step, submitted, load
        if self._schedules and not load:
            numbers = [step.number for step in steps]
            self._flying |= dict.fromkeys(numbers, handle)
            self._pass_on(handle, numbers)

    def _pass_on(self, handle: H, numbers: Sequence[int]) -> None:
        """Let the children of some steps have what a handle stands for."""
        self._values.keep(handle, numbers)
        if self._children:
            for number in numbers:
                self._unblock(self._children.pop(number, ()))

    # ---- settling what is done ----

    def _settle(self, handle: H, step: Step, submitted: float, load: bool) -> None:  # noqa: FBT001
        number = step.number
        if load and self._actions[number] is Action.COMPUTE:  # by now, more than reading is needed
            self._engine.release(handle)
            return
        if self._outdated and handle in self._outdated:
            self._settle_outdated(handle, step)
            return
        try:
            record = self._engine.record(handle)
        except BaseException as error:  # noqa: BLE001 - the user's own
            self._settle_error(step, submitted, error, load=load)
            return
        if record.parts:
            self._settle_together(handle, record)
            return
        self._records[number] = record
        if not self._values.uses(number):
            self._engine.release(handle)
        self._pass_on(handle, (number,))
        if self._job.observers:
            self._tell(StepFinished, record)

    def _settle_error(
        self, step: Step, submitted: float, error: BaseException, *, load: bool
    ) -> None:
        if load and isinstance(error, DAMAGED):
            self._recover(step, str(error), (step,))
        elif damage := self._damage_behind(error, step):
            self._recover(self._job.graph.steps[damage.node], damage.problem, self._parts(step))
        elif self._lost.isdisjoint(step.parents) and not isinstance(error, Withdrawn):
            self._fail(step, submitted, error)
        else:  # in flight when something that it needs failed: it never started
            self._lose(step)

    def _settle_together(self, handle: H, record: Record) -> None:
        numbers = [self._job.graph.steps[part.name].number for part in record.parts]
        del self._together[numbers[0]]
        for number, part in zip(numbers, record.parts, strict=True):
            self._records[number] = part
            self._tell(StepFinished, part)
        self._pass_on(handle, numbers)
        if not self._values.is_kept(handle):
            self._engine.release(handle)

    def _lose(self, step: Step) -> None:
        """Note that a step, with those that run together with it, has no value and will have none."""
        for other in self._together.pop(step.number, (step,)):
            self._lost.add(other.number)
            self._values.lose(other.number)
            self._flying.pop(other.number, None)

    def _unblock(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._missing[number] -= 1
            if not self._missing[number]:
                del self._missing[number]
                insort(self._ready, -number)

    def _fail(self, step: Step, submitted: float, error: BaseException) -> None:
        self._lose(step)
        # taken off: this run may be within a node of another one
        name, done = error.__dict__.pop(FAILED_PART, (step.name, ()))
        # a worker that died with a group does not tell which part it was: then the first
        step = self._job.graph.steps.get(name, self._steps[step.number])
        for part in done:
            self._records[self._job.graph.steps[part.name].number] = part
            self._tell(StepFinished, part)
        annotate(error, step, self._job.workflow)
        record = Record(step.name, "failed", submitted, time.time() - submitted, "", None)
        self._records[step.number] = record
        self._failures[step.name] = error
        if self._job.on_error == "raise":
            self._limit = 0  # nothing new is started
            self._give_up_waiting()
            if self._engine.capabilities.withdraws:
                self._engine.cancel(self._pending)
        self._tell(StepFailed, record, error)

    def _give_up_waiting(self) -> None:
        """Take back what an engine has that schedules, and that waits for something in flight."""
        waiting = [
            (handle, step)
            for handle, (step, _, load) in self._pending.items()
            if not load
            and handle not in self._outdated
            and not self._flying.keys().isdisjoint(step.parents)
        ]
        self._engine.cancel([handle for handle, _ in waiting])
        for handle, step in waiting:
            del self._pending[handle]
            self._lose(step)

    def _first_failure(self) -> BaseException:
        _, *others = self._failures
        first = next(iter(self._failures.values()))
        if others:
            add_note(first, f"other nodes failed as well: {', '.join(map(repr, others))}")
        return first

    # ---- recovering from damage ----

    def _damage_behind(self, error: BaseException, step: Step) -> Damage | None:
        """The damaged result that made a unit fail, where the run goes on and can compute the result again."""
        if self._early or not self._limit or not self._lost.isdisjoint(step.parents):
            return None
        return self._recovery.damage_behind(error, self._parts(step))

    def _recover(self, damaged: Step, problem: str, users: Sequence[Step]) -> None:
        """Compute a damaged result again, and the steps that used it.

        Args:
            damaged: The step whose stored result it is.
            problem: What is wrong with it.
            users: The steps of the unit that failed.
        """
        message = f"the stored result of node {damaged.name!r} is damaged and is computed again: {problem}"
        warnings.warn(message, DamagedResultWarning, stacklevel=2)
        self._recovery.condemn(damaged)
        self._together.pop(users[0].number, None)
        dependents = self._recovery.dependents(damaged)
        used = [
            step
            for step in map(self._steps.__getitem__, sorted(dependents))
            if self._records[step.number] is not None and self._values[step.number] is not None
        ]
        dependents.update(step.number for step in users)
        self._outdate(dependents)
        steps = {step.number: step for step in (damaged, *users, *used)}
        self._run_again([*steps.values()], dependents)

    def _outdate(self, dependents: set[int]) -> None:
        """Let nobody have the values of units in flight that depend on some steps; they run again when they are done.

        Args:
            dependents: The steps; those of the units are added.
        """
        for handle, (
            step,
            _,
            load,
        ) in self._pending.items():  # what a unit takes was submitted before it
            parts = () if load else self._parts(step)
            numbers = {part.number for part in parts}
            if parts and not dependents.isdisjoint(numbers.union(step.parents)):
                dependents |= numbers
                self._outdated[handle] = dependents
                for number in numbers:
                    self._flying.pop(number, None)
                    self._values.drop(number)

    def _settle_outdated(self, handle: H, step: Step) -> None:
        """Run a unit again that was in flight with a damaged value; a result that it stored is loaded."""
        dependents = self._outdated.pop(handle)
        with suppress(Exception):  # Ray reports errors that nobody asks for
            self._engine.record(handle)
        self._engine.release(handle)
        self._run_again(self._together.pop(step.number, (step,)), dependents)

    def _run_again(self, steps: Sequence[Step], dependents: set[int]) -> None:
        """Forget some steps, take them on once more with what they need, and let all others wait for them."""
        self._recovery.forget(steps, dependents)
        again = self._recovery.plan_again(steps, self._failures)
        for step, _ in again:
            self._records[step.number] = None
            self._values.drop(step.number)
        self._take_on(again)
        self._groups = {}  # what is damaged may depend on a part of one
        self._missing.clear()
        self._children.clear()
        self._ready.clear()
        flying = self._in_flight()
        is_open = self._recovery.is_open
        self._line_up([step for step in self._steps if is_open(step) and step.number not in flying])

    def _in_flight(self) -> set[int]:
        """The steps that are in flight, without those that are loaded in vain."""
        return {
            part.number
            for step, _, load in self._pending.values()
            if not load or self._actions[step.number] is Action.LOAD
            for part in ((step,) if load else self._parts(step))
        }

    def _target(self, ref: Ref) -> Any:
        return pick(ref, self._engine.fetch(self._values[ref.number]))

    def _tell(self, event: Callable[..., Event], *fields: Any) -> None:
        if self._job.observers:
            notify(self._job.observers, event(*fields))
