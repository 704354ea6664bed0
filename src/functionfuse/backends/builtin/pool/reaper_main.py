"""Reaper program: ends the worker processes of a coordinator process that has died, and removes its folders.

Usage: `python -I -S reaper_main.py COORDINATOR FOLDER...`.
It reads lines from standard input: `+PID` for a worker that has started, `-PID` for one that has ended.
It imports nothing of the library, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Final

__all__ = ["MARKER", "main", "open_folder", "remove_folder", "remove_open_folder"]

#: The file that makes a folder one of a pool; the pool's process holds a lock on it.
MARKER: Final = "functionfuse-pool"
_CHECK_INTERVAL: Final = 0.25  # seconds between two checks of the coordinator
_RETRY_INTERVAL: Final = 0.1  # seconds until a worker that has not ended is interrupted again
_TIMEOUT: Final = 5.0  # seconds that nodes have to clean up, as after Ctrl-C
_CHUNK: Final = 64 * 1024
_STDIN: Final = 0


def remove_folder(path: str) -> None:
    """Remove a pool's folder and the files in it; follow no link, and enter no folder.

    Several processes may do so at the same time, and one of them may still write into the folder.

    Raises:
        OSError: The folder does not exist, is a link, or contains more than files.
    """
    descriptor = open_folder(path)
    try:
        remove_open_folder(path, descriptor)
    finally:
        os.close(descriptor)


def open_folder(path: str) -> int:
    """Open a folder, and fail if it is a link; returns its descriptor."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def remove_open_folder(path: str, descriptor: int) -> None:
    """Remove a folder as `remove_folder` does, with an open descriptor of it."""
    while not _remove_contents(path, descriptor):
        pass


def _remove_contents(path: str, descriptor: int) -> bool:
    """Remove all files, the marker last, and the folder; return False if new files prevent it."""
    for name in sorted(os.listdir(descriptor), key=MARKER.__eq__):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=descriptor)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def main() -> None:
    """Wait until the coordinator has died, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to all processes of a job
        signal.signal(number, signal.SIG_IGN)
    coordinator, folders = int(sys.argv[1]), sys.argv[2:]
    workers = _workers_left_by(coordinator)
    alive = _send_signal(workers, signal.SIGTERM)
    for folder in folders:
        with suppress(OSError):  # it does not exist, or the next pool removes it
            remove_folder(folder)
    deadline = time.monotonic() + _TIMEOUT
    while alive and time.monotonic() < deadline:
        time.sleep(_RETRY_INTERVAL)
        alive = _send_signal(alive, signal.SIGTERM)
    _send_signal(alive, signal.SIGKILL)  # they may run C code, which does not check for signals


def _workers_left_by(coordinator: int) -> set[int]:
    """Track the running workers until the coordinator has ended; return those that are left.

    The end of standard input does not suffice: processes that the coordinator forked may hold it open.
    """
    workers, unfinished = set[int](), b""
    while True:
        if select.select([_STDIN], [], [], _CHECK_INTERVAL)[0]:
            data = os.read(_STDIN, _CHUNK)
            if not data:
                return workers
            *lines, unfinished = (unfinished + data).split(b"\n")
            for line in lines:
                (workers.add if line.startswith(b"+") else workers.discard)(int(line[1:]))
        elif os.getppid() != coordinator:
            return workers


def _send_signal(processes: set[int], number: int) -> set[int]:
    """Send a signal to processes; return those that have not ended."""
    alive = set[int]()
    for process in processes:
        with suppress(OSError):  # it has ended
            os.kill(process, number)
            alive.add(process)
    return alive


if __name__ == "__main__":
    main()
