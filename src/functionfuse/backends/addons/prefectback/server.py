"""What a run needs of Prefect's server and settings, so that nothing it records is lost."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import httpx
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
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from threading import Event
    from uuid import UUID

    from prefect.settings import Settings

__all__ = [
    "Cancellation",
    "Recorder",
    "RunCancelled",
    "asks_for_persistence",
    "check_reachable",
    "run_settings",
    "stop_requested",
]

_logger = logging.getLogger(__name__)

#: Settings of a run, each only where the user has not set it. The temporary server gets them as well.
_DEFAULTS: Final[dict[str, Any]] = {
    # its thread sleeps for a second at the end of every flow run
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": None,
    # the first start ever migrates a database
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": 120,
    # recording one task run at a time is slower than running them, and the queue drops what it cannot hold
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": 200,
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": 1,
    # where there is no internet, it is an error in the output
    "PREFECT_SERVER_ANALYTICS_ENABLED": False,
}
_FINAL: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_CHUNK: Final = 500  # task runs asked for in one request
_LONGEST_LAG: Final = (
    1_500  # task runs that the server may be behind; its queue drops from 10,000 events
)
_TIMEOUT: Final = 30.0  # seconds without any progress of the server


@contextmanager
def run_settings() -> Iterator[None]:
    """Run with settings under which nothing is lost and nothing waits for nothing."""
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
    """Use our defaults, and the temporary server at an address."""
    context = get_settings_context()
    settings = _settings_with(context.settings, url)
    with SettingsContext(profile=context.profile, settings=settings):
        yield


#: By what they were made of, which is kept so that its id stays its own.
_made: Final[dict[tuple[int, str | None], tuple[Settings, Settings]]] = {}
_MOST_MADE: Final = 8


def _settings_with(settings: Settings, url: str | None) -> Settings:
    """The user's settings, completed; Prefect checks each of hundreds again, which takes 50 ms."""
    key = id(settings), url
    if key not in _made:
        if len(_made) >= _MOST_MADE:
            _made.clear()
        known = {
            getattr(prefect_settings, name): value
            for name, value in _DEFAULTS.items()
            if hasattr(prefect_settings, name)  # Prefect 3.x adds and removes some
        }
        # it has no UI: else Prefect prints an address where there is none
        updates: dict[Any, Any] = {} if url is None else {PREFECT_API_URL: url, PREFECT_UI_URL: ""}
        completed = settings.copy_with_update(updates=updates, set_defaults=known)
        _made[key] = settings, completed
    return _made[key][1]


def check_reachable() -> None:
    """See that somebody listens at the server's address; Prefect would ask for minutes.

    Whatever it says will do: a server may be busy, or not know this path.

    Raises:
        EngineError: Nobody does.
    """
    if ephemeral_server.accepts_connections(PREFECT_API_URL.value()):
        return
    # Prefect's client knows of proxies and certificates, and connects four times
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(
            httpx_settings={"timeout": ephemeral_server.CONNECT}, sync_client=True
        ) as client,
    ):
        error = client.api_healthcheck()
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
        message = (
            f"no Prefect server answers at PREFECT_API_URL={PREFECT_API_URL.value()} "
            f"({error or type(error).__name__}): start one with `prefect server start`, or unset "
            "PREFECT_API_URL (in the environment, or in the profile: `prefect config unset "
            "PREFECT_API_URL`) to run with a temporary one"
        )
        raise EngineError(message) from error


def asks_for_persistence() -> bool:
    """Tell whether Prefect is to keep every result: in a flow run, and as far as the settings tell."""
    settings = get_current_settings()
    return (
        should_persist_result()
        or bool(settings.tasks.default_persist_result)
        or settings.results.default_storage_block is not None
    )


class RunCancelled(BaseException):
    """Somebody cancelled the flow run, in the UI or by the API. No failure: nothing may catch it as one."""


#: Set by whoever awaits the run, when nobody wants it any more.
stop_requested: Final[ContextVar[Event | None]] = ContextVar(
    "functionfuse_prefect_stop", default=None
)


class Cancellation:
    """Looks now and then whether somebody cancelled the flow run, since the server tells nobody."""

    #: Seconds between two looks.
    interval: Final = 5.0

    def __init__(self, flow_run: UUID | None) -> None:  # noqa: D107
        self._flow_run = flow_run
        self._stop = stop_requested.get()
        self._next = time.monotonic() + self.interval

    def check(self) -> None:
        """Look, if it is time.

        Raises:
            RunCancelled: It is cancelled.
        """
        if self._stop is not None and self._stop.is_set():
            raise RunCancelled
        if self._flow_run is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.interval
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(self._flow_run).state
        except Exception:  # noqa: BLE001 - the server has other means to say that it is gone
            return
        if state is not None and (state.is_cancelling() or state.is_cancelled()):
            raise RunCancelled


class Recorder:
    """Follows what the server has recorded of a flow run's task runs.

    Task runs travel to the server's database as events, through a queue that drops what it cannot hold.
    """

    def __init__(self) -> None:  # noqa: D107
        url = PREFECT_API_URL.value()  # None: somebody called the flow, and Prefect starts a server
        self._temporary = url is None or ephemeral_server.is_running(url)
        self._ids: list[UUID] = []
        self._recorded = 0  # how many of them the server is known to have

    def submitted(self, task_run: UUID) -> None:
        """Note a task run, and wait if the server is too far behind."""
        self._ids.append(task_run)
        if len(self._ids) - self._recorded > _LONGEST_LAG:
            chunk = self._ids[self._recorded : self._recorded + _CHUNK]
            self._await(chunk, {})
            self._recorded += len(chunk)

    def finish(self) -> None:
        """Wait until everything is sent; a temporary server ends with this process, so it has to record it too."""
        wait_until_events_sent(_TIMEOUT)
        if self._temporary:
            ids = iter(self._ids)
            while chunk := list(islice(ids, _CHUNK)):
                self._await(chunk, {"state": {"type": {"any_": _FINAL}}})

    def _await(self, ids: Sequence[UUID], condition: dict[str, Any]) -> None:
        """Ask until the server has these task runs; give up when it makes no progress."""
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
