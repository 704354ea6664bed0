"""Directory descriptors: open, create and delete below a folder without following symbolic links.

The system resolves a path at each call, and a folder can be replaced by a link between two calls.
A descriptor always refers to the folder that was opened.
The folder of a storage itself may be a link, or have links in its path: the user chose that path.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ATTEMPTS",
    "NotAFileError",
    "create_file",
    "directory",
    "is_regular",
    "latest_change",
    "make_directories",
    "not_a_file",
    "open_directory",
    "open_file",
    "open_regular",
    "remove_empty",
    "remove_entry",
]

_ROOT: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
#: Non-blocking: opening a FIFO would wait for a writer.
_NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
#: Error numbers for a symbolic link, a socket, and a file in place of a folder.
_REFUSED: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO})
#: Attempts to create a file in a folder that other processes keep removing, or to remove one that they fill.
ATTEMPTS: Final = 1000


class NotAFileError(FileNotFoundError):
    """The path of a result file leads to a link, pipe, socket, device or folder, or through something else than folders."""


def open_directory(path: str, *, dir_fd: int | None = None) -> int:
    """Open a folder whose last component is not a link.

    Raises:
        FileNotFoundError: The folder is missing.
        NotADirectoryError: The path is a symbolic link or a file.
    """
    try:
        return os.open(path, _ROOT | _NO_LINKS, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        reason = "a symbolic link or a file is in place of a folder of the storage"
        raise NotADirectoryError(errno.ENOTDIR, reason, path) from None


@contextlib.contextmanager
def directory(root: str, *parts: str) -> Iterator[int]:
    """Descriptor of a folder below `root`; only `root` and its parents may be links.

    Raises:
        FileNotFoundError: The folder is missing.
        NotADirectoryError: The path has a symbolic link or a file.
    """
    descriptor = os.open(root, _ROOT)
    try:
        for part in parts:
            inner = open_directory(part, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def make_directories(root: str, *parts: str, mode: int | None = None) -> None:
    """Create missing folders below `root`.

    Args:
        root: A folder that exists.
        parts: Names, each in the previous folder.
        mode: Exact permissions of a folder that is created; None leaves them to the umask.

    Raises:
        NotADirectoryError: The path has a symbolic link or a file.
    """
    descriptor = os.open(root, _ROOT)
    try:
        for part in parts:
            inner = _made_directory(part, descriptor, mode)
            os.close(descriptor)
            descriptor = inner
    finally:
        os.close(descriptor)


def _made_directory(name: str, parent: int, mode: int | None) -> int:
    """Open a folder; create it if it is missing."""
    try:
        return open_directory(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(name, 0o777 if mode is None else mode, dir_fd=parent)
        created = True
    except FileExistsError:  # by another process
        created = False
    descriptor = open_directory(name, dir_fd=parent)
    if mode is not None and created:
        os.fchmod(descriptor, mode)  # mkdir obeys the umask
    return descriptor


def open_file(folder: str, name: str) -> io.FileIO:
    """Open a regular file in a folder to read it.

    Raises:
        NotAFileError: The path is not a regular file in a folder.
    """
    try:
        parent = open_directory(folder)
        try:
            descriptor = open_regular(name, os.O_RDONLY, parent)
        finally:
            os.close(parent)
    except NotADirectoryError:
        raise not_a_file(name) from None
    return io.FileIO(descriptor)


def open_regular(name: str, flags: int, parent: int, mode: int = 0o666) -> int:
    """Open a regular file in the folder of a descriptor; returns the descriptor of the file.

    Raises:
        NotAFileError: The name is not that of a regular file.
    """
    try:
        descriptor = os.open(name, flags | _NO_LINKS, mode, dir_fd=parent)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise not_a_file(name) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_a_file(name)
    return descriptor


def is_regular(name: str, parent: int) -> bool:
    """Whether the folder of a descriptor has a regular file of this name."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def create_file(name: str, parent: int, mode: int | None = None) -> io.FileIO:
    """Create a file in the folder of a descriptor to write it.

    Args:
        name: The name of the file.
        parent: The descriptor.
        mode: Exact permissions; None leaves them to the umask.
    """
    descriptor = os.open(name, _CREATE, 0o666 if mode is None else mode, dir_fd=parent)
    if mode is not None:
        os.fchmod(descriptor, mode)
    return io.FileIO(descriptor, "w")


def remove_entry(name: str, parent: int) -> None:
    """Delete a file, a link itself, or a folder with its contents, if it exists.

    Args:
        name: The name of the entry.
        parent: The descriptor of its folder.

    Raises:
        OSError: A part cannot be deleted.
    """
    try:
        _remove(name, parent)
    except RecursionError:
        raise OSError(errno.ENAMETOOLONG, "folders are nested too deeply", name) from None


def remove_empty(name: str, parent: int) -> bool:
    """Delete an empty folder; returns whether it no longer exists."""
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError:  # not empty, not permitted, or not a folder
        return False
    return True


def latest_change(name: str, parent: int) -> float:
    """The time of the last write to a file, a folder or its contents, in seconds since 1970."""
    latest = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime
    with contextlib.suppress(NotADirectoryError, FileNotFoundError):
        descriptor = open_directory(name, dir_fd=parent)
        try:
            inner = (latest_change(entry, descriptor) for entry in os.listdir(descriptor))
            latest = max([latest, *inner])
        finally:
            os.close(descriptor)
    return latest


def _remove(name: str, parent: int) -> None:
    try:
        descriptor = open_directory(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        return
    try:
        for _ in range(ATTEMPTS):
            for entry in os.listdir(descriptor):
                _remove(entry, descriptor)
            if _is_removed(name, parent):
                return
    finally:
        os.close(descriptor)
    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)


def _is_removed(name: str, parent: int) -> bool:
    """Delete a folder; returns False if other processes have filled it again."""
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    return True


def not_a_file(name: str) -> NotAFileError:
    """The error for a name that is not that of a regular file."""
    reason = "a symbolic link, or something else that is not a regular file, is in its place"
    return NotAFileError(errno.ENOENT, reason, name)
