"""Exceptions that Prefect cannot handle or bring back, and what stands for them meanwhile."""

from __future__ import annotations

import pickle
import sys
from typing import Any

from functionfuse._kernel.damage import has_damage
from functionfuse._transport.exceptions import (
    describe_exception,
    dump_exception_value,
    round_trips,
)

__all__ = ["ExceptionEnvelope", "is_incompatible", "needs_envelope"]


class ExceptionEnvelope(Exception):
    """Stands in a task's or flow's state for an exception that Prefect could not handle."""

    def __init__(self, error: BaseException | _PickledException) -> None:
        """Take the user's exception."""
        super().__init__(
            error if isinstance(error, _PickledException) else _PickledException(error)
        )

    @property
    def error(self) -> BaseException:
        """The user's exception."""
        error: BaseException = self.args[0].error
        return error

    def __str__(self) -> str:
        return describe_exception(self.error)


class _PickledException:
    """Sends an exception as what can be sent of it.

    Not `ExceptionEnvelope` itself: some libraries have their own way to pickle whatever is an exception.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (dump_exception_value(self.error),)


def _restore(data: bytes) -> _PickledException:
    return _PickledException(pickle.loads(data))


def needs_envelope(error: Exception, *, in_other_process: bool) -> bool:
    """Tell whether an exception cannot go through Prefect as it is.

    Args:
        error: The exception.
        in_other_process: It has to go to another process.
    """
    if is_incompatible(error) or not in_other_process:
        return is_incompatible(error)
    if has_damage(error):  # a mark, which the exception's own `__reduce__` may leave out
        return True
    # Ray pickles with a cloudpickle of its own, in which the class of a function or script would be another one
    through_ray = "ray" in sys.modules
    return not round_trips(error) or (through_ray and not _is_importable(type(error)))


def _is_importable(kind: type) -> bool:
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def is_incompatible(error: Exception) -> bool:
    """Tell whether an exception cannot do what Prefect asks of it: say something, and take a traceback."""
    try:
        str(error)
        error.__traceback__ = error.__traceback__
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return True
    return False
