"""An engine that schedules and runs units in any order that a test chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functionfuse.backends.base import Query, Workflow
from functionfuse.engine import Capabilities, Outcome, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from functionfuse.engine import Record, Unit


class Handle:
    """A submitted unit."""

    def __init__(self, unit: Unit, inputs: Sequence[Handle]) -> None:
        """Neither run nor reported."""
        self.unit = unit
        self.inputs = inputs
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Tell whether the unit has run."""
        return self.outcome is not None or self.error is not None

    def run(self) -> None:
        """Run the unit after its inputs."""
        for parent in self.inputs:
            parent.run()
        if not self.is_done:
            try:
                values = [parent.outcome.value for parent in self.inputs if parent.outcome]
                self.outcome = execute(self.unit, values)
            except Exception as error:  # noqa: BLE001 - reported by record()
                self.error = error


class OrderedEngine:
    """Takes units before their inputs are done; runs and reports them in a chosen order."""

    name = "ordered"
    capabilities = Capabilities(schedules=True)

    def __init__(self, choose: Callable[[list[Handle]], Handle]) -> None:
        """Let `choose` pick the next unit among those in flight, in the order of submission."""
        self._choose = choose

    def submit(self, unit: Unit, inputs: Sequence[Handle], _: Mapping[str, Any]) -> Handle:
        """Take a unit; a missing input is the scheduler's fault."""
        assert None not in inputs, f"{unit.node.name} was submitted without an input"
        return Handle(unit, inputs)

    def wait(self, pending: Collection[Handle]) -> Iterable[Handle]:
        """Run the next unit."""
        handle = self._choose([*pending])
        handle.run()
        return [handle]

    def record(self, handle: Handle) -> Record:
        """The record of a unit that has run."""
        assert handle.is_done, f"{handle.unit.node.name} has not run"
        if handle.error is not None:
            raise handle.error
        assert handle.outcome is not None
        return handle.outcome.record

    def fetch(self, handle: Handle) -> Any:
        """The value of a unit."""
        assert handle.outcome is not None
        return handle.outcome.value

    def release(self, handle: Handle) -> None:
        """Do nothing."""

    def cancel(self, pending: Collection[Handle]) -> None:
        """Do nothing."""

    def drive(self, body: Callable[[], Any]) -> Any:
        """Run the scheduler."""
        return body()


class OrderedWorkflow(Workflow[Any, Any]):
    """Runs on an `OrderedEngine`."""

    _query = Query

    def __init__(self, *targets: Any, choose: Callable[[list[Handle]], Handle]) -> None:
        """Build the graph."""
        super().__init__(*targets, workflow_name="ordered")
        self._choose = choose

    def _engine(self) -> Any:
        return OrderedEngine(self._choose)
