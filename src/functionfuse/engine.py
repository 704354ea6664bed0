"""What an engine is: it decides where and when a unit runs, and how values get there."""

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
    """What the runner may expect; it asks these flags and never an engine's name."""

    schedules: bool = (
        False  # takes units whose inputs are still running, and keeps the order itself
    )
    inline: bool = False  # submit() returns when the unit is done
    cancels_queued: bool = (
        False  # cancel() lets go on what has started; record() of the others raises Withdrawn
    )
    releases_early: bool = (
        False  # release() may come when a unit is in flight, whose record is asked for afterwards
    )


class Cancelled(Exception):
    """A unit was taken back before it started."""


class Engine(Protocol[H]):
    """Primitives for the runner. A handle is the engine's own word for a unit that it has taken."""

    name: str
    capabilities: Capabilities

    def submit(self, unit: Unit, inputs: Sequence[H], options: Mapping[str, Any]) -> H:
        """Take a unit; its inputs are the handles of its step's parents, in their order."""

    def wait(self, pending: Collection[H]) -> Iterable[H]:
        """Block until at least one of these is done; give those that are."""

    def record(self, handle: H) -> Record:
        """What became of a unit that is done; raises the node's own exception."""

    def fetch(self, handle: H) -> Any:
        """The value of a unit that is done."""

    def release(self, handle: H) -> None:
        """Let the value go: nobody asks for it any more."""

    def cancel(self, pending: Collection[H]) -> None:
        """Give these up, as far as that can be done: nobody waits for them any more."""

    def drive(self, body: Callable[[], R]) -> R:
        """Run the loop that submits everything, in whatever the engine needs around it."""


def dumps(value: Any) -> bytes:
    """Pickle a value, functions and classes that cannot be imported included, for `pickle.loads`.

    As `cloudpickle.dumps`, but functions keep their file names: tracebacks from workers show the user's lines.
    """
    from functionfuse._common import pickler  # imports cloudpickle, which many runs do not need

    return pickler.dumps(value)
