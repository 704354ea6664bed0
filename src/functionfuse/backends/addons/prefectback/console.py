"""Console filter: what Prefect writes to the terminal when a run is interrupted.

Each running task would add a line, and the crash of the flow run another one, between Ctrl-C and the prompt.
Prefect's server gets all of them.
"""

from __future__ import annotations

import logging
from typing import Final

from prefect.logging.handlers import PrefectConsoleHandler

__all__ = ["ConsoleFilter"]

_LOGGERS: Final = ("prefect", "prefect.flow_runs", "prefect.task_runs")


class ConsoleFilter(logging.Filter):
    """Drops messages about flow runs and task runs from the terminal once it is made quiet."""

    def __init__(self) -> None:  # noqa: D107
        super().__init__()
        self.quiet = False
        handlers = [handler for name in _LOGGERS for handler in logging.getLogger(name).handlers]
        self._handlers = [part for part in handlers if isinstance(part, PrefectConsoleHandler)]

    def install(self) -> None:
        """Filter what Prefect's handlers for the terminal are given."""
        for handler in self._handlers:
            handler.addFilter(self)

    def remove(self) -> None:
        """Remove the filter."""
        for handler in self._handlers:
            handler.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is shown."""
        return not (self.quiet and record.name.startswith(_LOGGERS[1:]))
