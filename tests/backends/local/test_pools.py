"""The conformance suite on an engine outside the library: threads that wait for each other.

It shows that the scheduler works with an engine that accepts units early and reports their ends in any order.
"""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
)
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from functionfuse._kernel.kernel import execute
from functionfuse.backends.base import Query, Workflow
from functionfuse.engine import Capabilities
from functionfuse.testing import EngineTests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from functionfuse._kernel.units import Outcome, Record, Unit

R = TypeVar("R")


class SchedulingEngine:
    """Takes units whose inputs are not done, and reports units in an unhelpful order; handles are futures."""

    name = "scheduling pool"
    capabilities = Capabilities(schedules=True)

    def __init__(self, pool: Executor) -> None:
        """Take a pool, which stays open."""
        self.pool = pool
        self.given_up: dict[Future[Outcome], Event] = {}

    def submit(
        self, unit: Unit, inputs: Sequence[Future[Outcome]], options: Mapping[str, Any]
    ) -> Future[Outcome]:
        """Send a unit that waits for its inputs; those before it in the queue do not wait for it."""
        given_up = Event()
        future = self.pool.submit(_execute_when_ready, unit, inputs, given_up)
        self.given_up[future] = given_up
        return future

    def wait(self, pending: Collection[Future[Outcome]]) -> Iterable[Future[Outcome]]:
        """Return units that are done, the latest first."""
        done = concurrent.futures.wait(pending, return_when=FIRST_COMPLETED).done
        return [future for future in reversed(list(pending)) if future in done]

    def record(self, handle: Future[Outcome]) -> Record:
        """Look into a future."""
        return handle.result().record

    def fetch(self, handle: Future[Outcome]) -> Any:
        """Look into a future."""
        return handle.result().value

    def release(self, handle: Future[Outcome]) -> None:
        """Do nothing: the value goes with its future."""

    def cancel(self, pending: Collection[Future[Outcome]]) -> None:
        """Cancel what has not started."""
        for future in pending:
            self.given_up[future].set()

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop here."""
        return body()


def _execute_when_ready(unit: Unit, inputs: Sequence[Future[Outcome]], given_up: Event) -> Outcome:
    values = [future.result().value for future in inputs]
    if given_up.is_set():
        raise CancelledError
    return execute(unit, values)


@cache
def _threads() -> Executor:
    return ThreadPoolExecutor(4)


class SchedulingWorkflow(Workflow[Query, Any]):
    """Runs nodes in threads that wait for each other."""

    _query = Query

    def _engine(self) -> SchedulingEngine:
        return SchedulingEngine(_threads())


class TestScheduling(EngineTests):
    """The conformance suite in threads that wait for each other."""

    make_workflow = staticmethod(SchedulingWorkflow)
    #: Here a value is in its future, which the runner holds until it has looked at it.
    test_results_are_released = None  # type: ignore[assignment]
