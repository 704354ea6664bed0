"""Permissions of new result files, from the option `mode`."""

from __future__ import annotations

import re
from typing import Any, Final, overload

from functionfuse.errors import OptionError

__all__ = ["file_mode", "folder_mode"]

_OCTAL: Final = re.compile(r"(0o?)?[0-7]{3}")
_OWNER: Final = 0o600  # the owner must be able to read and replace results
_ALL: Final = 0o666


def file_mode(mode: Any) -> int | None:
    """Validate the option `mode`.

    Args:
        mode: A number like `0o600`, or its octal digits as text, like `"0600"`: JSON has no octal numbers.
            None leaves permissions to the umask.

    Raises:
        OptionError: The owner cannot read and write, or the mode has other bits than read and write.
    """
    if mode is None:
        return None
    number = int(mode, 8) if isinstance(mode, str) and _OCTAL.fullmatch(mode) else mode
    if type(number) is int and number & _OWNER == _OWNER and not number & ~_ALL:
        return number
    message = (
        f"mode must be permissions of files that the owner can read and write, "
        f"like 0o600, 0o640 or '0600', not {mode!r}"
    )
    raise OptionError(message)


@overload
def folder_mode(mode: int) -> int: ...
@overload
def folder_mode(mode: None) -> None: ...
@overload
def folder_mode(mode: int | None) -> int | None: ...
def folder_mode(mode: int | None) -> int | None:
    """Permissions of a folder for files of a mode: users that may read the files may enter the folder."""
    return None if mode is None else mode | (mode & 0o444) >> 2
