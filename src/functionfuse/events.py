"""What happens in a run, for whoever watches it."""

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
    "NodeSubmitted",
    "Observer",
    "RunFinished",
    "RunStarted",
    "notify",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins."""

    workflow: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class NodeSubmitted:
    """The engine has a step."""

    name: str


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """A step has a result."""

    record: Record


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """A step has none."""

    record: Record
    error: BaseException


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run is over; `error` is what its caller gets."""

    workflow: str
    error: BaseException | None


Event = RunStarted | NodeSubmitted | NodeFinished | NodeFailed | RunFinished
Observer = Callable[[Event], object]


def notify(observers: Iterable[Observer], event: Event) -> None:
    """Tell everyone; an observer that raises is logged and never fails the run."""
    for observer in observers:
        try:
            observer(event)
        except Exception:
            _logger.exception("observer %r failed on %s", observer, type(event).__name__)
