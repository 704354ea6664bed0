"""Events of a run, and their delivery to observers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functionfuse._kernel.units import Record
    from functionfuse.plan import Plan

__all__ = [
    "Event",
    "NodeFailed",
    "NodeFinished",
    "NodeKept",
    "NodeSubmitted",
    "Observer",
    "RunFinished",
    "RunStarted",
    "notify",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run starts."""

    workflow: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class NodeSubmitted:
    """A node was submitted to the engine."""

    name: str


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """A node was computed or loaded."""

    record: Record


@dataclass(frozen=True, slots=True)
class NodeKept:
    """The stored result of a node is kept, and is not loaded: stale results upstream got the same values again."""

    name: str


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """A node failed."""

    record: Record
    error: BaseException


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run is over; `error` is the exception that its caller gets."""

    workflow: str
    error: BaseException | None


Event = RunStarted | NodeSubmitted | NodeFinished | NodeKept | NodeFailed | RunFinished
Observer = Callable[[Event], object]


def notify(observers: Iterable[Observer], event: Event) -> None:
    """Call all observers; an observer that raises is logged and never fails the run."""
    for observer in observers:
        try:
            observer(event)
        except Exception:
            _logger.exception("observer %r failed on %s", observer, type(event).__name__)
