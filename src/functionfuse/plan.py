"""What a run would do with each step, and why: demand-driven, from the targets backwards."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from functionfuse.nodes import Slot
from functionfuse.tables import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping

    from functionfuse.graph import Graph, Ref

__all__ = ["Action", "Plan", "PlannedStep", "make_plan"]


class Action(Enum):
    """What happens to a step."""

    COMPUTE = "compute"
    LOAD = "load"
    LEAVE_OUT = "leave out"


class Why(Enum):
    """Why a step is needed, or not."""

    TARGET = "a target"
    LOGGED = "always runs and is never stored"
    VALUE = "needed by {}"
    STATE = "its instance is needed by {}"
    NOT_NEEDED = "nothing that is computed needs it"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One line of a plan."""

    name: str
    action: Action
    reason: str


@dataclass(frozen=True)
class Plan:
    """An action for every step of a graph, in graph order."""

    actions: Mapping[str, Action]
    _causes: Mapping[str, tuple[Why, str]]  # of those that are needed, with the step that needs it
    _stored: Container[str]

    def __len__(self) -> int:
        return len(self.actions)

    def __iter__(self) -> Iterator[PlannedStep]:
        return (PlannedStep(name, action, self.reason(name)) for name, action in self.actions.items())

    def __getitem__(self, name: str) -> PlannedStep:
        return PlannedStep(name, self.actions[name], self.reason(name))

    def names(self, action: Action) -> list[str]:
        """The steps with this action, in graph order."""
        return [name for name, planned in self.actions.items() if planned is action]

    def reason(self, name: str) -> str:
        """Why the step has its action."""
        why, cause = self._causes.get(name, (Why.NOT_NEEDED, ""))
        stored = "" if why is Why.LOGGED else "stored; " if name in self._stored else "not stored; "
        return stored + why.value.format(repr(cause))

    def _table(self) -> Table:
        rows = [(step.name, step.action.value, step.reason) for step in self]
        return Table(("node", "action", "reason"), rows)

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


def make_plan(
    graph: Graph,
    stored: Container[str],
    logged: Collection[str] = frozenset(),
    wanted: Iterable[Ref] | None = None,
) -> Plan:
    """Decide backwards from what is wanted: what is stored stops the walk.

    Args:
        graph: The graph to run.
        stored: The names of the steps whose result can be read.
        logged: The names of the steps that always run and are never stored.
        wanted: What the run shall give; the graph's targets unless told.
    """
    targets = graph.targets if wanted is None else tuple(wanted)
    values = {ref.step: (Why.TARGET, "") for ref in targets}
    instances = {ref.step: (Why.TARGET, "") for ref in targets if ref.slot is Slot.STATE}
    logs = {name: (Why.LOGGED, "") for name in logged}
    actions: dict[str, Action] = {}
    for name, step in reversed(graph.steps.items()):
        # an instance is not stored: whoever needs it has the calls that made it run again
        if name in instances or name in logs or (name in values and name not in stored):
            actions[name] = Action.COMPUTE
            for parent in step.parents:
                values.setdefault(parent, (Why.VALUE, name))
            for parent in step.instances:
                instances.setdefault(parent, (Why.STATE, name))
        else:
            actions[name] = Action.LOAD if name in values else Action.LEAVE_OUT
    in_order = {name: actions[name] for name in graph.steps}
    return Plan(MappingProxyType(in_order), values | instances | logs, stored)
