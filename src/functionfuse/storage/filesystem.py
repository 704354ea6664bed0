"""Results in files, one for each node."""

from __future__ import annotations

import fnmatch
import platform
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from functionfuse import __version__
from functionfuse.errors import CorruptResult, ResultNotFound, StorageError
from functionfuse.storage.base import Storage
from functionfuse.storage.folder import LocalFolder
from functionfuse.storage.framing import PREFIX_SIZE, frame, header_of, header_size, unframe
from functionfuse.storage.naming import file_name, node_name

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

__all__ = ["FileStorage"]

_ORIGIN: Final = {
    "host": platform.node(),
    "python": platform.python_version(),
    "functionfuse": __version__,
}


class FileStorage(Storage):
    """Results in a folder: `path/workflow/node`. A result is there as a whole or not at all."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Use a folder, which is made if it is not there.

        Raises:
            StorageError: The folder cannot be made.
        """
        try:
            self._folder = LocalFolder(path)
        except OSError as error:
            message = f"the storage folder {str(path)!r} cannot be used: {error.strerror}"
            raise StorageError(message) from error

    def save(  # noqa: D102 - as in Storage
        self,
        workflow_name: str,
        task_name: str,
        obj: Any,
        *,
        about: Mapping[str, Any] | None = None,
    ) -> int:
        fields = {
            "workflow": workflow_name,
            "node": task_name,
            "created": time.time(),
            **_ORIGIN,
            **(about or {}),
        }
        with self._explained("save", workflow_name, task_name):
            return self._folder.write(*self._where(workflow_name, task_name), frame(obj, fields))

    def read_task(self, workflow_name: str, task_name: str) -> Any:  # noqa: D102
        with self._explained("read", workflow_name, task_name):
            data = self._folder.read(*self._where(workflow_name, task_name))
            return unframe(data, workflow_name, task_name)

    def file_exists(self, workflow_name: str, task_name: str) -> bool:  # noqa: D102
        return self._folder.exists(*self._where(workflow_name, task_name))

    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:  # noqa: D102
        subfolder = self._quoted(workflow_name)
        with self._explained("list", workflow_name, pattern):
            files = self._folder.names(subfolder)
        names = [node_name(file) or self._name_in_header(subfolder, file) for file in files]
        return sorted(
            name for name in names if name is not None and fnmatch.fnmatchcase(name, pattern)
        )

    def remove_task(  # noqa: D102
        self, workflow_name: str, task_name: str | None = None, pattern: str | None = None
    ) -> None:
        if (task_name is None) == (pattern is None):
            message = "remove_task() takes either a task_name or a pattern"
            raise TypeError(message)
        names = (
            [task_name] if task_name is not None else self.list_tasks(workflow_name, pattern or "")
        )
        for name in names:
            with self._explained("remove", workflow_name, name):
                self._folder.remove(*self._where(workflow_name, name))

    def remove_workflow(self, workflow_name: str) -> None:  # noqa: D102
        with self._explained("remove", workflow_name, "*"):
            self._folder.remove_all(self._quoted(workflow_name))

    def new_workflow(self, workflow_name: str) -> None:  # noqa: D102
        with self._explained("make a folder for", workflow_name, "*"):
            self._folder.make(self._quoted(workflow_name))

    def __repr__(self) -> str:
        return f"FileStorage({self._folder.path!r})"

    def _quoted(self, name: str) -> str:
        return file_name(name, fold_case=self._folder.fold_case)

    def _where(self, workflow_name: str, task_name: str) -> tuple[str, str]:
        return self._quoted(workflow_name), self._quoted(task_name)

    def _name_in_header(self, subfolder: str, file: str) -> str | None:
        """The name of a result whose file name was cut; None if it cannot be known."""
        try:
            prefix = bytes(self._folder.read(subfolder, file, PREFIX_SIZE))
            header = header_of(bytes(self._folder.read(subfolder, file, header_size(prefix))))
        except (OSError, CorruptResult):  # removed meanwhile, or damaged: not a result
            return None
        return header["node"] if header else None

    @contextmanager
    def _explained(self, verb: str, workflow_name: str, task_name: str) -> Iterator[None]:
        """Give errors the names that the user knows."""
        result = f"{workflow_name}/{task_name} in {self!r}"
        try:
            yield
        except StorageError as error:
            message = f"cannot {verb} {result}: {error}"
            raise type(error)(message) from error
        except OSError as error:
            if verb != "save" and isinstance(error, FileNotFoundError | IsADirectoryError):
                message = f"there is no result {result}"
                raise ResultNotFound(message) from None
            message = f"cannot {verb} {result}: {error.strerror}"
            raise StorageError(message) from error
