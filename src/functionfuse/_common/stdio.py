"""Standard streams of a process that was started without some of them, as by `python script.py 2>&-`.

The system gives the lowest free numbers to what is opened next.
A socket or a result file with the number 2 receives whatever C code writes to the standard error.
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
    """Open the null device in place of each standard stream that is closed, for this process and its children."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
    os.close(descriptor)


def inherited_output() -> _Output:
    """Arguments of `subprocess.Popen`: the null device in place of a stream that Python found closed at its start.

    By now its number may be that of a file of the user's.
    """
    return {
        "stdout": subprocess.DEVNULL if sys.__stdout__ is None else None,
        "stderr": subprocess.DEVNULL if sys.__stderr__ is None else None,
    }
