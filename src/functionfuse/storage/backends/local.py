"""Local file backend: atomic writes, memory-mapped reads, no symbolic links."""

from __future__ import annotations

import contextlib
import functools
import io
import mmap
import os
import re
import secrets
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from functionfuse.errors import OptionError
from functionfuse.storage.backends.connection import Connection
from functionfuse.storage.backends.directories import (
    ATTEMPTS,
    close_directory,
    directory,
    is_regular,
    make_directories,
    may_exist,
    not_a_file,
    open_directory,
    open_file,
    open_regular,
    remove_entry,
    remove_file,
    rename_entry,
    status_of,
    sync_directory,
)
from functionfuse.storage.backends.file_io import (
    READS_ON_DEMAND,
    PrivateContents,
    read_all,
    write_frame,
)
from functionfuse.storage.backends.file_names import native_name, portable_names
from functionfuse.storage.backends.local_sidecar_folders import LocalSidecarFolder
from functionfuse.storage.backends.permissions import file_mode, folder_mode
from functionfuse.storage.backends.protocol import Content, WorkflowRemovedError
from functionfuse.storage.backends.sidecar_folders import (
    LEGACY_SIDECARS,
    SIDECARS,
    SOURCES,
    STAMPS,
)
from functionfuse.storage.backends.temporary_files import ReplacingFile, sweep_temporary_files
from functionfuse.storage.file_format import verification

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functionfuse.errors import StorageError
    from functionfuse.storage.file_format.frame import Frame

__all__ = ["LocalBackend"]

_REMOVED: Final = ".removed-"  # a workflow that is being removed
_OF_A_REMOVAL: Final = re.compile(r"\.removed-[0-9a-f]{16}")
_SHORT: Final = 2**16  # bytes; shorter files are not looked at before they are read
_MAPPED: Final = 2**20  # bytes; smaller files are read faster than mapped
#: A link or a file in place of a folder has no results.
_nothing_if_missing: Final = contextlib.suppress(FileNotFoundError, NotADirectoryError)
_maps: Final = weakref.WeakSet[mmap.mmap]()


