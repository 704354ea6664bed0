"""The only driver loop: submits units to an engine in the right order and settles what comes back."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from functionfuse.errors import DamagedResultWarning
from functionfuse.events import (
    Observer,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepSubmitted,
    notify,
)
from functionfuse.graph import Ref
from functionfuse.kernel import DAMAGED, Record, Status, Unit, annotate, pick
from functionfuse.options import for_run
from functionfuse.plan import Action, Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence

    from functionfuse.engine import Engine
    from functionfuse.events import Event
    from functionfuse.graph import Graph, Step
    from functionfuse.options import Plugin
    from functionfuse.storage.base import Results

__all__ = ["Job", "OnError", "Run"]

H = TypeVar("H")
OnError = Literal["raise", "continue"]
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a run needs to know, apart from the engine."""

    graph: Graph
    workflow: str
    results: Results | None = None
    logged: Collection[str] = frozenset()  # steps that always run and are never stored
    plugins: Mapping[str, Plugin] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the engine's, by step
    observers: Sequence[Observer] = ()
    on_error: OnError = "raise"
    max_pending: int = 0  # units in flight at once; 0 leaves it to the engine

    def plan(self) -> Plan:
        """What a run would do, by what is stored now."""
        return make_plan(self.graph, self.stored(), self.logged)

    def stored(self) -> Container[str]:
        """The names of the results that are stored now."""
        return self.results.names() if self.results else frozenset()

    def setups(self) -> dict[str, Callable[[], object] | None]:
        """What each worker calls first.

        Plugins are asked for *every* step in graph order, so that a seed never depends on what is stored.
        """
        fresh = {id(plugin): for_run(plugin) for plugin in self.plugins.values()}
        setups = {}
        for name in self.graph.steps if self.plugins else ():
            if name in self.plugins:
                plugin = fresh[id(self.plugins[name])]
                plugin.local_initialize()
                setups[name] = plugin.remote_initialize()
        return setups


