"""Settings, server and recorder of a flow run, so that the server records all its task runs."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from prefect import settings as prefect_settings
from prefect.client.orchestration import get_client
from prefect.context import SettingsContext, get_settings_context
from prefect.results import should_persist_result
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_UI_URL,
    get_current_settings,
    temporary_settings,
)

from functionfuse.backends.addons.prefectback import ephemeral_server
from functionfuse.backends.addons.prefectback._compat import route_events, wait_until_events_sent
from functionfuse.backends.addons.prefectback.client import shared_client
from functionfuse.backends.addons.prefectback.reachability import check_reachable, is_lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from threading import Event
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import Settings

__all__ = [
    "Cancellation",
    "Recorder",
    "RunCancelled",
    "persists_results",
    "run_settings",
    "stop_requested",
]

_logger = logging.getLogger(__name__)

#: Settings of a run, each only where the user has not set it. The ephemeral server gets them as well.
_DEFAULTS: Final[dict[str, Any]] = {
    # its thread sleeps for a second at the end of every flow run
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": None,
    # the first start ever migrates a database
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": 120,
    # recording one task run at a time is slower than running them, and a full queue drops events
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": 200,
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": 1,
    # without internet access, it prints an error
    "PREFECT_SERVER_ANALYTICS_ENABLED": False,
}
_FINAL: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_CHUNK: Final = 500  # task runs in one request
_MAX_LAG: Final = (
    1_500  # task runs that the server may lag behind; its queue drops events above 10,000
)
_PATIENCE: Final = 2.0  # seconds for an answer about a cancellation
_MAX_PAUSE: Final = 80.0  # seconds until a server that did not answer is asked again
_TIMEOUT: Final = 30.0  # seconds without any progress of the server


@contextmanager
def run_settings() -> Iterator[None]:
    """Enter the settings of a run, and connect to its server; without one, to the ephemeral server."""
    with _settings_entered(None):
        url = PREFECT_API_URL.value()
        nowhere = url is None or ephemeral_server.is_running(url)
        if nowhere and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
            with ephemeral_server.running_server() as url, _settings_entered(url), _connected(url):
                yield
        elif url is None:
            yield
        else:
            check_reachable()
            with _connected(url):
                yield


@contextmanager
def _connected(url: str) -> Iterator[None]:
    with route_events(url), shared_client():
        yield


@contextmanager
def _settings_entered(url: str | None) -> Iterator[None]:
    """Enter the default settings of a run, and the address of the ephemeral server if it is used."""
    context = get_settings_context()
    settings = _settings_with(context.settings, url)
    with SettingsContext(profile=context.profile, settings=settings):
        yield


#: Completed settings by the id of the user's, which are kept so that no other object gets that id.
_completed: Final[dict[tuple[int, str | None], tuple[Settings, Settings]]] = {}
_MAX_CACHED: Final = 8


def _settings_with(settings: Settings, url: str | None) -> Settings:
    """The user's settings with defaults; cached, since Prefect validates hundreds of settings in 50 ms."""
    key = id(settings), url
    if key not in _completed:
        if len(_completed) >= _MAX_CACHED:
            _completed.clear()
        known = {
            getattr(prefect_settings, name): value
            for name, value in _DEFAULTS.items()
            if hasattr(prefect_settings, name)  # Prefect 3.x adds and removes some
        }
        # the ephemeral server has no UI: otherwise Prefect prints the address of one
        updates: dict[Any, Any] = {} if url is None else {PREFECT_API_URL: url, PREFECT_UI_URL: ""}
        completed = settings.copy_with_update(updates=updates, set_defaults=known)
        _completed[key] = settings, completed
    return _completed[key][1]


def persists_results() -> bool:
    """Tell whether Prefect persists all results, by the current flow run or by the settings."""
    settings = get_current_settings()
    return (
        should_persist_result()
        or bool(settings.tasks.default_persist_result)
        or settings.results.default_storage_block is not None
    )


class RunCancelled(BaseException):
    """The flow run was cancelled, in the UI or by the API. A `BaseException`, since it is not a failure."""


#: Set when the task that awaits the run is cancelled.
stop_requested: Final[ContextVar[Event | None]] = ContextVar(
    "functionfuse_prefect_stop", default=None
)


class Cancellation:
    """Polls the server for cancellation of the flow run, since the server does not notify flow runs."""

    #: Seconds between two requests.
    interval: Final = 5.0

    def __init__(self, flow_run: UUID | None) -> None:  # noqa: D107
        self._flow_run = flow_run
        self._stop = stop_requested.get()
        self._pause = self.interval
        self._next = time.monotonic() + self._pause

    def check(self) -> None:
        """Ask the server, if the interval has passed.

        Raises:
            RunCancelled: The flow run is cancelled.
        """
        if self._stop is not None and self._stop.is_set():
            raise RunCancelled
        if self._flow_run is None or time.monotonic() < self._next:
            return
        try:
            # without retries, which take a minute: nodes go on without a server
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), _impatient_client() as client:
                state = client.read_flow_run(self._flow_run).state
            self._pause = self.interval
        except Exception:  # noqa: BLE001 - other requests report a server that does not respond
            state, self._pause = None, min(2 * self._pause, _MAX_PAUSE)
        self._next = time.monotonic() + self._pause
        if state is not None and (state.is_cancelling() or state.is_cancelled()):
            raise RunCancelled


def _impatient_client() -> SyncPrefectClient:
    return get_client(httpx_settings={"timeout": _PATIENCE}, sync_client=True)


class Recorder:
    """Waits until the server has recorded the task runs of a flow run.

    Task runs reach the server's database as events, through a queue that drops events when it is full.
    """

    def __init__(self) -> None:  # noqa: D107
        url = PREFECT_API_URL.value()  # None: Prefect starts a server itself
        self._ephemeral = url is None or ephemeral_server.is_running(url)
        self._ids: list[UUID] = []
        self._recorded = 0  # the number of them that the server has confirmed

    def submitted(self, task_run: UUID) -> None:
        """Add a task run, and wait if the server lags too far behind."""
        self._ids.append(task_run)
        if len(self._ids) - self._recorded > _MAX_LAG:
            chunk = self._ids[self._recorded : self._recorded + _CHUNK]
            self._await(chunk, {})
            self._recorded += len(chunk)

    def finish(self) -> None:
        """Wait until all events are sent; an ephemeral server ends with this process, so it must have recorded them."""
        if is_lost():
            return
        wait_until_events_sent(_TIMEOUT)
        if self._ephemeral:
            ids = iter(self._ids)
            while chunk := list(islice(ids, _CHUNK)):
                self._await(chunk, {"state": {"type": {"any_": _FINAL}}})

    def _await(self, ids: Sequence[UUID], condition: dict[str, Any]) -> None:
        """Poll until the server has these task runs; stop when it makes no progress."""
        task_runs = {"id": {"any_": [str(task_run) for task_run in ids]}, **condition}
        count, pause, last_progress = -1, 0.01, time.monotonic()
        with get_client(sync_client=True) as client:
            while time.monotonic() - last_progress < _TIMEOUT:
                response = client.request("POST", "/task_runs/count", json={"task_runs": task_runs})
                if response.json() >= len(ids):
                    return
                if response.json() > count:
                    count, last_progress = response.json(), time.monotonic()
                time.sleep(pause)
                pause = min(2 * pause, 0.2)
        _logger.warning(
            "the Prefect server has recorded only %d of %d task runs; the results are not affected",
            max(count, 0),
            len(ids),
        )
