"""Processes of workflows, as the tests see them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["children_of", "coordinator", "has_ended", "until"]

_PATIENCE: Final = 60  # seconds until what does not happen fails a test


def until(condition: Callable[[], object]) -> None:
    """Poll until a condition holds: the system does not report the end of other users' processes."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def children_of(process: int, program: str) -> list[int]:
    """The child processes of a process whose command line names a program."""
    children = list[str]()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            children += task.read_text().split()
    return [int(child) for child in children if _runs(child, program)]


def _runs(process: str, program: str) -> bool:
    try:
        return program.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def has_ended(process: int) -> bool:
    """Tell whether a process has ended; its new parent may not have read its exit code."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True


@contextmanager
def coordinator(script: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script in a folder; it is killed afterwards if it has not ended."""
    path = folder / "script.py"
    path.write_text(script)
    with subprocess.Popen(  # noqa: S603
        [sys.executable, str(path)],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
