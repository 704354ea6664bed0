"""Progress bar: an observer that draws the finished nodes of a run in the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from functionfuse.events import Event, NodeFailed, NodeFinished, NodeKept, RunFinished, RunStarted
from functionfuse.plan import Action

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar"]

_PAUSE: Final = 0.1  # seconds between updates: drawing takes longer than a short node


class ProgressBar:
    """Progress bar of successive runs: `workflow.add_observer(ProgressBar())`."""

    def __init__(self, console: Console | None = None) -> None:
        """Create a progress bar.

        Args:
            console: The console to draw on; by default standard output, if it is a terminal.
        """
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._total = self._done = self._failed = 0
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        """Handle an event."""
        if (
            type(event) is NodeFinished or type(event) is NodeFailed
        ):  # the most frequent events first
            self._done += 1
            self._failed += type(event) is NodeFailed
            if time.monotonic() >= self._next:
                self._show()
        elif isinstance(event, NodeKept):
            self._total -= 1
        elif isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, RunFinished):
            self._stop()

    def _start(self, event: RunStarted) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console)
        self._total = len(event.plan) - len(event.plan.names(Action.SKIP))
        self._name = event.workflow
        self._task = self._bar.add_task(self._name, total=self._total)
        self._done = self._failed = 0
        self._bar.start()

    def _show(self) -> None:
        self._next = time.monotonic() + _PAUSE
        if self._bar is not None and self._task is not None:
            name = f"{self._name}, {self._failed} failed" if self._failed else self._name
            total = max(self._total, self._done)  # more nodes may run than were planned
            self._bar.update(self._task, total=total, completed=self._done, description=name)

    def _stop(self) -> None:
        self._show()
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
