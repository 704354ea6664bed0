"""Compatibility with Python's versions: undocumented parts of the standard library, and a replacement for each.

Each docstring names the part, its purpose, and the behaviour without it.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["interpreter_flags"]


def interpreter_flags() -> list[str]:
    """The command-line flags of this process's interpreter, for a process that runs the same code.

    Needs: `subprocess._args_from_interpreter_flags`, with which `multiprocessing` starts its processes.
    Without it, workers get the options `-W` and `-X` only: with `python -O`, workers execute assertions.
    """
    ours: Callable[[], list[str]] | None
    ours = getattr(subprocess, "_args_from_interpreter_flags", None)
    if ours is not None:
        flags: list[str] = ours()
        return flags
    options: dict[str, Any] = getattr(sys, "_xoptions", {})
    named = [name if value is True else f"{name}={value}" for name, value in options.items()]
    return [*(f"-W{option}" for option in sys.warnoptions), *(f"-X{option}" for option in named)]
