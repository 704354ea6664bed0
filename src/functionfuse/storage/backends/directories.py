"""Directory descriptors: open, create and delete below a folder without following symbolic links.

The system calls are those of `directory_descriptors`; on systems without descriptors of directories, those of
`path_directories`, where the path of a folder is used in place of its descriptor.
The folder of a storage itself may be a link, or have links in its path: the user chose that path.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING or os.open in os.supports_dir_fd:
    from functionfuse.storage.backends import directory_descriptors as system
else:
    from functionfuse.storage.backends import path_directories as system

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ATTEMPTS",
    "NotAFileError",
    "close_directory",
    "create_file",
    "directory",
    "is_regular",
    "latest_change",
    "make_directories",
    "make_subdirectories",
    "may_exist",
    "not_a_file",
    "open_directory",
    "open_file",
    "open_regular",
    "remove_empty",
    "remove_entry",
    "remove_file",
    "rename_entry",
    "status_of",
    "sync_directory",
]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_PERMISSIONS: Final = 0o666  # of a new file, before the umask
#: Error numbers for a symbolic link, a socket, and a file in place of a folder.
_REFUSED: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO})
#: Attempts to create a file in a folder that other processes keep removing, or to remove one that they fill.
ATTEMPTS: Final = 1000


close_directory = system.close
sync_directory = system.sync
status_of = system.lstat
rename_entry = system.rename
remove_file = system.unlink


class NotAFileError(FileNotFoundError):
    """The path of a result file leads to a link, pipe, socket, device or folder, or through something else than folders."""


def open_directory(path: str, parent: int | None = None) -> int:
    """Open a folder whose last component is not a link.

    Raises:
        FileNotFoundError: The folder is missing.
        NotADirectoryError: The path is a symbolic link or a file.
    """
    try:
        return system.open_folder(path, parent)
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
    descriptor = system.open_root(root)
    try:
        for part in parts:
            inner = open_directory(part, descriptor)
            close_directory(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        close_directory(descriptor)


def make_directories(root: str, *parts: str, mode: int | None = None) -> None:
    """Create missing folders below `root`.

    Args:
        root: A folder that exists.
        parts: Names, each in the previous folder.
        mode: Exact permissions of a folder that is created; None leaves them to the umask.

    Raises:
        NotADirectoryError: The path has a symbolic link or a file.
    """
    descriptor = system.open_root(root)
    try:
        make_subdirectories(descriptor, *parts, mode=mode)
    finally:
        close_directory(descriptor)


def make_subdirectories(parent: int, *parts: str, mode: int | None = None) -> None:
    """Create missing folders below the folder of a descriptor, as `make_directories` does.

    Raises:
        FileNotFoundError: The folder of the descriptor has been deleted.
        NotADirectoryError: The path has a symbolic link or a file.
    """
    descriptor = parent
    try:
        for part in parts:
            inner = _made_directory(part, descriptor, mode)
            if descriptor != parent:
                close_directory(descriptor)
            descriptor = inner
    finally:
        if descriptor != parent:
            close_directory(descriptor)


def _made_directory(name: str, parent: int, mode: int | None) -> int:
    """Open a folder; create it if it is missing."""
    try:
        return open_directory(name, parent)
    except FileNotFoundError:
        pass
    try:
        system.make_folder(name, parent, 0o777 if mode is None else mode)
        created = True
    except FileExistsError:  # by another process
        created = False
    descriptor = open_directory(name, parent)
    if mode is not None and created:
        system.set_mode(descriptor, mode)  # mkdir obeys the umask
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
            close_directory(parent)
    except NotADirectoryError:
        raise not_a_file(name) from None
    return io.FileIO(descriptor)


def open_regular(name: str, flags: int, parent: int, mode: int | None = None) -> int:
    """Open a regular file in the folder of a descriptor; returns the descriptor of the file.

    Args:
        name: The name of the file.
        flags: As for `os.open`.
        parent: The descriptor.
        mode: Exact permissions, if the flags let the file be created; None leaves them to the umask.

    Raises:
        NotAFileError: The name is not that of a regular file.
    """
    try:
        descriptor = system.open_entry(name, flags, parent, _PERMISSIONS if mode is None else mode)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise not_a_file(name) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_a_file(name)
    if mode is not None and flags & os.O_CREAT:
        system.set_mode(descriptor, mode)  # open obeys the umask
    return descriptor


def may_exist(path: str) -> bool:
    """Whether anything has a path, by one system call: most of what a run looks for is missing.

    Links in the path are followed: if there is something, open it without following them.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:  # a path that is too long, a file in place of a folder, not permitted
        return True
    return True


def is_regular(name: str, parent: int) -> bool:
    """Whether the folder of a descriptor has a regular file of this name."""
    try:
        return stat.S_ISREG(status_of(name, parent).st_mode)
    except FileNotFoundError:
        return False


def create_file(name: str, parent: int, mode: int | None = None) -> io.FileIO:
    """Create a file in the folder of a descriptor to write it.

    Args:
        name: Its name.
        parent: The descriptor.
        mode: Exact permissions; None leaves them to the umask.
    """
    descriptor = system.open_entry(name, _CREATE, parent, _PERMISSIONS if mode is None else mode)
    if mode is not None:
        system.set_mode(descriptor, mode)
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
        system.remove_folder(name, parent)
    except FileNotFoundError:
        return True
    except OSError:  # not empty, not permitted, or not a folder
        return False
    return True


def latest_change(name: str, parent: int) -> float:
    """The time of the last write to a file, a folder or its contents, in seconds since 1970."""
    latest = status_of(name, parent).st_mtime
    with contextlib.suppress(NotADirectoryError, FileNotFoundError):
        descriptor = open_directory(name, parent)
        try:
            inner = (latest_change(entry, descriptor) for entry in os.listdir(descriptor))
            latest = max([latest, *inner])
        finally:
            close_directory(descriptor)
    return latest


def _remove(name: str, parent: int) -> None:
    try:
        descriptor = open_directory(name, parent)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        with contextlib.suppress(FileNotFoundError):
            system.unlink(name, parent)
        return
    try:
        for _ in range(ATTEMPTS):
            for entry in os.listdir(descriptor):
                _remove(entry, descriptor)
            if _is_removed(name, parent):
                return
    finally:
        close_directory(descriptor)
    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)


def _is_removed(name: str, parent: int) -> bool:
    """Delete a folder; returns False if other processes have filled it again."""
    try:
        system.remove_folder(name, parent)
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
