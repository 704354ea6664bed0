"""Runs that an engine can be given whole: it is done when it has the graph, and nobody looks on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from functionfuse.binding import pick
from functionfuse.kernel import FAILED_PART
from functionfuse.notes import annotate
from functionfuse.units import Alike, Record, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functionfuse.engine import Engine
    from functionfuse.graph import Graph
    from functionfuse.job import Job

__all__ = ["RunAtOnce", "can_run_at_once"]


def can_run_at_once(job: Job, engine: Engine[Any]) -> bool:
    """Tell whether there is nothing to do around the calls of the nodes."""
    return (
        engine.capabilities.inline
        and job.results is None
        and job.on_error == "raise"
        and not (job.plugins or job.observers or job.options)
    )


class RunAtOnce:
    """One run of a whole graph as one unit, see `Run`."""

    def __init__(self, job: Job, engine: Engine[Any]) -> None:  # noqa: D107
        self.plan = job.plan()
        self._job = job
        self._engine = engine
        self._done: Sequence[Record] = ()
        self._failed: Record | None = None

    @property
    def records(self) -> Mapping[str, Record]:
        """What is known of the steps that are done, by name."""
        return _ByName(self._job.graph, self._done, self._failed)

    def execute(self) -> list[Any]:
        """Run everything; give the values of the targets.

        Raises:
            BaseException: The failure of a node, as the user's function raised it.
        """
        targets, unit = self._job.graph.targets, self._unit()
        started = time.time()
        try:
            handle = self._engine.submit(unit, [], {})
            for done in self._engine.wait([handle]):
                self._done = self._engine.record(done).parts
        except BaseException as error:
            self._note(error, started)
            raise
        value = self._engine.fetch(handle)
        return [pick(ref, value) for ref in targets]

    def _unit(self) -> Unit:
        job, graph = self._job, self._job.graph
        readers = graph.state_readers
        soles = {
            step.number
            for step in (graph.order if graph.stateful else ())
            if step.state is not None and readers[step.state.number] == 1
        }
        keep = tuple({ref.number: None for ref in graph.targets})
        first = graph.order[0]._replace(parents=())
        parts = Alike(graph.order, job.workflow, self._engine.name, soles)
        return Unit(first, job.workflow, self._engine.name, parts=parts, keep=keep)

    def _note(self, error: BaseException, started: float) -> None:
        """Remember what was done until a node failed, and that it did."""
        name, self._done = error.__dict__.pop(FAILED_PART, (None, ()))
        if name is None:
            return
        annotate(error, self._job.graph.steps[name], self._job.workflow)
        if isinstance(error, Exception):
            began = self._done[-1].started + self._done[-1].seconds if self._done else started
            self._failed = Record(name, "failed", began, time.time() - began, "", None)


class _ByName(Mapping[str, Record]):
    """Records by the names of their steps, found by the steps' numbers."""

    def __init__(self, graph: Graph, done: Sequence[Record], failed: Record | None) -> None:
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
