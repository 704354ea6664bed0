"""Recover from damaged stored results: select the steps that a run computes or loads again.

Damage shows when a result is loaded, or, in a lazy value, in a step that uses the result.
Then the damaged result is computed again, and with it what was computed from the damaged value:
the step that failed, and steps whose values may still read from the damaged files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functionfuse._graph.graph import Ref
from functionfuse._kernel.annotations import add_note
from functionfuse._kernel.damage import take_damage
from functionfuse.plan import Action, make_plan

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from functionfuse._execution.reference_counts import Values
    from functionfuse._execution.run_spec import Job
    from functionfuse._graph.graph import Step
    from functionfuse._kernel.damage import Damage
    from functionfuse._kernel.units import Record

__all__ = ["Recovery"]


class Recovery:
    """The damaged results of one run; works on the lists that the run keeps, by the steps' numbers."""

    def __init__(
        self, job: Job, actions: list[Action], records: list[Record | None], values: Values[Any]
    ) -> None:
        """Begin with no damage.

        Args:
            job: What is run.
            actions: What the run does with each step.
            records: What is known of the steps that are done.
            values: The values that are in use.
        """
        self._damaged: set[str] = set()  # the steps whose results are computed again, each once
        self.unusable: set[str] = set()  # those of them that were not stored again yet
        self._job = job
        self._steps = job.graph.order
        self._actions = actions
        self._records = records
        self._values = values
        self._called: set[int] = set()  # forgotten methods, whose instances they may have changed

    def is_open(self, step: Step) -> bool:
        """Tell whether a step was taken on and is not done."""
        number = step.number
        return self._actions[number] is not Action.LEAVE_OUT and self._records[number] is None

    def damage_behind(self, error: BaseException, users: Sequence[Step]) -> Damage | None:
        """The damage that made a unit fail, if computing the damaged result again can help.

        Args:
            error: What the unit raised.
            users: The steps of the unit.
        """
        damage = take_damage(error, self._job.workflow)
        damaged = self._job.graph.steps.get(damage.node) if damage else None
        if damage is None or damaged is None:
            return None
        dependents = self.dependents(damaged)
        if all(step.number not in dependents for step in users):
            return None
        if damage.node in self._damaged:
            add_note(
                error,
                f"the result of node {damage.node!r} was damaged, was computed again in this run, "
                "and is damaged again: check the disk under the storage",
            )
            return None
        return damage

    def dependents(self, damaged: Step) -> set[int]:
        """The steps that this run computes from the value of a damaged result, directly or not."""
        found = {damaged.number}
        for step in self._steps:
            if self._actions[step.number] is Action.COMPUTE and not found.isdisjoint(step.parents):
                found.add(step.number)
        return found - {damaged.number}

    def condemn(self, damaged: Step) -> None:
        """Let a stored result be computed again instead of loaded."""
        self._damaged.add(damaged.name)
        self.unusable.add(damaged.name)
        self._records[damaged.number] = None

    def forget(self, steps: Iterable[Step], dependents: Container[int]) -> None:
        """Let the run know nothing of some steps, whatever became of them.

        Args:
            steps: The steps.
            dependents: The steps that are computed from the damaged value, all of which run again.
        """
        self.unusable -= {
            name
            for name in self.unusable
            if self._records[self._job.graph.steps[name].number] is not None
        }
        for step in steps:
            number = step.number
            called = self._actions[number] is Action.COMPUTE
            if called and step.state is not None and step.state.number not in dependents:
                self._called.add(number)
            self._actions[number] = Action.LEAVE_OUT
            self._records[number] = None
            self._values.drop(number)

    def plan_again(
        self, wanted: Sequence[Step], failed: Container[str]
    ) -> list[tuple[Step, Action]]:
        """What to do, in graph order, so that forgotten steps have their values again.

        Args:
            wanted: The forgotten steps.
            failed: The names of the steps that failed: they are not tried again.
        """
        live = {step.name for step in self._steps if self._values[step.number] is not None}
        available = _Available(self._job.stored(), live, self.unusable)
        running = {
            step.name
            for step in self._steps
            if self.is_open(step) and self._actions[step.number] is Action.COMPUTE
        }
        plan = make_plan(self._job.graph, available, (), self._refs(wanted), running)
        again = {
            step.number: action
            for step, action in zip(self._steps, plan.actions.values(), strict=True)
            if step.name not in failed and self._is_needed_again(step, action)
        }
        return self._with_calls_before(again)

    def _refs(self, wanted: Sequence[Step]) -> list[Ref]:
        """What is needed of some steps: their instance, where a step that is not done takes it."""
        taken: set[int] = set()
        if self._job.graph.stateful:
            taken = {ref.number for ref in self._job.graph.targets if ref.slot == "state"}
            users = [*wanted, *(step for step in self._steps if self.is_open(step))]
            taken.update(*[step.instances for step in users])
        return [
            Ref(step.name, step.number, slot="state" if step.number in taken else "value")
            for step in wanted
        ]

    def _is_needed_again(self, step: Step, action: Action) -> bool:
        if action is Action.LEAVE_OUT:
            return False
        if action is Action.COMPUTE and self._actions[step.number] is Action.LOAD:
            return True  # a method whose instance is needed and not only its result
        return self._values[step.number] is None and not self.is_open(step)

    def _with_calls_before(self, again: dict[int, Action]) -> list[tuple[Step, Action]]:
        """Add all calls before one that was made already: the instance is not any more as they left it."""
        for step in reversed(self._steps):
            if step.state is not None and again.get(step.number) is Action.COMPUTE:
                done = self._actions[step.number] is Action.COMPUTE and not self.is_open(step)
                before = self._steps[step.state.number]
                if (done or step.number in self._called) and not self.is_open(before):
                    again[before.number] = Action.COMPUTE
        return [(self._steps[number], again[number]) for number in sorted(again)]


@dataclass(frozen=True, slots=True)
class _Available:
    """What need not be computed in the middle of a run."""

    stored: Container[str]
    live: Container[str]
    unusable: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.live or (name in self.stored and name not in self.unusable)