class Run(Generic[H]):
    """One run of a job on an engine; keeps all that is only true of this run."""

    def __init__(self, job: Job, engine: Engine[H]) -> None:  # noqa: D107
        self.records: dict[str, Record] = {}
        self._job = job
        self._engine = engine
        self._steps = job.graph.steps
        self._numbers = {name: number for number, name in enumerate(self._steps)}
        self._names = list(self._steps)
        self._stored = job.stored()
        self._damaged: set[str] = set()
        self.plan = make_plan(job.graph, self._stored, job.logged)
        self._actions: dict[str, Action] = {}  # of the steps that this run took on
        self._missing: dict[str, int] = {}  # parents that a waiting step still waits for
        self._children: defaultdict[str, list[str]] = defaultdict(list)  # who waits for an open step
        self._open: set[str] = set()  # taken on and not done
        self._ready: list[int] = []  # a heap of numbers: graph order
        self._pending: dict[H, tuple[str, float]] = {}  # in flight: name and time of submission
        self._live: dict[str, H] = {}  # done, and somebody still needs the value
        self._uses: defaultdict[str, int] = defaultdict(int)  # how many still do
        self._failures: list[BaseException] = []
        self._failed: list[str] = []
        limits = (job.max_pending, engine.capabilities.in_flight)
        self._limit = min((limit for limit in limits if limit), default=len(self._names) + 1)

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
            raise
        finally:
            self._tell(RunFinished, self._job.workflow, error)

    def _execute(self) -> list[Any]:
        if self._job.results is not None:
            self._job.results.prepare()
        self._setups = self._job.setups()
        for ref in self._job.graph.targets:
            self._uses[ref.step] += 1
        self._take_on(self.plan)
        self._loop()
        if self._failures:
            raise self._first_failure()
        return [self._target(ref) for ref in self._job.graph.targets]

    def _loop(self) -> None:
        while True:
            while self._ready and len(self._pending) < self._limit and not self._stopping():
                self._submit(self._names[heappop(self._ready)])
            if not self._pending:
                return
            for handle in self._engine.wait(self._pending):
                self._settle(handle)

    def _stopping(self) -> bool:
        return bool(self._failures) and self._job.on_error == "raise"

    # ---- taking steps on ----

    def _take_on(self, plan: Plan) -> None:
        for name, action in plan.actions.items():
            if action is not Action.LEAVE_OUT and name not in self._open and name not in self._live:
                self._open.add(name)
                self._schedule(name, action)

    def _schedule(self, name: str, action: Action) -> None:
        self._actions[name] = action
        missing = 0
        if action is Action.COMPUTE:
            for parent in self._steps[name].parents:
                self._uses[parent] += 1
                if parent in self._open and not self._engine.capabilities.schedules:
                    self._children[parent].append(name)
                    missing += 1
        if missing:
            self._missing[name] = missing
        else:
            heappush(self._ready, self._numbers[name])

    def _submit(self, name: str) -> None:
        step = self._steps[name]
        unit = self._unit(step)
        inputs = [] if unit.load else [self._live[parent] for parent in step.parents]
        options = self._job.options.get(name, _NOTHING)
        self._tell(StepSubmitted, name)
        submitted = time.time()
        handle = self._engine.submit(unit, inputs, options)
        self._pending[handle] = name, submitted
        if self._engine.capabilities.schedules:
            self._live[name] = handle
        if not unit.load:
            for parent in step.parents:
                self._used(parent)

    def _unit(self, step: Step) -> Unit:
        name, job = step.name, self._job
        return Unit(
            step,
            job.workflow,
            self._engine.name,
            None if name in job.logged else job.results,
            self._actions[name] is Action.LOAD,
            self._setups.get(name),
            step.state is not None and job.graph.state_readers[step.state.step] == 1,
        )

    def _used(self, name: str) -> None:
        self._uses[name] -= 1
        if not self._uses[name]:
            self._engine.release(self._live.pop(name))

    # ---- settling what is done ----

    def _settle(self, handle: H) -> None:
        name, submitted = self._pending.pop(handle)
        try:
            record = self._engine.record(handle)
        except BaseException as error:
            if self._actions[name] is Action.LOAD and isinstance(error, DAMAGED):
                self._compute_after_all(name, error)
            else:
                self._fail(name, submitted, error)
        else:
            self._finish(name, handle, record)

    def _finish(self, name: str, handle: H, record: Record) -> None:
        self.records[name] = record
        self._open.discard(name)
        if self._uses[name]:
            self._live[name] = handle
        else:
            self._engine.release(handle)
        for child in self._children.pop(name, ()):
            self._missing[child] -= 1
            if not self._missing[child]:
                heappush(self._ready, self._numbers[child])
        self._tell(StepFinished, record)

    def _fail(self, name: str, submitted: float, error: BaseException) -> None:
        annotate(error, self._steps[name], self._job.workflow)
        record = Record(name, Status.FAILED, submitted, time.time() - submitted, "", None)
        self.records[name] = record
        self._failures.append(error)
        self._failed.append(name)
        self._tell(StepFailed, record, error)

    def _first_failure(self) -> BaseException:
        first, others = self._failures[0], self._failed[1:]
        if others:
            first.add_note(f"other nodes failed as well: {', '.join(map(repr, others))}")
        return first

    def _compute_after_all(self, name: str, error: BaseException) -> None:
        """A stored result cannot be read: take on what it needs, and compute it."""
        message = f"the stored result of node {name!r} is damaged and is computed anew: {error}"
        warnings.warn(message, DamagedResultWarning, stacklevel=2)
        self._damaged.add(name)
        available = _Available(self._stored, self._live, self._damaged)
        self._take_on(make_plan(self._job.graph, available, wanted=[Ref(name)]))
        self._schedule(name, Action.COMPUTE)

    def _target(self, ref: Ref) -> Any:
        return pick(ref, self._engine.fetch(self._live[ref.step]))

    def _tell(self, event: Callable[..., Event], *fields: Any) -> None:
        if self._job.observers:
            notify(self._job.observers, event(*fields))


@dataclass(frozen=True, slots=True)
class _Available:
    """What need not be computed in the middle of a run."""

    stored: Container[str]
    live: Container[str]
    damaged: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.live or (name in self.stored and name not in self.damaged)
