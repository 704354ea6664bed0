"""Cache of Prefect clients: runs of one process share a connection to the server."""

from __future__ import annotations

import atexit
import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from prefect.client.orchestration import get_client
from prefect.context import SyncClientContext, get_settings_context

from functionfuse.backends.addons.prefectback._compat import client_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import Settings

__all__ = ["shared_client"]

_lock: Final = Lock()
#: By process, since a forked process must not use its parent's connection, and by the id of the settings, which are
#: kept so that no other object gets that id. A client counts the contexts that it is entered in, of which this is
#: one, and closes with the last.
_clients: Final[dict[tuple[int, int], tuple[Settings, SyncPrefectClient]]] = {}
_MAX_CLIENTS: Final = 8


@contextmanager
def shared_client() -> Iterator[None]:
    """Use the process's client in a context: a new client reads all certificates, which takes 20 ms, and connects."""
    if SyncClientContext.get() is not None:  # of an outer flow
        yield
        return
    with client_context(_client()):
        yield


def _client() -> SyncPrefectClient:
    settings = get_settings_context().settings
    key = os.getpid(), id(settings)
    with _lock:
        if key not in _clients:
            if len(_clients) >= _MAX_CLIENTS:
                _close_all()
            client = cast("Any", get_client(sync_client=True))
            _clients[key] = settings, client.__enter__()
        return _clients[key][1]


def _close_all() -> None:
    for (process, _), (_, client) in _clients.items():
        if process == os.getpid():
            client.__exit__()
    _clients.clear()


atexit.register(_close_all)
