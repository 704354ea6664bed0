"""Console filter: drop Prefect's messages on the terminal when a run is interrupted.

Each running task would print a line, and the crash of the flow run another one, between Ctrl-C and the prompt.
Prefect's server gets all messages.
"""

from __future__ import annotations

import logging
from typing import Final

from prefect.logging.handlers import PrefectConsoleHandler

__all__ = ["ConsoleFilter"]

_OF_RUNS: Final = ("prefect.flow_runs", "prefect.task_runs")
#: Loggers with Prefect's handler, by its logging.yml or the user's.
_LOGGERS: Final = ("", "prefect", *_OF_RUNS)


class ConsoleFilter(logging.Filter):
    """Drops messages about flow runs and task runs from the terminal while `quiet` is set."""

    def __init__(self) -> None:  # noqa: D107
        super().__init__()
        self.quiet = False
        handlers = [handler for name in _LOGGERS for handler in logging.getLogger(name).handlers]
        self._handlers = [part for part in handlers if isinstance(part, PrefectConsoleHandler)]

    def install(self) -> None:
        """Add the filter to Prefect's handlers for the terminal."""
        for handler in self._handlers:
            handler.addFilter(self)

    def remove(self) -> None:
        """Remove the filter."""
        for handler in self._handlers:
            handler.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is shown."""
        return not (self.quiet and record.name.startswith(_OF_RUNS))
