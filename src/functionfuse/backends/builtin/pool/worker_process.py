"""Worker process handle: starts a worker, and observes its end."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import functionfuse
from functionfuse._common.stdio import inherited_output
from functionfuse._context import hash_seed
from functionfuse._transport.protocol import Channel, Handshake
from functionfuse.backends.builtin.pool._compat import interpreter_flags
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functionfuse.backends.builtin.pool.reaper import Reaper

__all__ = ["WorkerProcess"]

_ROOT: Final = str(Path(functionfuse.__file__).parent.parent)
_PATH: Final = "PYTHONPATH"
_CHUNK_SIZE: Final = 64 * 1024


class WorkerProcess:
    """A process that runs one unit at a time, and the numbers of the shared objects that it has."""

    def __init__(self, name: str, folders: Sequence[str], reaper: Reaper) -> None:
        """Start the process; messages to it are queued until it is ready.

        Raises:
            EngineError: The system starts no more processes.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.settimeout(None)  # whatever `socket.setdefaulttimeout` has set
        self.shared_objects: set[int] = set()
        self.has_replied = False  # it has replied once, so its start succeeded
        self.channel = Channel(ours)
        with theirs:
            try:
                self._process = _start_process(theirs.fileno())
            except OSError as error:
                ours.close()
                message = f"a worker process cannot be started: {error}"
                raise EngineError(message) from error
        self._reaper = reaper
        reaper.watch(self._process.pid)
        before = {name: os.environ.get(name) for name in (_PATH, hash_seed.VARIABLE)}
        handshake = Handshake(list(sys.path), list(sys.argv), before, tuple(folders), name)
        self.channel.send(pickle.dumps(handshake))

    def fileno(self) -> int:
        """The descriptor of the connection, for selectors."""
        return self.channel.socket.fileno()

    def describe_exit(self, patience: float) -> str:
        """Wait for the end of a process that closed its connection; describe how it ended."""
        self._reaper.reset(self._process.pid)
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return "closed its connection and went on"
        if code >= 0:
            return f"ended with exit code {code}"
        number = signal.Signals(-code)
        hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
        return f"was ended by {number.name}{hint}"

    def has_ended(self) -> bool:
        """Discard received data; tell whether the connection is closed."""
        try:
            return not self.channel.socket.recv(_CHUNK_SIZE)
        except ConnectionError:
            return True

    def dismiss(self) -> None:
        """Close the connection: the process ends when it is idle."""
        with suppress(OSError):  # it has already ended
            self.channel.socket.shutdown(socket.SHUT_WR)

    def interrupt(self) -> None:
        """Interrupt the running node; the process ends after it."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill the process, if it has not ended."""
        self._reaper.reset(self._process.pid)
        self._process.kill()
        self._process.wait()
        self.channel.socket.close()


def _start_process(descriptor: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        *interpreter_flags(),
        "-P",
        "-m",
        "functionfuse._transport.worker",
        str(descriptor),
    ]
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get(_PATH))))
    return subprocess.Popen(  # noqa: S603 - this interpreter
        command,
        stdin=subprocess.DEVNULL,
        **inherited_output(),
        pass_fds=[descriptor],
        env={**os.environ, _PATH: path, hash_seed.VARIABLE: hash_seed.hash_seed()},
    )
