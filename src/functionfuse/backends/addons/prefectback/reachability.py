"""Reachability of the Prefect API: check it by one short request before a run, since Prefect retries for minutes."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from prefect.client.orchestration import get_client
from prefect.context import SettingsContext, get_settings_context
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from functionfuse.backends.addons.prefectback import ephemeral_server
from functionfuse.errors import EngineError

__all__ = ["check_reachable", "is_lost", "stop_retrying"]

_TIMEOUT: Final = 20.0  # seconds for an answer, if PREFECT_API_REQUEST_TIMEOUT is not less
_STATUSES_OF_PROXIES: Final = frozenset({403, 407, 502, 503, 504})
_PASSWORD: Final = re.compile(r"//[^/@]*@")
_START: Final = (
    "start one with `prefect server start`, or unset PREFECT_API_URL (in the environment, or in the profile: "
    "`prefect config unset PREFECT_API_URL`) to run with an ephemeral server"
)
_CHECK: Final = "check host and port, and restart the server if it hangs"
_answered: Final = set[str]()  # addresses of APIs that have answered in this process


def check_reachable() -> None:
    """Check that the Prefect API answers at PREFECT_API_URL.

    A later check of an address that has answered only makes a connection, which takes a millisecond.

    Raises:
        EngineError: The API does not answer.
    """
    url = PREFECT_API_URL.value()
    if url in _answered and ephemeral_server.accepts_connections(url):
        return
    seconds = min(_TIMEOUT, PREFECT_API_REQUEST_TIMEOUT.value())
    try:
        problem = _problem_of(url, _response(seconds))
    except httpx.TransportError as error:
        raise EngineError(_problem_of_connection(url, error, seconds)) from error
    if problem:
        raise EngineError(problem)
    _answered.add(url)


def is_lost() -> bool:
    """Tell whether the server of this run has stopped accepting connections."""
    url = PREFECT_API_URL.value()
    if url is None or not (
        ephemeral_server.is_running(url) or (url in _answered and not _proxy_advice(url))
    ):
        return False
    return not ephemeral_server.accepts_connections(url)


def stop_retrying() -> None:
    """Send each further request of this flow run once: Prefect would retry each for a minute.

    The settings context ends with the run.
    """
    context = get_settings_context()
    settings = context.settings.copy_with_update(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
    SettingsContext(profile=context.profile, settings=settings).__enter__()


def _response(seconds: float) -> httpx.Response:
    """The answer of the API to a health check, also if it is an error."""
    timeout = httpx.Timeout(seconds, connect=ephemeral_server.CONNECT)
    # Prefect's client supports proxies and certificates, and retries several times
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(httpx_settings={"timeout": timeout}, sync_client=True) as client,
    ):
        try:
            return client.request("GET", "/health")
        except httpx.HTTPStatusError as error:
            return error.response


def _problem_of_connection(url: str, error: httpx.TransportError, seconds: float) -> str:
    """Why an address does not answer."""
    advice = _proxy_advice(url)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
        reason = (
            f"no Prefect server answers at PREFECT_API_URL={url} ({error or type(error).__name__})"
        )
        return f"{reason}: {advice or _START}"
    late = isinstance(error, httpx.TimeoutException)
    given = f"within {seconds:g} seconds" if late else f"({error or type(error).__name__})"
    return (
        f"connections to PREFECT_API_URL={url} are accepted, but no Prefect server answers there {given}: "
        f"{advice or _CHECK}"
    )


def _problem_of(url: str, response: httpx.Response) -> str:
    """The problem of an answer; empty for every answer of an API, since a server may be busy."""
    status, kind = response.status_code, response.headers.get("content-type", "")
    advice = _proxy_advice(url)
    if advice and status in _STATUSES_OF_PROXIES:
        return f"no Prefect server answers at PREFECT_API_URL={url} (HTTP {status}): {advice}"
    if status == HTTPStatus.UNAUTHORIZED:
        return (
            f"the Prefect server at PREFECT_API_URL={url} asks for credentials (HTTP {status}): "
            "set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        )
    if status != HTTPStatus.NOT_FOUND and "html" not in kind:
        return ""
    other = (
        f"the program at PREFECT_API_URL={url} is not the API of a Prefect server (HTTP {status})"
    )
    if urlsplit(url).path.rstrip("/").endswith("/api"):
        return f"{other}: {advice or _CHECK}"
    return f"{other}: the address of an API ends with /api, as in {url.rstrip('/')}/api"


def _proxy_advice(url: str) -> str:
    """The proxy that requests to the address go through, and how to bypass it; empty without a proxy."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme) or getproxies().get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return (
        f"requests go through the proxy {_PASSWORD.sub('//', proxy)} of the environment. "
        f"If the server is not behind it, add its host: NO_PROXY={parts.hostname}"
    )
