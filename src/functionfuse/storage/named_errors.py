"""Context of one action of a storage, whose errors name the workflow and the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functionfuse.errors import ResultNotFound, StorageError
from functionfuse.storage.backends.directories import NotAFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse.storage.base import Storage

__all__ = ["NamedErrors"]


class NamedErrors:
    """Context that adds the names of workflow and node to errors.

    A class: a generator costs more than many of the actions.
    """

    __slots__ = ("_node", "_scrub", "_storage", "_verb", "_workflow")

    def __init__(
        self,
        storage: Storage,
        scrub: Callable[[StorageError], None],
        verb: str,
        workflow: str,
        node: str,
    ) -> None:
        """Name the action.

        Args:
            storage: The storage.
            scrub: Removes secrets from an error of the storage.
            verb: The action: "save", "read" and so on.
            workflow: The name of the workflow, or "*".
            node: The name of the node, or "*".
        """
        self._storage, self._scrub = storage, scrub
        self._verb, self._workflow, self._node = verb, workflow, node

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, StorageError):
            raise self._explained(error) from error
        if isinstance(error, OSError):
            if self._verb != "save" and isinstance(error, FileNotFoundError | IsADirectoryError):
                raise self._not_found(error) from None
            raise self._failed(error) from error

    def _explained(self, error: StorageError) -> StorageError:
        self._scrub(error)
        message = f"cannot {self._verb} {self._workflow}/{self._node} in {self._storage!r}: {error}"
        explained = type(error)(message)
        vars(explained).update(vars(error))  # fields of CorruptResult
        return explained

    def _not_found(self, error: OSError) -> ResultNotFound:
        reason = f": {error.strerror}" if isinstance(error, NotAFileError) else ""
        return ResultNotFound(f"there is no result {self._result()}{reason}")

    def _failed(self, error: OSError) -> StorageError:
        at = f": {error.filename!r}" if self._node == "*" and error.filename else ""
        message = f"cannot {self._verb} {self._result()}: {error.strerror or error}{at}"
        return StorageError(message)

    def _result(self) -> str:
        return f"{self._workflow}/{self._node} in {self._storage!r}"
