"""Exceptions that cannot do what Prefect asks of every exception, and what stands for them meanwhile."""

from __future__ import annotations

from functionfuse.travel import described

__all__ = ["Awkward", "is_awkward"]


class Awkward(Exception):
    """Stands in a task's or flow's state for an exception that Prefect could not handle."""

    def __init__(self, error: Exception) -> None:
        """Take the user's exception."""
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return described(self.error)


def is_awkward(error: Exception) -> bool:
    """Tell whether an exception cannot do what Prefect asks of it: say something, and take a traceback."""
    try:
        str(error)
        error.__traceback__ = error.__traceback__
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return True
    return False
