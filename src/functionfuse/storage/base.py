"""What a storage is, and one workflow's view of any of them."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from functionfuse.errors import DamagedResultWarning, StorageError
from functionfuse.storage.file_format import verification

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

__all__ = ["Results", "Storage"]


class Storage(ABC):
    """Results under the names of workflow and node.

    Workflows take any object that has `save`, `read_task` and `always_read`,
    and use `list_tasks`, `file_exists` and `new_workflow` where it has them.
    """

    #: Children of a node get what was read back instead of the value that was saved.
    always_read: bool = False

    @abstractmethod
    def save(
        self,
        workflow_name: str,
        task_name: str,
        obj: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> int | None:
        """Store a result, all of it or nothing.

        Args:
            workflow_name: The workflow that the node belongs to.
            task_name: The name of the node.
            obj: The result.
            metadata: What else to keep with it: function, seconds, seed, engine.

        Returns:
            The stored size in bytes, where it is known.

        Raises:
            StorageError: It cannot be stored; an earlier result is as it was.
        """

    @abstractmethod
    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """The stored result of a node.

        Raises:
            ResultNotFound: There is none.
            CorruptResult: It is not what was saved.
        """

    @abstractmethod
    def file_exists(self, workflow_name: str, task_name: str) -> bool:
        """Tell whether a result is stored."""

    @abstractmethod
    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:
        """The names of the stored results that match a glob pattern, sorted."""

    @abstractmethod
    def list_workflows(self) -> list[str]:
        """The names of the workflows that have stored results, sorted."""

    @abstractmethod
    def info(self, workflow_name: str, task_name: str) -> dict[str, Any]:
        """What a stored result says of itself: function, seconds, created and so on; the result is not read.

        Raises:
            ResultNotFound: There is none.
            CorruptResult: What it says is not what was written.
        """

    @abstractmethod
    def remove_task(
        self, workflow_name: str, task_name: str | None = None, pattern: str | None = None
    ) -> None:
        """Remove one result, or all whose name matches a glob pattern.

        Raises:
            ResultNotFound: `task_name` is not stored.
        """

    @abstractmethod
    def remove_workflow(self, workflow_name: str) -> None:
        """Remove all results of a workflow."""

    @abstractmethod
    def new_workflow(self, workflow_name: str) -> None:
        """Make room for the results of a workflow; those that are there stay."""

    @abstractmethod
    def register_persistent_serializers(self, *serializers: Any) -> None:
        """Let serializers keep the values of their types; see `functionfuse.serializers`.

        Raises:
            OptionError: Something is no serializer.
        """

    @abstractmethod
    def wait_verified(self) -> None:
        """Wait until all results that this process has read are checked, in whatever storage.

        Raises:
            CorruptResult: One is damaged: results read from it, and anything computed from them, are
                invalid. It is reported this once; until then every save is refused.
        """


class Results:
    """One workflow's results in a storage: the library's own, or any object with its methods."""

    __slots__ = ("_since", "_storage", "_workflow")

    def __init__(self, storage: Any, workflow: str) -> None:  # noqa: D107
        self._storage = storage
        self._workflow = workflow
        self._since = verification.reported()

    def __reduce__(self) -> tuple[type[Results], tuple[Any, str]]:
        return Results, (self._storage, self._workflow)

    def __repr__(self) -> str:  # a foreign storage may show what should stay secret
        storage = self._storage
        return repr(storage) if isinstance(storage, Storage) else type(storage).__qualname__

    @property
    def always_read(self) -> bool:
        """Children get what was read back."""
        return bool(getattr(self._storage, "always_read", False))

    def prepare(self) -> None:
        """Make room for the results of a run that begins."""
        self._since = verification.begin_run()
        if hasattr(self._storage, "new_workflow"):
            self._storage.new_workflow(self._workflow)

    def names(self) -> Container[str]:
        """What is stored now: one listing where the storage can list, else asked name by name."""
        if hasattr(self._storage, "list_tasks"):
            return frozenset(self._storage.list_tasks(self._workflow, "*"))
        return _NamesOnDemand(self)

    def contains(self, name: str) -> bool:
        """Tell whether a result is stored."""
        if hasattr(self._storage, "file_exists"):
            return bool(self._storage.file_exists(self._workflow, name))
        return self._can_be_read(name)

    def read(self, name: str) -> Any:
        """The stored result of a node."""
        return self._storage.read_task(self._workflow, name)

    def seconds(self, name: str) -> float | None:
        """How long the node took whose result is stored, where that is known."""
        if not isinstance(self._storage, Storage):
            return None
        try:
            seconds = self._storage.info(self._workflow, name).get("seconds")
        except StorageError:  # removed meanwhile, or damaged
            return None
        return seconds if isinstance(seconds, int | float) else None

    def save(self, name: str, value: Any, metadata: Mapping[str, Any]) -> int | None:
        """Store the result of a node; returns its size where it is known.

        Raises:
            CorruptResult: Something that this process has read since the run began is damaged.
        """
        verification.wait_verified(forget=False, since=self._since)
        if isinstance(self._storage, Storage):
            return self._storage.save(self._workflow, name, value, metadata=metadata)
        self._storage.save(self._workflow, name, value)
        return None

    def wait_verified(self) -> None:
        """Wait until everything that was read is checked, where a storage checks later.

        Raises:
            CorruptResult: Something that this process has read since the run began is damaged.
        """
        verification.wait_verified(forget=True, since=self._since)
        if isinstance(self._storage, Storage):
            self._storage.wait_verified()

    def _can_be_read(self, name: str) -> bool:
        """Ask a storage that can only read; its None may mean that nothing is there."""
        try:
            return self.read(name) is not None
        except (LookupError, FileNotFoundError):
            return False
        except Exception as error:  # noqa: BLE001 - a foreign storage raises what it likes
            message = f"the stored result {name!r} cannot be read and counts as not stored: {error}"
            warnings.warn(message, DamagedResultWarning, stacklevel=2)
            return False


class _NamesOnDemand:
    """The names in a storage that cannot list, asked for once each."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._known: dict[str, bool] = {}

    def __contains__(self, name: object) -> bool:
        known = self._known.get(str(name))
        if known is None:
            known = self._known[str(name)] = self._results.contains(str(name))
        return known
