"""Closed standard streams: replace them by the null device, as after `python script.py 2>&-`.

The system assigns the lowest free descriptor to the next file.
A socket or a result file with descriptor 2 would receive output of C code to standard error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final, TypedDict

__all__ = ["inherited_output", "open_closed_streams"]


class _Output(TypedDict):
    stdout: int | None
    stderr: int | None


_LAST: Final = 2  # the descriptor of the standard error


def open_closed_streams() -> None:
    """Open the null device for each closed standard stream, for this process and its children."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
    os.close(descriptor)


def inherited_output() -> _Output:
    """Arguments of `subprocess.Popen`: the null device for each stream that was closed when Python started.

    Its descriptor may since belong to a file of the user.
    """
    return {
        "stdout": subprocess.DEVNULL if sys.__stdout__ is None else None,
        "stderr": subprocess.DEVNULL if sys.__stderr__ is None else None,
    }
