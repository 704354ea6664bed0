"""Which process this is, told apart from forks and from those of other machines."""

from __future__ import annotations

import os
import secrets
from typing import Final

__all__ = ["this_process"]

_started: Final = secrets.token_hex(8)  # process numbers are the same in every container


def this_process() -> str:
    """A name that no other process has."""
    return f"{os.getpid()}-{_started}"
