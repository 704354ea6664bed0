"""Preload module and plugin of Dask's worker processes: they leave the signals of a terminal to the coordinator process.

Otherwise each worker prints dozens of lines after Ctrl-C, and the nodes that it runs are lost.
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
    """Set up a worker, under the name by which Dask calls it; not one that is a thread of its coordinator process."""
    if leave_terminal_signals():
        logging.getLogger("distributed.worker.state_machine").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop the warning of a worker that is closed with a node that runs: one line for each worker after Ctrl-C."""
    return "ended with CancelledError" not in record.getMessage()


def leave_signals(client: Client) -> None:
    """Set up the workers of a cluster that the user has started in this process, once for each client."""
    if isinstance(client.cluster, LocalCluster) and client not in _set_up:
        client.register_plugin(_TerminalSignals())
        _set_up.add(client)


class _TerminalSignals(WorkerPlugin):
    """Sets up workers that run already, and those that start later."""

    name = "functionfuse-terminal-signals"

    def setup(self, worker: Worker) -> None:
        dask_setup(worker)


_set_up: Final[WeakSet[Client]] = WeakSet()
