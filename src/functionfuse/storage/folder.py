"""A folder of the local file system in which a file is either whole or not there."""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
import secrets
import shutil
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from functionfuse.errors import OptionError
from functionfuse.storage import checks
from functionfuse.storage.connection import Connection
from functionfuse.storage.objects import OBJECTS, PUBLISHED, LocalObjects
from functionfuse.storage.place import Content

if TYPE_CHECKING:
    import io

    from functionfuse.errors import StorageError
    from functionfuse.storage.framing import Frame

__all__ = ["LocalFolder"]

_TEMPORARY: Final = ".tmp-"
_AT_ONCE: Final = 2**16  # bytes; a copy costs less than a second write
_MAPPED: Final = 2**20  # bytes; reading less is faster than mapping it
_DAY: Final = 24 * 60 * 60.0  # seconds; a temporary file that is younger may be another run's
_counter: Final = itertools.count()
_maps: Final = weakref.WeakSet[mmap.mmap]()


class LocalFolder:
    """Files in subfolders; see `Place`."""

    globs: ClassVar[bool] = False

    def __init__(self, path: str | os.PathLike[str], *, fsync: bool = False) -> None:
        """Take the path of a folder; nothing is made yet.

        Args:
            path: The folder.
            fsync: A file is on the disk when it has been written, and not only with the system.

        Raises:
            OptionError: The path is empty: more likely a variable that is not set than this folder.
        """
        if not os.fspath(path):
            message = "the path of a storage folder is empty; the current folder is '.'"
            raise OptionError(message)
        self.path = os.path.abspath(os.path.expanduser(path))  # a worker may stand elsewhere
        self._fsync = fsync

    def __reduce__(self) -> tuple[object, tuple[str, bool]]:
        return _folder, (self.path, self._fsync)

    def __repr__(self) -> str:
        return repr(self.path)

    @functools.cached_property
    def fold_case(self) -> bool:
        """Tell whether the file system takes upper and lower case for the same."""
        self.create()
        return _ignores_case(Path(self.path))

    def objects(self, subfolder: str) -> LocalObjects:
        """The folder of what serializers write for results of a subfolder."""
        everything = Connection("file:///", {"auto_mkdir": True})
        return LocalObjects(everything, (self.path.strip("/"), subfolder, OBJECTS))

    def has_objects(self, subfolder: str) -> bool:
        """Tell whether serializers have written something there."""
        folder = os.path.join(self.path, subfolder)
        return any(os.path.isdir(os.path.join(folder, name)) for name in (OBJECTS, PUBLISHED))

    def create(self) -> None:
        """Make the folder if it is not there."""
        os.makedirs(self.path, exist_ok=True)

    def make(self, subfolder: str) -> None:
        """Make a subfolder if it is not there."""
        os.makedirs(os.path.join(self.path, subfolder), exist_ok=True)

    def write(self, subfolder: str, name: str, frame: Frame) -> int:
        """Put a file in place in one step; an earlier one stays whole until then. Returns its size."""
        folder = os.path.join(self.path, subfolder)
        unique = f"{_TEMPORARY}{os.getpid()}-{next(_counter)}-{secrets.token_hex(4)}"
        temporary = os.path.join(folder, unique)  # beside its target: a rename is atomic
        try:
            with _new_file(temporary) as file:
                size = _write_frame(file, frame)
                if self._fsync:
                    os.fsync(file.fileno())
            os.replace(temporary, os.path.join(folder, name))
            if self._fsync:
                _sync_folder(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return size

    def read(self, subfolder: str, name: str, *, late: bool = False) -> Content:
        """A file: a large one is mapped, with what is changed in memory kept from the file."""
        path = os.path.join(self.path, subfolder, name)
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            checks.check_remembered(status)
            if status.st_size < _MAPPED or len(_maps) >= _most_maps():
                return Content(_read_all(file, status.st_size))
            data = mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_COPY)
            _maps.add(data)
            return Content(data, checks.LateCheck(self.path, path, file.fileno()) if late else None)

    def start(self, subfolder: str, name: str, size: int) -> bytes:
        """The first bytes of a file."""
        with open(os.path.join(self.path, subfolder, name), "rb", buffering=0) as file:
            return bytes(_read_all(file, size))

    def exists(self, subfolder: str, name: str) -> bool:
        """Tell whether there is such a file."""
        return os.path.isfile(os.path.join(self.path, subfolder, name))

    def names(self, subfolder: str) -> list[str]:
        """The files of a subfolder, without temporary ones; none if there is no subfolder."""
        try:
            with os.scandir(os.path.join(self.path, subfolder)) as entries:
                return [entry.name for entry in entries if entry.name[0] != "." and entry.is_file()]
        except FileNotFoundError:
            return []

    def subfolders(self) -> list[str]:
        """The subfolders, without hidden ones."""
        try:
            with os.scandir(self.path) as entries:
                return [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()]
        except FileNotFoundError:
            return []

    def remove(self, subfolder: str, name: str) -> None:
        """Remove a file."""
        os.unlink(os.path.join(self.path, subfolder, name))

    def remove_all(self, subfolder: str) -> None:
        """Remove a subfolder with all that is in it."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.path.join(self.path, subfolder))

    def sweep(self, subfolder: str) -> None:
        """Remove temporary files of processes that were killed long ago."""
        oldest = time.time() - _DAY
        with os.scandir(os.path.join(self.path, subfolder)) as entries:
            for entry in entries:
                if entry.name.startswith(_TEMPORARY):
                    with contextlib.suppress(OSError):  # gone meanwhile, or not ours to remove
                        if entry.stat().st_mtime < oldest:
                            os.unlink(entry)

    def scrub(self, error: StorageError) -> None:
        """Nothing is secret here."""

    def settle(self, *, forget: bool) -> None:
        """Wait for the late checks of this folder in this process."""
        checks.settle(self.path, forget=forget)


def _folder(path: str, fsync: bool) -> LocalFolder:  # noqa: FBT001 - of a recipe
    return LocalFolder(path, fsync=fsync)


@functools.cache
def _most_maps() -> int:
    """How many files are mapped at once: each takes a descriptor, and a run has other uses for those."""
    try:
        import resource
    except ImportError:  # Windows does not replace a file that is mapped
        return 0
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit // 4 if limit != resource.RLIM_INFINITY else sys.maxsize


def _new_file(path: str) -> io.FileIO:
    def create() -> io.FileIO:
        return open(path, "xb", buffering=0)

    try:
        return create()
    except FileNotFoundError:  # the first result of a workflow
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return create()


def _write_frame(file: io.FileIO, frame: Frame) -> int:
    """Write the contents while they are digested, then the head that tells the digests."""
    if sum(map(len, frame.body)) < _AT_ONCE:
        _write_all(file, b"".join(frame))
        return file.tell()
    file.seek(frame.head_size)
    for chunk in frame.body:
        _write_all(file, chunk)
    size = file.tell()
    file.seek(0)
    _write_all(file, frame.head())
    return size


def _write_all(file: io.FileIO, chunk: bytes | memoryview) -> None:
    """Write until all is written: the system takes 2 GiB at once, and less as a disk gets full."""
    written = file.write(chunk)
    if written < len(chunk):
        rest = memoryview(chunk)
        while rest := rest[written:]:
            written = file.write(rest)


def _read_all(file: io.FileIO, size: int) -> bytearray:
    """The bytes of a file, at most so many; the system gives 2 GiB at once."""
    data = bytearray(size)
    done = file.readinto(data)
    if done < size:
        view = memoryview(data)
        while done < size and (count := file.readinto(view[done:])):
            done += count
        view.release()
        del data[done:]
    return data


def _sync_folder(path: str) -> None:
    """Let a name in a folder be on the disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows does not open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ignores_case(path: Path) -> bool:
    for part in (path, *path.parents):
        other = part.with_name(part.name.swapcase()) if part.name else part
        if other.name != part.name:
            return other.exists() and other.samefile(part)
    return False