class LocalBackend:
    """Files in subfolders; see `FileBackend`."""

    globs: ClassVar[bool] = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: bool = False,
        map_files: bool = True,
        mode: int | str | None = None,
    ) -> None:
        """Configure the folder, without creating it.

        Args:
            path: The folder.
            fsync: Flush every file to the disk.
            map_files: Map large files into memory instead of reading them.
            mode: Permissions of new files, see `file_mode`; None leaves them to the umask.

        Raises:
            OptionError: The path is empty (probably a variable that is not set), or the mode is invalid.
        """
        if not os.fspath(path):
            message = "path of a file storage is empty; use '.' for the current folder"
            raise OptionError(message)
        self.path = os.path.abspath(
            os.path.expanduser(path)
        )  # a worker may have another current folder
        self._fsync = fsync
        self._map_files = map_files
        self._mode = file_mode(mode)

    def __reduce__(self) -> tuple[object, tuple[str, bool, bool, int | None]]:
        return _folder, (self.path, self._fsync, self._map_files, self._mode)

    def __repr__(self) -> str:
        return repr(self.path)

    @functools.cached_property
    def fold_case(self) -> bool:
        """Whether the file system is case-insensitive."""
        self.create()
        return _ignores_case(Path(self._at()))

    def hidden_folder(self, subfolder: str, name: str) -> LocalSidecarFolder:
        """A hidden folder in a subfolder, next to the result files."""
        parts = (self._at().strip("/"), native_name(subfolder), name)
        return LocalSidecarFolder(_file_system(), parts, mode=self._mode)

    def has_sidecars(self, subfolder: str) -> bool:
        """Whether a subfolder has sidecar folders."""
        folder = self._at(subfolder)
        return any(
            os.path.isdir(os.path.join(folder, name)) for name in (SIDECARS, LEGACY_SIDECARS)
        )

    def create(self) -> None:
        """Create the folder if it is missing."""
        path = self._at()
        if self._mode is None or os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            return
        above, name = os.path.split(path)
        os.makedirs(above, exist_ok=True)
        make_directories(above, name, mode=folder_mode(self._mode))

    def make(self, subfolder: str) -> None:
        """Create a subfolder if it is missing.

        Raises:
            NotADirectoryError: A link or a file has its name.
        """
        for _ in range(ATTEMPTS):
            self.create()
            with contextlib.suppress(FileNotFoundError):  # removed again before it was opened
                make_directories(self._at(), native_name(subfolder), mode=folder_mode(self._mode))
                return

    def write(self, subfolder: str, name: str, frame: Frame, *, requires: str = "") -> int:
        """Write a file atomically; an earlier one stays intact until then. Returns the size.

        All steps use one opened folder: if the workflow is removed in the meantime, the file is removed with it.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._write(subfolder, name, frame, requires)
            except (
                FileNotFoundError
            ):  # the first result of the workflow, or the workflow was just removed
                self.make(subfolder)
        return self._write(subfolder, name, frame, requires)

    def _write(self, subfolder: str, name: str, frame: Frame, requires: str) -> int:
        folder = open_directory(self._at(subfolder))
        try:
            if requires:
                _check_there(requires, folder)
            with ReplacingFile(native_name(name), folder, self._mode) as file:
                size = write_frame(file, frame)
                if self._fsync:
                    os.fsync(file.fileno())
            if self._fsync:
                sync_directory(folder)
        finally:
            close_directory(folder)
        return size

    def read(
        self,
        subfolder: str,
        name: str,
        *,
        mapped: bool = True,
        deferred: bool = False,
        on_demand: bool = False,
    ) -> Content:
        """Read a file; large files are mapped copy-on-write."""
        path = self._at(subfolder, name)
        with open_file(self._at(subfolder), native_name(name)) as file:
            status = os.fstat(file.fileno())
            verification.check_known_damage(status)
            is_large = status.st_size >= _MAPPED
            mapped = mapped and self._map_files and is_large
            if not mapped or len(_maps) >= _most_maps():
                if on_demand and is_large and READS_ON_DEMAND:
                    source = PrivateContents(file, status.st_size)
                    return Content(source.data, source=source)
                return Content(read_all(file, status.st_size))
            data = mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_COPY)
            _maps.add(data)
            return Content(
                data, verification.DeferredVerification(path, file.fileno()) if deferred else None
            )

    def start(self, subfolder: str, name: str, size: int) -> bytes:
        """The first `size` bytes of a file."""
        with open_file(self._at(subfolder), native_name(name)) as file:
            if size > _SHORT:  # the size is that of a header, which may be forged
                size = min(size, os.fstat(file.fileno()).st_size)
            return bytes(read_all(file, size))

    def starts(
        self, subfolder: str, names: Sequence[str], size: int, needed: Callable[[bytes], int]
    ) -> dict[str, bytes]:
        """The beginnings of several files; each file is opened once."""
        found = {}
        with _nothing_if_missing, directory(self._at(), native_name(subfolder)) as folder:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found[name] = _start_of(native_name(name), folder, size, needed)
        return found

    def exists(self, subfolder: str, name: str) -> bool:
        """Whether a regular file exists."""
        path, native = self._at(subfolder), native_name(name)
        if not may_exist(f"{path}{os.sep}{native}"):
            return False
        try:
            folder = open_directory(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return is_regular(native, folder)
        finally:
            close_directory(folder)

    def names(self, subfolder: str) -> list[str]:
        """The files of a subfolder, without temporary ones; empty if the subfolder is missing."""
        with (
            _nothing_if_missing,
            directory(self._at(), native_name(subfolder)) as folder,
            os.scandir(folder) as entries,
        ):
            names = [
                entry.name
                for entry in entries
                if entry.name[0] != "." and entry.is_file(follow_symlinks=False)
            ]
            return portable_names(names)
        return []

    def subfolders(self) -> list[str]:
        """The subfolders, without hidden ones."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._at()) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)
            ]
            return portable_names(names)
        return []

    def remove(self, subfolder: str, name: str) -> None:
        """Remove a file.

        Raises:
            NotAFileError: The name is not that of a regular file.
        """
        native = native_name(name)
        try:
            with directory(self._at(), native_name(subfolder)) as folder:
                if is_regular(native, folder):
                    remove_file(native, folder)
                    return
        except NotADirectoryError:
            pass
        raise not_a_file(name)

    def remove_all(self, subfolder: str) -> None:
        """Remove a subfolder with its contents, atomically for other processes: rename it, then delete."""
        native, removed = native_name(subfolder), f"{_REMOVED}{secrets.token_hex(8)}"
        with _nothing_if_missing, directory(self._at()) as root:
            close_directory(
                open_directory(native, root)
            )  # raises for a link, which would be renamed
            rename_entry(native, removed, root)
            remove_entry(removed, root)

    def sweep(self, subfolder: str) -> None:
        """Remove old temporary files of killed processes, and the rest of interrupted removals."""
        for hidden in ((), (STAMPS,), (SOURCES,)):
            with (
                _nothing_if_missing,
                directory(self._at(), native_name(subfolder), *hidden) as folder,
            ):
                sweep_temporary_files(folder)
        with directory(self._at()) as root:
            for name in filter(_OF_A_REMOVAL.fullmatch, os.listdir(root)):
                with contextlib.suppress(OSError):  # removed in the meantime, or not permitted
                    remove_entry(name, root)

    def scrub(self, error: StorageError) -> None:
        """A local backend has no secrets."""

    def _at(self, *names: str) -> str:
        """The path of a subfolder or file."""
        return _path(self.path, *names)


@functools.cache
def _file_system() -> Connection:
    """The file system of this machine, from its root."""
    return Connection("file:///", {"auto_mkdir": True})


def _folder(path: str, fsync: bool, map_files: bool, mode: int | None) -> LocalBackend:  # noqa: FBT001 - of a recipe
    return LocalBackend(path, fsync=fsync, map_files=map_files, mode=mode)


@functools.lru_cache(maxsize=1024)  # every result of a workflow has the same folder
def _path(*names: str) -> str:
    return native_name(os.path.join(*names))


def _check_there(path: str, folder: int) -> None:
    try:
        status_of(path, folder)
    except FileNotFoundError:
        message = "its workflow was removed in the meantime; save it again"
        raise WorkflowRemovedError(message) from None


@functools.cache
def _most_maps() -> int:
    """The largest number of mapped files: each one uses a descriptor, of which a run needs others."""
    try:
        import resource
    except ImportError:  # Windows cannot replace a mapped file
        return 0
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit // 4 if limit != resource.RLIM_INFINITY else sys.maxsize


def _start_of(name: str, folder: int, size: int, needed: Callable[[bytes], int]) -> bytes:
    """The beginning of a file in the folder of a descriptor."""
    with io.FileIO(open_regular(name, os.O_RDONLY, folder)) as file:
        start = bytes(read_all(file, size))
        more = min(needed(start), os.fstat(file.fileno()).st_size) - len(start)
        return start + read_all(file, more) if more > 0 else start


def _ignores_case(path: Path) -> bool:
    for part in (path, *path.parents):
        other = part.with_name(part.name.swapcase()) if part.name else part
        if other.name != part.name:
            return other.exists() and other.samefile(part)
    return False
