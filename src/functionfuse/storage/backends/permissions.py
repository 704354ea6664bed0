"""Permissions of new result files, from the option `mode`."""

from __future__ import annotations

import re
from typing import Any, Final, overload

from functionfuse.errors import OptionError

__all__ = ["file_mode", "folder_mode"]

_OCTAL: Final = re.compile(r"(0o?)?[0-7]{3}")
_OWNER: Final = 0o600  # who saves a result must be able to read and replace it
_ALL: Final = 0o666


def file_mode(mode: Any) -> int | None:
    """Check the option `mode`.

    Args:
        mode: A number like `0o600`, or its octal digits as text, like `"0600"`: JSON has no octal numbers.
            None leaves permissions to the umask.

    Raises:
        OptionError: It is not a permission to read and write for the owner, or has more than that.
    """
    if mode is None:
        return None
    number = int(mode, 8) if isinstance(mode, str) and _OCTAL.fullmatch(mode) else mode
    if type(number) is int and number & _OWNER == _OWNER and not number & ~_ALL:
        return number
    message = (
        f"mode is a permission of files that lets their owner read and write, "
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
    """Permissions of a folder: its files can be reached by those who may read them."""
    return None if mode is None else mode | (mode & 0o444) >> 2
