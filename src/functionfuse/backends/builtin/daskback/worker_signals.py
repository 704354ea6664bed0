"""Preload module and plugin of Dask's worker processes: ignore the signals of a terminal.

The coordinator process handles them. Otherwise each worker prints dozens of lines after Ctrl-C, and loses its running nodes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from distributed import LocalCluster, WorkerPlugin

from functionfuse._common.terminal_signals import leave_terminal_signals

if TYPE_CHECKING:
    from distributed import Client, Worker

__all__ = ["dask_setup", "leave_signals"]


def dask_setup(_: Any) -> None:
    """Set up a worker process; Dask calls preload modules by this name. Workers in threads are not changed."""
    if leave_terminal_signals():
        logging.getLogger("distributed.worker.state_machine").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Filter out the warning that each worker logs if it is closed while a node runs, as after Ctrl-C."""
    return "ended with CancelledError" not in record.getMessage()


def leave_signals(client: Client) -> None:
    """Set up the workers of a cluster that the user has started in this process, once for each client."""
    if isinstance(client.cluster, LocalCluster) and client not in _set_up:
        client.register_plugin(_TerminalSignals())
        _set_up.add(client)


class _TerminalSignals(WorkerPlugin):
    """Sets up all workers of a cluster, those that start later included."""

    name = "functionfuse-terminal-signals"

    def setup(self, worker: Worker) -> None:
        dask_setup(worker)


_set_up: Final[WeakSet[Client]] = WeakSet()
