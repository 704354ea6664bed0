"""Envelope criteria: which exceptions Prefect cannot store in a state or return from another process."""

from __future__ import annotations

import sys
from typing import Any

import cloudpickle

from functionfuse._kernel.damage import has_damage
from functionfuse._transport.exceptions import ExceptionEnvelope, round_trips

__all__ = ["ExceptionEnvelope", "is_incompatible", "needs_envelope"]


def needs_envelope(error: Exception, *, in_other_process: bool) -> bool:
    """Tell whether Prefect needs an envelope for an exception.

    Args:
        error: The exception.
        in_other_process: The task run is not in the coordinator process.
    """
    if is_incompatible(error) or not in_other_process:
        return is_incompatible(error)
    if has_damage(error):  # a mark, which the exception's own `__reduce__` may omit
        return True
    # Ray vendors a cloudpickle, which would make a second class of one that is defined in a function or script
    through_ray = "ray" in sys.modules
    return not round_trips(error, cloudpickle.dumps) or (
        through_ray and not _is_importable(type(error))
    )


def _is_importable(kind: type) -> bool:
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def is_incompatible(error: Exception) -> bool:
    """Tell whether an exception's `__str__` raises, or its traceback cannot be set: Prefect does both."""
    try:
        str(error)
        error.__traceback__ = error.__traceback__
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return True
    return False
