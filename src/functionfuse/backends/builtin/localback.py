"""Running a graph in this process, one node after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from functionfuse.backends.base import Query, Workflow
from functionfuse.engine import Capabilities
from functionfuse.kernel import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from functionfuse.kernel import Outcome, Record, Unit

__all__ = ["LocalEngine", "LocalWorkflow"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class LocalEngine:
    """Runs a unit when it is submitted; its handles are the outcomes."""

    name = "local"
    capabilities = Capabilities(inline=True)

    def submit(  # noqa: D102 - as in Engine
        self, unit: Unit, inputs: Sequence[Outcome], _: Mapping[str, Any]
    ) -> Outcome | _Failed:
        try:
            return execute(unit, [outcome.value for outcome in inputs])
        except Exception as error:  # noqa: BLE001 - the user's own
            return _Failed(error)

    def wait(self, pending: Collection[Outcome | _Failed]) -> Collection[Outcome | _Failed]:  # noqa: D102
        return pending

    def record(self, handle: Outcome | _Failed) -> Record:  # noqa: D102
        if isinstance(handle, _Failed):
            raise handle.error
        return handle.record

    def fetch(self, handle: Outcome) -> Any:  # noqa: D102
        return handle.value

    def release(self, handle: Outcome | _Failed) -> None:
        """Do nothing: the value goes with its handle."""

    def cancel(self, pending: Collection[Outcome | _Failed]) -> None:
        """Do nothing: what was submitted has run."""

    def drive(self, body: Callable[[], R]) -> R:  # noqa: D102
        return body()


class LocalWorkflow(Workflow[Query]):
    """Runs a graph in this process, in the order in which its calls were written."""

    _query = Query

    def _engine(self) -> LocalEngine:
        return LocalEngine()
