"""Process identity, unique among forks and other machines."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["this_process"]

_started: Final = os.urandom(8).hex()  # process numbers repeat in every container


def this_process() -> str:
    """A unique name of this process."""
    return f"{os.getpid()}-{_started}"
