"""User warnings: attribute warnings to the innermost line outside of the library."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Final

__all__ = ["user_location", "warn_user"]

_ROOT: Final = str(Path(__file__).parents[1])


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning for the innermost line outside of the library."""
    warnings.warn(message, category, stacklevel=_depth() + 1)


def user_location() -> str:
    """The innermost line outside of the library, as `pipeline.py:41`."""
    frame = sys._getframe(_depth())
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _depth() -> int:
    """The number of frames between the caller of this function and the user's."""
    depth, frame = 0, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_ROOT):
        depth, frame = depth + 1, frame.f_back
    return depth
