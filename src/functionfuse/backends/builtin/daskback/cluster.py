"""Connection of a run to a cluster: by a client, by an address, or to a new local cluster."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distributed import Client, LocalCluster

from functionfuse._common.stdio import open_closed_streams
from functionfuse._common.terminal_signals import terminal_signals_blocked
from functionfuse.backends.builtin.daskback import worker_signals
from functionfuse.backends.builtin.daskback._compat import (
    forget_topics,
    is_starting_worker,
    keep_restarting_workers,
)
from functionfuse.backends.builtin.daskback.event_subscriber import topic_of
from functionfuse.backends.builtin.daskback.main_guard import GUARD, check_main_guard
from functionfuse.errors import EngineError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Connection"]

_TIMEOUT: Final = 10  # seconds for an attempt to reach a scheduler
#: Defaults of local clusters that a run starts.
_LOCAL: Final[Mapping[str, Any]] = {
    "host": "127.0.0.1",
    "dashboard_address": None,
    "threads_per_worker": 1,  # plugins set up a process for one node at a time
}


@dataclass(frozen=True, slots=True)
class Connection:
    """How a workflow reaches its cluster.

    Raises:
        OptionError: Several ways are given, or an invalid client or address.
    """

    client: Client | None = None
    address: str | None = None
    cluster_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ways = [name for name in ("client", "address", "cluster_kwargs") if getattr(self, name)]
        if len(ways) > 1:
            message = f"give one of {' and '.join(ways)}: each says which cluster to use"
            raise OptionError(message)
        if self.client is not None:
            _check_client(self.client)
        if self.address is not None and not isinstance(self.address, str):
            message = (
                f"address is that of a scheduler, like 'tcp://10.0.0.1:8786', not {self.address!r}"
            )
            raise OptionError(message)

    def open(self) -> tuple[Client, Sequence[Callable[[], object]]]:
        """Connect a client for one run; returns it and the functions to call at the end of the run."""
        if self.client is not None:
            if self.client.status != "running":
                message = f"the client {self.client!r} is {self.client.status}: make a new one"
                raise EngineError(message)
            worker_signals.leave_signals(self.client)
            return self.client, ()
        if self.address is not None:
            client = _connect(self.address)
            return client, (partial(forget_topics, client, topic_of(client)), client.close)
        with ExitStack() as made:
            made.push(keep_restarting_workers())
            cluster = _start_local_cluster(self.cluster_kwargs)
            made.callback(cluster.close)
            client = _client_of(cluster)
            made.callback(client.close)
            return client, (made.pop_all().close,)


def _check_client(client: Any) -> None:
    if not isinstance(client, Client):
        message = f"client is a distributed.Client, not {client!r}"
        raise OptionError(message)
    if client.asynchronous:
        message = (
            f"{client!r} is asynchronous, and run() waits for results: "
            "give a client that was made with asynchronous=False, or the scheduler's address"
        )
        raise OptionError(message)


def _client_of(target: Any) -> Client:
    """Create a client without making it the default client of the process."""
    return Client(target, timeout=_TIMEOUT, set_as_default=False)


def _connect(address: str) -> Client:
    try:
        return _client_of(address)
    except (OSError, ValueError, TypeError) as error:
        message = (
            f"no Dask scheduler answers at {address!r} ({error}): start one with `dask scheduler`, "
            "or leave address away to use the cores of this machine"
        )
        raise EngineError(message) from error


def _start_local_cluster(options: Mapping[str, Any]) -> LocalCluster:
    if is_starting_worker():
        message = (
            "this is a worker process that imports your script while it starts, "
            f"and the script calls run(): {GUARD}"
        )
        raise EngineError(message)
    chosen = {**_LOCAL, **options}
    chosen["preload"] = [*_list(chosen.get("preload")), worker_signals.__name__]
    if chosen["dashboard_address"] is None:  # the scheduler's page of metrics takes any port
        quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        chosen["scheduler_kwargs"] = {**quiet, **chosen.get("scheduler_kwargs", {})}
    check_main_guard(chosen)
    open_closed_streams()  # before sockets get their descriptors
    try:
        with terminal_signals_blocked():
            return LocalCluster(**chosen)
    except Exception as error:
        advice = f"; if a script calls run(), {GUARD}" if "Nanny" in str(error) else ""
        message = f"a LocalCluster with {chosen} cannot be started: {error}{advice}"
        raise EngineError(message) from error


def _list(modules: str | Sequence[str] | None) -> list[str]:
    return [modules] if isinstance(modules, str) else list(modules or ())
