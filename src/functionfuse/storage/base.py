"""Storage interface, and its adapter for one workflow."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from functionfuse.errors import DamagedResultWarning, OptionError, ResultNotFound, StorageError
from functionfuse.storage.file_format import verification

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

__all__ = ["HasDownstream", "Results", "SavedResult", "Storage", "remove_downstream"]


class SavedResult(NamedTuple):
    """A result that was stored."""

    nbytes: int  # of its file
    digest: str | None  # of the value, as in the header; None if sidecar files belong to it


class HasDownstream(Protocol):
    """A workflow, which knows the nodes downstream of others."""

    def find_downstream(self, names: Iterable[str]) -> list[str]:
        """Some nodes and all nodes downstream of them."""


class Storage(ABC):
    """Interface of storages: results under the names of workflow and node.

    Workflows accept any object with `save`, `read_task` and `always_read`,
    and call `list_tasks`, `file_exists` and `new_workflow` if it has these methods.
    """

    #: Dependents of a node get the value that is read back instead of the saved one.
    always_read: bool = False

    @abstractmethod
    def save(
        self,
        workflow_name: str,
        task_name: str,
        obj: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> SavedResult:
        """Store a result atomically.

        Args:
            workflow_name: The workflow that the node belongs to.
            task_name: The name of the node.
            obj: The result.
            metadata: More fields for its header: function, seconds, seed, engine.

        Returns:
            Its size, and the digest of its value.

        Raises:
            StorageError: The result cannot be stored; an earlier one is unchanged.
        """

    @abstractmethod
    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """The stored result of a node.

        Raises:
            ResultNotFound: No such result is stored.
            CorruptResult: The stored result is damaged.
        """

    @abstractmethod
    def file_exists(self, workflow_name: str, task_name: str) -> bool:
        """Whether a result is stored."""

    @abstractmethod
    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:
        """The names of the stored results that match a glob pattern, sorted."""

    @abstractmethod
    def list_workflows(self) -> list[str]:
        """The names of the workflows that have stored results, sorted."""

    @abstractmethod
    def info(self, workflow_name: str, task_name: str) -> dict[str, Any]:
        """The header of a stored result: function, seconds, created and so on; the value is not read.

        A fingerprint that was accepted for this result replaces the one in the result file,
        and the field `accepted` has the time in seconds since 1970.

        Raises:
            ResultNotFound: No such result is stored.
            CorruptResult: The header is damaged.
        """

    @abstractmethod
    def info_many(self, workflow_name: str, task_names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The headers of several results by name, as from `info`; concurrently on object stores.

        Missing results, and those whose headers are damaged or not signed with the key, are absent.
        """

    @abstractmethod
    def stamp(
        self,
        workflow_name: str,
        fingerprints: Mapping[str, Mapping[str, Any]],
        *,
        headers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Accept fingerprints for stored results, which stay unchanged.

        A result that is stored later under the same name is not affected.

        Args:
            workflow_name: The workflow that the results belong to.
            fingerprints: The fingerprints by name, of JSON types.
            headers: What `info_many` has returned: a result that has been replaced since is not stamped.

        Returns:
            The names of the stamped results, sorted; missing, damaged and replaced results are not stamped.
        """

    @abstractmethod
    def save_sources(self, workflow_name: str, texts: Mapping[str, str]) -> None:
        """Store texts of code by digest; texts that are stored already are not written again."""

    @abstractmethod
    def read_source(self, workflow_name: str, digest: str) -> str | None:
        """The text of code with this digest; None if it is missing, and with a warning if it is damaged."""

    @abstractmethod
    def remove_task(
        self,
        workflow_name: str,
        task_name: str | None = None,
        pattern: str | None = None,
        *,
        downstream: HasDownstream | None = None,
    ) -> list[str]:
        """Remove one result, or all results whose names match a glob pattern.

        Args:
            workflow_name: The workflow of the results.
            task_name: The name of one node.
            pattern: A glob pattern over names.
            downstream: A workflow: the results of all nodes downstream in its graph are removed, too.

        Returns:
            The names of the removed results, sorted.

        Raises:
            ResultNotFound: `task_name` is not stored.
        """

    @abstractmethod
    def remove_workflow(self, workflow_name: str) -> None:
        """Remove all results of a workflow."""

    @abstractmethod
    def new_workflow(self, workflow_name: str) -> None:
        """Prepare for the results of a workflow; stored results stay."""

    @abstractmethod
    def register_persistent_serializers(self, *serializers: Any) -> None:
        """Store the values of some types with serializers; see `functionfuse.serializers`.

        Raises:
            OptionError: An object does not implement the serializer protocol.
        """

    @abstractmethod
    def wait_verified(self) -> None:
        """Wait for the background verification of all results that this process has read, from any storage.

        Raises:
            CorruptResult: A result is damaged: values read from it, and anything computed from them, are
                invalid. The damage is reported once; until then every save raises this error.
        """


class Results:
    """Adapter: the results of one workflow in a storage of the library or in any object with its methods."""

    __slots__ = ("_since", "_storage", "_workflow")

    def __init__(self, storage: Any, workflow: str) -> None:  # noqa: D107
        self._storage = storage
        self._workflow = workflow
        self._since = verification.reported()

    def __reduce__(self) -> tuple[type[Results], tuple[Any, str]]:
        return Results, (self._storage, self._workflow)

    def __repr__(self) -> str:  # a foreign storage may show secrets
        storage = self._storage
        return repr(storage) if isinstance(storage, Storage) else type(storage).__qualname__

    @property
    def always_read(self) -> bool:
        """Dependents get the value that is read back."""
        return bool(getattr(self._storage, "always_read", False))

    def prepare(self) -> None:
        """Prepare the storage for the results of a new run."""
        self._since = verification.begin_run()
        if hasattr(self._storage, "new_workflow"):
            self._storage.new_workflow(self._workflow)

    def names(self) -> Container[str]:
        """The names of stored results: one listing if the storage can list, else a query for each name."""
        if hasattr(self._storage, "list_tasks"):
            return frozenset(self._storage.list_tasks(self._workflow, "*"))
        return _NamesOnDemand(self)

    def contains(self, name: str) -> bool:
        """Whether a result is stored."""
        if hasattr(self._storage, "file_exists"):
            return bool(self._storage.file_exists(self._workflow, name))
        return self._can_be_read(name)

    def read(self, name: str) -> Any:
        """The stored result of a node."""
        return self._storage.read_task(self._workflow, name)

    def seconds(self, name: str) -> float | None:
        """The seconds that a stored result took to compute; None if unknown."""
        if not isinstance(self._storage, Storage):
            return None
        try:
            seconds = self._storage.info(self._workflow, name).get("seconds")
        except StorageError:  # removed in the meantime, or damaged
            return None
        return seconds if isinstance(seconds, int | float) else None

    @property
    def has_fingerprints(self) -> bool:
        """Whether the storage keeps fingerprints of results; foreign storages do not."""
        return isinstance(self._storage, Storage)

    def headers(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The readable headers of results by name; empty for foreign storages."""
        if not isinstance(self._storage, Storage):
            return {}
        return self._storage.info_many(self._workflow, names)

    def stamp(
        self,
        fingerprints: Mapping[str, Mapping[str, Any]],
        headers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Accept fingerprints for stored results; returns the names of the stamped ones, see `Storage.stamp`."""
        if not isinstance(self._storage, Storage) or not fingerprints:
            return []
        return self._storage.stamp(self._workflow, fingerprints, headers=headers)

    def save_sources(self, texts: Mapping[str, str]) -> None:
        """Store the texts of code that are missing, by digest."""
        if isinstance(self._storage, Storage) and texts:
            self._storage.save_sources(self._workflow, texts)

    def read_source(self, digest: str) -> str | None:
        """The text of code with this digest; None if it is not stored."""
        if not isinstance(self._storage, Storage):
            return None
        return self._storage.read_source(self._workflow, digest)

    def remove(self, names: Iterable[str]) -> list[str]:
        """Remove results; returns the names of those that were stored.

        Raises:
            OptionError: The storage cannot remove results.
        """
        if not hasattr(self._storage, "remove_task"):
            message = f"{self!r} cannot remove results: it has no method remove_task"
            raise OptionError(message)
        stored, removed = self.names(), list[str]()
        for name in names:
            if name in stored:
                with suppress(ResultNotFound):  # another process removed it in the meantime
                    self._storage.remove_task(self._workflow, name)
                    removed.append(name)
        return removed

    def save(self, name: str, value: Any, metadata: Mapping[str, Any]) -> SavedResult | None:
        """Store the result of a node; returns None if the storage does not report size and digest.

        Raises:
            CorruptResult: A result that this process has read since the run began is damaged.
        """
        verification.wait_verified(forget=False, since=self._since)
        if isinstance(self._storage, Storage):
            return self._storage.save(self._workflow, name, value, metadata=metadata)
        self._storage.save(self._workflow, name, value)
        return None

    def wait_verified(self) -> None:
        """Wait for background verification.

        Raises:
            CorruptResult: A result that this process has read since the run began is damaged.
        """
        verification.wait_verified(forget=True, since=self._since)
        if isinstance(self._storage, Storage):
            self._storage.wait_verified()

    def _can_be_read(self, name: str) -> bool:
        """Query a storage that has no `file_exists` by reading; None counts as not stored."""
        try:
            return self.read(name) is not None
        except (LookupError, FileNotFoundError):
            return False
        except Exception as error:  # noqa: BLE001 - foreign storages raise any exception
            message = f"the stored result {name!r} cannot be read and counts as not stored: {error}"
            warnings.warn(message, DamagedResultWarning, stacklevel=2)
            return False


class _NamesOnDemand:
    """The names in a storage that cannot list; queries each name once."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._known: dict[str, bool] = {}

    def __contains__(self, name: object) -> bool:
        known = self._known.get(str(name))
        if known is None:
            known = self._known[str(name)] = self._results.contains(str(name))
        return known


def remove_downstream(
    storage: Storage, workflow: str, removed: list[str], downstream: HasDownstream | None
) -> list[str]:
    """Remove what is stored of the nodes downstream of removed ones; return the names of all, sorted."""
    names = downstream.find_downstream(removed) if downstream is not None and removed else []
    more = list[str]()
    for name in names:
        if name not in removed and storage.file_exists(workflow, name):
            with suppress(ResultNotFound):  # another process removed it in the meantime
                more += storage.remove_task(workflow, name)
    return sorted([*removed, *more])
