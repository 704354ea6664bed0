"""Engine protocol: where and when a unit runs, and how values get there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from functionfuse._kernel.kernel import execute
from functionfuse._kernel.units import Outcome, Record, Unit
from functionfuse._transport.exceptions import dump_exception, load_exception

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence


__all__ = [
    "Cancelled",
    "Capabilities",
    "Engine",
    "Outcome",
    "Record",
    "Unit",
    "dump_exception",
    "dumps",
    "execute",
    "load_exception",
]

H = TypeVar("H")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of an engine; the scheduler asks these flags and never an engine's name."""

    schedules: bool = (
        False  # accepts units whose inputs are not done, and starts them in order itself
    )
    inline: bool = False  # submit() returns when the unit is done
    #: submit() only calls execute(), in this thread: a run may call functions without it.
    calls_directly: bool = False
    #: cancel() does not affect units that have started; record() of the others raises Cancelled.
    cancels_queued: bool = False
    #: release() is allowed for a unit in flight; record() is called for it afterwards.
    releases_early: bool = False
    shares_values: bool = False  # nodes run in this process, and get the same object of a result


class Cancelled(Exception):
    """A unit was cancelled before it started."""


class Engine(Protocol[H]):
    """Primitives for the scheduler. A handle is the engine's reference to a submitted unit."""

    name: str
    capabilities: Capabilities

    def submit(self, unit: Unit, inputs: Sequence[H], options: Mapping[str, Any]) -> H:
        """Submit a unit; its inputs are the handles of its node's parents, in their order."""

    def wait(self, pending: Collection[H]) -> Iterable[H]:
        """Block until at least one of these is done; return those that are."""

    def record(self, handle: H) -> Record:
        """Return the record of a unit that is done, or raise the node's exception."""

    def fetch(self, handle: H) -> Any:
        """Return the value of a unit that is done."""

    def release(self, handle: H) -> None:
        """Release the value, which is not used again."""

    def cancel(self, pending: Collection[H]) -> None:
        """Cancel these units as far as possible; record() is not called for them afterwards."""

    def drive(self, body: Callable[[], R]) -> R:
        """Run the scheduler's loop within the engine's resources: a pool, a connection, a flow."""


def dumps(value: Any) -> bytes:
    """Pickle a value, functions and classes that cannot be imported included, for `pickle.loads`.

    As `cloudpickle.dumps`, but functions keep their file names: tracebacks from workers show the user's lines.
    """
    from functionfuse._common import pickler  # imports cloudpickle, which many runs do not need

    return pickler.dumps(value)
