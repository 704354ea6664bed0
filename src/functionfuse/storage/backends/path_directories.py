"""System calls below a folder by path, for systems without directory descriptors, such as Windows.

The functions are those of `directory_descriptors`; an open folder is its path.
Links are refused when they are there at the time of a call. A process that replaces a folder by a link
between two calls is not detected: the system has no call for that.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

__all__ = [
    "close",
    "lstat",
    "make_folder",
    "open_entry",
    "open_folder",
    "open_root",
    "remove_folder",
    "rename",
    "set_mode",
    "sync",
    "unlink",
]

#: Without it Windows translates line ends.
_BINARY: Final = getattr(os, "O_BINARY", 0)
#: The bit of a reparse tag that symbolic links and junctions of Windows have in common.
_NAME_SURROGATE: Final = 0x2000_0000


def open_root(path: str) -> str:
    """Check that a path is a folder, which may be a link."""
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return path


def open_folder(name: str, parent: str | None) -> str:
    """Check that an entry is a folder and not a link."""
    path = name if parent is None else os.path.join(parent, name)
    status = os.lstat(path)
    if _is_link(status) or not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return path


def open_entry(name: str, flags: int, parent: str, mode: int) -> int:
    """Open a file that is not a link; gives its descriptor."""
    path = os.path.join(parent, name)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        pass
    else:
        if _is_link(status) or not stat.S_ISREG(status.st_mode):  # a FIFO would wait for a writer
            code = errno.EEXIST if flags & os.O_EXCL else errno.ELOOP
            raise OSError(code, os.strerror(code), path)
    return os.open(path, flags | _BINARY, mode)


def close(folder: str) -> None:
    """Nothing is open."""


def sync(folder: str) -> None:
    """Nothing: such a system has no call for it."""


def set_mode(opened: int | str, mode: int) -> None:
    """Set the permissions of a folder, or of an open file where the system can."""
    if isinstance(opened, str) or os.chmod in os.supports_fd:
        os.chmod(opened, mode)


def make_folder(name: str, parent: str, mode: int) -> None:
    """Create a folder."""
    os.mkdir(os.path.join(parent, name), mode)


def lstat(name: str, parent: str) -> os.stat_result:
    """The status of an entry; of a link itself."""
    return os.lstat(os.path.join(parent, name))


def rename(old: str, new: str, parent: str) -> None:
    """Rename an entry, and replace a file that has the new name."""
    os.replace(os.path.join(parent, old), os.path.join(parent, new))


def unlink(name: str, parent: str) -> None:
    """Delete a file, or a link itself."""
    path = os.path.join(parent, name)
    try:
        os.unlink(path)
    except PermissionError:  # Windows deletes links to folders as folders
        if not os.path.islink(path):
            raise
        os.rmdir(path)


def remove_folder(name: str, parent: str) -> None:
    """Delete an empty folder."""
    os.rmdir(os.path.join(parent, name))


def _is_link(status: os.stat_result) -> bool:
    """Whether an entry is a symbolic link, or a junction of Windows, which looks like a folder."""
    return stat.S_ISLNK(status.st_mode) or bool(
        getattr(status, "st_reparse_tag", 0) & _NAME_SURROGATE
    )
