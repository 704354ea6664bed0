"""A folder of the local file system in which a file is either whole or not there."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import io
    from collections.abc import Sequence

__all__ = ["LocalFolder"]

_TEMPORARY: Final = ".tmp-"
_counter: Final = itertools.count()


class LocalFolder:
    """Files in subfolders; the primitives that a storage is made of.

    All methods raise `OSError` and its children as the operating system does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Make the folder if it is not there."""
        self.path = os.path.abspath(os.path.expanduser(path))  # a worker may stand elsewhere
        os.makedirs(self.path, exist_ok=True)
        self.fold_case = _ignores_case(Path(self.path))

    def __reduce__(self) -> tuple[type[LocalFolder], tuple[str]]:
        return LocalFolder, (self.path,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def make(self, subfolder: str) -> None:
        """Make a subfolder if it is not there."""
        os.makedirs(os.path.join(self.path, subfolder), exist_ok=True)

    def write(self, subfolder: str, name: str, chunks: Sequence[bytes | memoryview]) -> int:
        """Put a file in place in one step; an earlier one stays whole until then. Returns its size."""
        folder = os.path.join(self.path, subfolder)
        unique = f"{_TEMPORARY}{os.getpid()}-{next(_counter)}-{secrets.token_hex(4)}"
        temporary = os.path.join(folder, unique)  # beside its target: a rename is atomic
        try:
            with _new_file(temporary) as file:
                for chunk in chunks:
                    _write_all(file, chunk)
                size = file.tell()
            os.replace(temporary, os.path.join(folder, name))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return size

    def read(self, subfolder: str, name: str, limit: int | None = None) -> bytearray:
        """The bytes of a file, or its first `limit` ones."""
        with open(os.path.join(self.path, subfolder, name), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            data = bytearray(size if limit is None else min(size, limit))
            view, done = memoryview(data), 0
            while done < len(data) and (count := file.readinto(view[done:])):
                done += count
        return data

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

    def remove(self, subfolder: str, name: str) -> None:
        """Remove a file."""
        os.unlink(os.path.join(self.path, subfolder, name))

    def remove_all(self, subfolder: str) -> None:
        """Remove a subfolder with all that is in it."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.path.join(self.path, subfolder))


def _new_file(path: str) -> io.FileIO:
    def create() -> io.FileIO:
        return open(path, "xb", buffering=0)

    try:
        return create()
    except FileNotFoundError:  # the first result of a workflow
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return create()


def _write_all(file: io.FileIO, chunk: bytes | memoryview) -> None:
    """Write until all is written: the system takes 2 GiB at once, and less as a disk gets full."""
    written = file.write(chunk)
    if written < len(chunk):
        rest = memoryview(chunk)
        while rest := rest[written:]:
            written = file.write(rest)


def _ignores_case(path: Path) -> bool:
    for part in (path, *path.parents):
        other = part.with_name(part.name.swapcase()) if part.name else part
        if other.name != part.name:
            return other.exists() and other.samefile(part)
    return False
