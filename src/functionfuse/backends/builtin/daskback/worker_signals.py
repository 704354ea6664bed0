"""Preload module of Dask's worker processes: they leave the signals of a terminal to the coordinator process.

Otherwise each worker prints dozens of lines after Ctrl-C, and the nodes that it runs are lost.
"""

from __future__ import annotations

import logging
from typing import Any

from functionfuse._common.terminal_signals import leave_terminal_signals

__all__ = ["dask_setup"]


def dask_setup(_: Any) -> None:
    """Set up a worker, under the name by which Dask calls it; not one that is a thread of its coordinator process."""
    if leave_terminal_signals():
        logging.getLogger("distributed.worker.state_machine").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the warning of a worker that is closed with a node that runs: one line for each worker after Ctrl-C."""
    return "ended with CancelledError" not in record.getMessage()
