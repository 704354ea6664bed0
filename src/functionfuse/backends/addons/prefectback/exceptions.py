"""Exceptions that Prefect cannot handle or bring back, and what stands for them meanwhile."""

from __future__ import annotations

import pickle
import sys
from typing import Any

from functionfuse._kernel.damage import has_damage
from functionfuse._transport.exceptions import described, dump_error, make_sendable

__all__ = ["NodeFailed", "is_awkward", "needs_stand_in"]


class NodeFailed(Exception):
    """Stands in a task's or flow's state for an exception that Prefect could not handle."""

    def __init__(self, error: BaseException | _Carried) -> None:
        """Take the user's exception."""
        super().__init__(error if isinstance(error, _Carried) else _Carried(error))

    @property
    def error(self) -> BaseException:
        """The user's exception."""
        error: BaseException = self.args[0].error
        return error

    def __str__(self) -> str:
        return described(self.error)


class _Carried:
    """Sends an exception as what can be sent of it.

    Not `NodeFailed` itself: some libraries have their own way to pickle whatever is an exception.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (dump_error(self.error),)


def _arrived(data: bytes) -> _Carried:
    return _Carried(pickle.loads(data))


def needs_stand_in(error: Exception, *, away: bool) -> bool:
    """Tell whether an exception cannot go through Prefect as it is.

    Args:
        error: The exception.
        away: It has to go to another process.
    """
    if is_awkward(error) or not away:
        return is_awkward(error)
    if has_damage(error):  # a mark, which the exception's own `__reduce__` may leave out
        return True
    # Ray pickles with a cloudpickle of its own, in which the class of a function or script would be another one
    through_ray = "ray" in sys.modules
    return not make_sendable(error) or (through_ray and not _is_importable(type(error)))


def _is_importable(kind: type) -> bool:
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def is_awkward(error: Exception) -> bool:
    """Tell whether an exception cannot do what Prefect asks of it: say something, and take a traceback."""
    try:
        str(error)
        error.__traceback__ = error.__traceback__
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return True
    return False
