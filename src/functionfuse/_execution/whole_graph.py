"""Runs that an engine can be given whole: it is done when it has the graph, and nobody looks on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from functionfuse._graph.builder import WrittenGraph
from functionfuse._graph.graph import Step
from functionfuse._graph.nodes import Kind
from functionfuse._kernel.annotations import annotate, name_item
from functionfuse._kernel.binding import pick
from functionfuse._kernel.kernel import FAILED_PART
from functionfuse._kernel.units import Record, Unit, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functionfuse._execution.run_spec import Job
    from functionfuse.engine import Engine

__all__ = ["RunAtOnce", "can_run_at_once"]


def can_run_at_once(job: Job, engine: Engine[Any]) -> bool:
    """Tell whether there is nothing to do around the calls of the nodes."""
    return (
        engine.capabilities.inline
        and type(job.graph) is WrittenGraph
        and job.results is None
        and job.on_error == "raise"
        and not (job.plugins or job.observers or job.options)
    )


class RunAtOnce:
    """One run of a whole graph as one unit, see `Run`."""

    def __init__(self, job: Job, engine: Engine[Any]) -> None:
        assert type(job.graph) is WrittenGraph
        self.plan = job.plan()
        self._graph = job.graph
        self._workflow = job.workflow
        self._engine = engine
        self._done: Sequence[Record] = ()
        self._failed: Record | None = None

    @property
    def records(self) -> Mapping[str, Record]:
        """What is known of the steps that are done, by name."""
        return _ByName(self._graph, self._done, self._failed)

    def execute(self) -> list[Any]:
        """Run everything; give the values of the targets.

        Raises:
            BaseException: The failure of a node, as the user's function raised it.
        """
        started = time.time()
        try:
            handle = self._engine.submit(self._unit(), [], {})
            for done in self._engine.wait([handle]):
                self._done = self._engine.record(done).parts
            values = self._engine.fetch(handle)
            return [pick(target, values[target.node]) for target in self._graph.written.targets]
        except BaseException as error:
            name_item(error, lambda node: self._graph.step(node).name)
            self._note(error, started)
            raise

    def _unit(self) -> Unit:
        name = self._engine.name
        step = Step(self._workflow, 0, lambda: None, (), {}, Kind.FUNCTION, None, "", ())
        return Unit(step, self._workflow, name, parts=Whole(self._graph, self._workflow, name))

    def _note(self, error: BaseException, started: float) -> None:
        """Remember what was done until a node failed, and that it did."""
        name, done = error.__dict__.pop(FAILED_PART, (None, ()))
        if name is None:
            return
        self._done, step = done, self._graph.order[len(done)]
        annotate(error, step, self._workflow)
        if isinstance(error, Exception):
            began = done[-1].started + done[-1].seconds if done else started
            self._failed = Record(step.name, "failed", began, time.time() - began, "", None)


class _ByName(Mapping[str, Record]):
    """Records by the names of their steps, found by the steps' numbers."""

    def __init__(self, graph: WrittenGraph, done: Sequence[Record], failed: Record | None) -> None:
        self._graph = graph
        self._done = done
        self._failed = failed

    def __getitem__(self, name: str) -> Record:
        number = self._graph.steps[name].number
        if number < len(self._done):
            return self._done[number]
        if self._failed is None or self._failed.name != name:
            raise KeyError(name)
        return self._failed

    def __len__(self) -> int:
        return len(self._done) + (self._failed is not None)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._graph.steps if name in self)
