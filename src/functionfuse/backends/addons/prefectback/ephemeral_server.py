"""Ephemeral Prefect server: runs until this process ends; its database stays.

Prefect's own ephemeral server is in the terminal's process group, where Ctrl-C ends it before the run has recorded its
end; each worker process starts another one; and of two that start simultaneously on a new database, one fails.
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

#: Garbage collection takes a third of the start-up time, and finds nothing: modules stay.
_SERVE: Final = "import gc, sys; gc.disable(); from {module} import serve; serve(int(sys.argv[1]))"
#: As for Prefect's own ephemeral server: no UI, and no services that only a permanent server needs.
_ENVIRONMENT: Final = {"PREFECT_UI_ENABLED": "0", **EPHEMERAL_SERVER_VARIABLES}
CONNECT: Final = 1.5  # seconds; the timeout for connecting to a server
_FLUSH: Final = 0.1  # seconds
_lock: Final = threading.Lock()
_uses: Final[list[str]] = []  # one for each run in progress
_servers: Final[
    dict[int, tuple[str, subprocess.Popen[bytes]]]
] = {}  # by process: a forked process has no server


def _address() -> str:
    """The address of this process's server; starts the server if it does not run.

    Raises:
        EngineError: The server does not start.
    """
    with _lock:
        if not _is_alive():
            _servers[os.getpid()] = _start()
        return _servers[os.getpid()][0]


@contextmanager
def running_server() -> Iterator[str]:
    """Use this process's server, also in the threads and processes that Prefect starts meanwhile.

    They do not get the settings of the run from a context: threads read the global settings,
    and workers of a process pool read the environment before they receive any settings.
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
    """Tell whether an address is the one of this process's server."""
    return url is not None and os.getpid() in _servers and _servers[os.getpid()][0] == url


def serve(port: int) -> None:
    """Run the server until its parent process ends, which closes standard input."""
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
    # everything is recorded: hide the messages of the shutdown
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


def _is_alive() -> bool:
    return os.getpid() in _servers and _servers[os.getpid()][1].poll() is None


def _start() -> tuple[str, subprocess.Popen[bytes]]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    get_logger("functionfuse").info(
        "Starting an ephemeral Prefect server. Its runs stay in the database: view them with `prefect server start`."
    )
    open_closed_streams()  # before pipes get the numbers of closed streams
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
        if accepts_connections(url):  # it listens once it has started
            with suppress(httpx.TransportError):
                if httpx.get(url, timeout=5, trust_env=False).is_success:
                    return
        time.sleep(0.02)  # a server does not signal that it has started
    _stop(server)
    message = (
        f"the ephemeral Prefect server did not start within {seconds} seconds: start a server with "
        "`prefect server start` and set PREFECT_API_URL, or read its messages there"
    )
    raise EngineError(message)


def accepts_connections(url: str) -> bool:
    """Tell whether a connection can be made, in a millisecond; ignores proxies and certificates."""
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
    """Lock the PREFECT_HOME while a server starts: the first start creates the database."""
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
