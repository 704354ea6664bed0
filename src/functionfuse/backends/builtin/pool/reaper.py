"""Reaper handle: starts and updates the process that cleans up if this process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from functionfuse.backends.builtin.pool import reaper_main
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Reaper"]


class Reaper:
    """A process that ends the workers and removes the folders of a pool as soon as this process has ended."""

    def __init__(self, folders: Sequence[str]) -> None:
        """Start the process.

        Raises:
            EngineError: The system starts no more processes.
        """
        command = [sys.executable, "-I", "-S", reaper_main.__file__, str(os.getpid()), *folders]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # signals to the process group do not reach it
            )
        except OSError as error:
            message = f"the reaper process cannot be started: {error}"
            raise EngineError(message) from error

    def watch(self, process: int) -> None:
        """Have a worker ended when this process has ended."""
        self._tell(f"+{process}\n")

    def reset(self, process: int) -> None:
        """Stop watching a worker that has ended: another process may get its number."""
        self._tell(f"-{process}\n")

    def stop(self) -> None:
        """End the reaper after the pool has cleaned up."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # without a reaper, workers end after their node, and the next pool removes the folders
        with suppress(OSError):
            self._process.stdin.write(line.encode())
