"""System calls relative to a directory descriptor (`dir_fd`): what systems of the POSIX family offer.

A path is resolved once for each of its folders, and a link can be put in place of a folder between
two calls. A descriptor stays with the folder that was opened.
"""

from __future__ import annotations

import os
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

_ROOT: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
#: Non-blocking: opening a FIFO would wait for a writer.
_NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_root(path: str) -> int:
    """Open a folder, which may be a link."""
    return os.open(path, _ROOT)


def open_folder(name: str, parent: int | None) -> int:
    """Open a folder that is not a link."""
    return os.open(name, _ROOT | _NO_LINKS, dir_fd=parent)


def open_entry(name: str, flags: int, parent: int, mode: int) -> int:
    """Open a file that is not a link; gives its descriptor."""
    return os.open(name, flags | _NO_LINKS, mode, dir_fd=parent)


def close(folder: int) -> None:
    """Close a folder."""
    os.close(folder)


def sync(folder: int) -> None:
    """Wait until the entries of a folder are on the disk."""
    os.fsync(folder)


def set_mode(descriptor: int, mode: int) -> None:
    """Set the permissions of an open file or folder."""
    os.fchmod(descriptor, mode)


def make_folder(name: str, parent: int, mode: int) -> None:
    """Create a folder."""
    os.mkdir(name, mode, dir_fd=parent)


def lstat(name: str, parent: int) -> os.stat_result:
    """The status of an entry; of a link itself."""
    return os.stat(name, dir_fd=parent, follow_symlinks=False)


def rename(old: str, new: str, parent: int) -> None:
    """Rename an entry, and replace a file that has the new name."""
    os.replace(old, new, src_dir_fd=parent, dst_dir_fd=parent)


def unlink(name: str, parent: int) -> None:
    """Delete a file, or a link itself."""
    os.unlink(name, dir_fd=parent)


def remove_folder(name: str, parent: int) -> None:
    """Delete an empty folder."""
    os.rmdir(name, dir_fd=parent)
