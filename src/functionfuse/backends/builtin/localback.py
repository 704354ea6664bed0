"""Running a graph in this process, one node after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from functionfuse.backends.base import Query, Workflow
from functionfuse.engine import Capabilities
from functionfuse.kernel import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from functionfuse.kernel import Outcome, Record, Unit

__all__ = ["LocalEngine", "LocalWorkflow"]

R = TypeVar("R")


class _Done:
    """A unit that has run: its outcome, or what it raised."""

    __slots__ = ("error", "outcome")

    def __init__(self, outcome: Outcome | None, error: Exception | None) -> None:
        self.outcome = outcome
        self.error = error


class LocalEngine:
    """Runs a unit when it is submitted."""

    name = "local"
    capabilities = Capabilities(in_flight=1)

    def submit(self, unit: Unit, inputs: Sequence[_Done], _: Mapping[str, Any]) -> _Done:  # noqa: D102
        try:
            return _Done(execute(unit, [done.outcome.value for done in inputs]), None)
        except Exception as error:  # noqa: BLE001 - the user's own
            return _Done(None, error)

    def wait(self, pending: Collection[_Done]) -> list[_Done]:  # noqa: D102
        return list(pending)

    def record(self, handle: _Done) -> Record:  # noqa: D102
        if handle.error is not None:
            raise handle.error
        return handle.outcome.record

    def fetch(self, handle: _Done) -> Any:  # noqa: D102
        return handle.outcome.value

    def release(self, handle: _Done) -> None:
        """Do nothing: the value goes with its handle."""

    def cancel(self, pending: Collection[_Done]) -> None:
        """Do nothing: what was submitted has run."""

    def drive(self, body: Callable[[], R]) -> R:  # noqa: D102
        return body()


class LocalWorkflow(Workflow[Query]):
    """Runs a graph in this process, in the order in which its calls were written."""

    _query = Query

    def _engine(self) -> LocalEngine:
        return LocalEngine()
