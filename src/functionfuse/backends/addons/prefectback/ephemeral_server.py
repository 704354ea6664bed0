"""A Prefect server for runs without one: it lives as long as this process, and its history stays.

Prefect starts one by itself, but inside the terminal's process group, where Ctrl-C ends it before the run has said so;
a new one in every worker process; and two at once on a new database, where one of them fails.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx
from prefect.context import refresh_global_settings_context
from prefect.logging import get_logger
from prefect.settings import (
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
)

from functionfuse._common.stdio import inherited_output, open_closed_streams
from functionfuse.backends.addons.prefectback._compat import (
    EPHEMERAL_SERVER_VARIABLES,
    set_recorder_flush,
)
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONNECT", "accepts_connections", "is_running", "running_server", "serve"]

#: Collecting garbage takes a third of the time that a server needs to start, and finds nothing: modules stay.
_SERVE: Final = "import gc, sys; gc.disable(); from {module} import serve; serve(int(sys.argv[1]))"
#: As for the one that Prefect starts: no UI, and no services that only a lasting server needs.
_ENVIRONMENT: Final = {"PREFECT_UI_ENABLED": "0", **EPHEMERAL_SERVER_VARIABLES}
CONNECT: Final = 1.5  # seconds until an attempt to reach a server is given up
_FLUSH: Final = 0.1  # seconds
_lock: Final = threading.Lock()
_uses: Final[list[str]] = []  # one for each run that is on
_servers: Final[dict[int, tuple[str, subprocess.Popen[bytes]]]] = {}  # by process: a fork has none


def _address() -> str:
    """The address of this process's own server, which is started if it does not run.

    Raises:
        EngineError: It does not come up.
    """
    with _lock:
        if not _is_alive():
            _servers[os.getpid()] = _start()
        return _servers[os.getpid()][0]


@contextmanager
def running_server() -> Iterator[str]:
    """Use this process's own server; so do the threads and processes that Prefect starts meanwhile.

    They know nothing of the settings of the run: threads look at the global ones,
    and workers of a process pool read them from the environment before they are told any.
    """
    url = _address()
    with _lock:
        _uses.append(url)
        _set_api_url(url)
    try:
        yield url
    finally:
        with _lock:
            _uses.pop()
            if not _uses:
                _set_api_url(None)


def _set_api_url(url: str | None) -> None:
    if os.environ.get("PREFECT_API_URL") == url:
        return
    if url is None:
        del os.environ["PREFECT_API_URL"]
    else:
        os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()


def is_running(url: str | None) -> bool:
    """Tell whether an address is that of this process's own server."""
    return url is not None and os.getpid() in _servers and _servers[os.getpid()][0] == url


def serve(port: int) -> None:
    """Be the server, until whoever started it ends and so closes standard input."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.freeze()
            gc.enable()

    set_recorder_flush(_FLUSH)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = uvicorn.Config(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="on",
    )
    Server(config).run()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    # everything is recorded, and nobody has any use for what a server says of its own end
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


def _is_alive() -> bool:
    return os.getpid() in _servers and _servers[os.getpid()][1].poll() is None


def _start() -> tuple[str, subprocess.Popen[bytes]]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    get_logger("functionfuse").info(
        "Starting a temporary Prefect server. Its history stays: see it with `prefect server start`."
    )
    open_closed_streams()  # before their numbers are those of pipes
    variables = get_current_settings().to_environment_variables(exclude_unset=True)
    with _startup_lock():
        server = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _SERVE.format(module=__name__), str(port)],
            env={**os.environ, **_ENVIRONMENT, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=inherited_output()["stderr"],
            start_new_session=True,
        )
        atexit.register(_stop, server)
        _wait_until_up(f"{url}/health", server)
    return url, server


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        if accepts_connections(url):  # it listens when it has started
            with suppress(httpx.TransportError):
                if httpx.get(url, timeout=5, trust_env=False).is_success:
                    return
        time.sleep(0.02)  # nothing tells when a server has come up
    _stop(server)
    message = (
        f"a temporary Prefect server did not come up within {seconds} seconds: start one with "
        "`prefect server start` and set PREFECT_API_URL, or see what it says with `prefect server start`"
    )
    raise EngineError(message)


def accepts_connections(url: str) -> bool:
    """Tell in a millisecond whether a connection can be made, apart from proxies and certificates."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=CONNECT):
            return True
    except (OSError, ValueError):
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _startup_lock() -> Iterator[None]:
    """Let one process on a PREFECT_HOME start its server after the other: a first start makes the database."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    home = Path(PREFECT_HOME.value())
    home.mkdir(parents=True, exist_ok=True)
    with (home / "functionfuse.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
