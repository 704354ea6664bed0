"""Directory descriptors: open, create and delete below a folder without following symbolic links.

A path is resolved once for each of its folders, and a link can be put in place of a folder between
two calls. A descriptor stays with the folder that was opened.
The folder of a storage itself may be a link, or have links in its path: the user named it.
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
#: Also without waiting: opening a FIFO would wait for a writer.
_NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
#: What systems answer for a symbolic link, a socket, and a file in place of a folder.
_REFUSED: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO})
#: How often to create a file in a folder that others keep removing, or to remove one that they fill.
ATTEMPTS: Final = 1000


class NotAFileError(FileNotFoundError):
    """A link, pipe, socket, device or folder has the name of a result file, or no folder is on its way."""


def open_directory(path: str, *, dir_fd: int | None = None) -> int:
    """Open a folder whose last component is not a link.

    Raises:
        FileNotFoundError: There is none.
        NotADirectoryError: It is a symbolic link or a file.
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
    """Descriptor of a folder below `root`; only `root` and what is above it may be links.

    Raises:
        FileNotFoundError: There is none.
        NotADirectoryError: A symbolic link or a file is on the way.
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
    """Create folders below `root` that are missing.

    Args:
        root: A folder that exists.
        parts: Names, each in the folder before.
        mode: Exact permissions of a folder that is created; None leaves them to the umask.

    Raises:
        NotADirectoryError: A symbolic link or a file is on the way.
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
    """Open a folder, which is created if it is not there."""
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
        NotAFileError: Something else has its name, or the place of its folder.
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
    """Open a regular file in the folder of a descriptor; gives the file's descriptor.

    Raises:
        NotAFileError: Something else has its name.
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
        name: Its name.
        parent: The descriptor.
        mode: Exact permissions; None leaves them to the umask.
    """
    descriptor = os.open(name, _CREATE, 0o666 if mode is None else mode, dir_fd=parent)
    if mode is not None:
        os.fchmod(descriptor, mode)
    return io.FileIO(descriptor, "w")


def remove_entry(name: str, parent: int) -> None:
    """Delete a file, a link itself, or a folder with all that is in it; it may be gone already.

    Args:
        name: Its name.
        parent: Descriptor of its folder.

    Raises:
        OSError: Not all of it can be deleted.
    """
    try:
        _remove(name, parent)
    except RecursionError:
        raise OSError(errno.ENAMETOOLONG, "folders are nested too deeply", name) from None


def remove_empty(name: str, parent: int) -> bool:
    """Delete an empty folder; tells whether it is gone."""
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError:  # not empty, not ours, or not a folder
        return False
    return True


def latest_change(name: str, parent: int) -> float:
    """When a file, a folder or anything in it was last written, in seconds since 1970."""
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
    """Delete a folder; tells whether it was empty, since others may have put something into it."""
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
    """The error for something that has the name of a file and is none."""
    reason = "a symbolic link, or something else that is not a regular file, is in its place"
    return NotAFileError(errno.ENOENT, reason, name)
