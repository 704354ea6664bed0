"""Storage actor: a storage on a chosen node of a Ray cluster that the whole cluster uses."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from functionfuse._common.ray_resources import unsatisfied_request
from functionfuse._common.script_snapshot import ScriptSnapshot
from functionfuse._transport.pickled_value import PickledValue, pickle_value
from functionfuse.errors import (
    FunctionFuseWarning,
    MissingExtraError,
    OptionError,
    StorageError,
)
from functionfuse.storage.base import HasDownstream, SavedResult, Storage, remove_downstream
from functionfuse.storage.file_format import verification

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

__all__ = ["RayStorage"]

_NAMESPACE: Final = "functionfuse"
_TIMEOUT: Final = 60.0  # seconds for the start of the actor


class RayStorage(Storage):
    """Storage whose operations run in an actor on a node with the requested resources.

    The first use creates the actor; later uses, also of other processes, find it by name.
    """

    def __init__(
        self,
        remoteArgs: Mapping[str, Any],  # noqa: N803 - published name
        path: str | os.PathLike[str] | None = None,
        rayInitArgs: Mapping[str, Any] | None = None,  # noqa: N803 - published name
        *,
        storage: Storage | Mapping[str, Any] | str | None = None,
        always_read: bool = False,
    ) -> None:
        """Configure the storage; Ray is not used yet.

        Args:
            remoteArgs: Ray options of the actor, like `{"resources": {"disk": 0.001}}`.
            path: A folder on the actor's node.
            rayInitArgs: Arguments of `ray.init` for a process without a connection, to read results later.
            storage: Instead of a folder: a storage, or a configuration for `storage_factory`.
            always_read: Dependents of a node get the value that is read back instead of the saved one.

        Raises:
            OptionError: An option is invalid.
        """
        for name, value in (("remoteArgs", remoteArgs), ("rayInitArgs", rayInitArgs or {})):
            if not isinstance(value, Mapping):
                message = f"{name} must be a mapping, not {type(value).__qualname__}"
                raise OptionError(message)
        if (path is None) == (storage is None):
            message = "RayStorage takes either path or storage"
            raise OptionError(message)
        self._inner = storage if path is None else str(path)
        self._remote = dict(remoteArgs)
        self._connect = None if rayInitArgs is None else dict(rayInitArgs)
        self._actor: Any = None
        self._session = ""  # of Ray, that the actor is in
        self.always_read = always_read

    def __reduce__(self) -> tuple[object, tuple[Any, ...]]:
        return _restore, (self._remote, self._inner, self._connect, self.always_read)

    def __repr__(self) -> str:  # the configuration may contain secrets
        inner = "a storage" if isinstance(self._inner, Mapping) else repr(self._inner)
        return f"RayStorage({inner} at {self._remote.get('resources', {})!r})"

    def save(  # noqa: D102 - all as in Storage
        self,
        workflow_name: str,
        task_name: str,
        obj: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> SavedResult:
        verification.wait_verified(forget=False)
        # copied when it is opened: of an array that is read-only, the file would say so
        pickled = pickle_value(obj, what=f"the result of node {task_name!r}")
        saved: SavedResult = self._call(
            "save", workflow_name, task_name, pickled, metadata=metadata
        )
        return saved

    def read_task(self, workflow_name: str, task_name: str) -> Any:  # noqa: D102
        # the actor has no script: it makes classes of that of the caller
        script = ScriptSnapshot()
        pickled: PickledValue = self._call("read_task", workflow_name, task_name, script=script)
        return pickled.open()

    def file_exists(self, workflow_name: str, task_name: str) -> bool:  # noqa: D102
        return bool(self._call("file_exists", workflow_name, task_name))

    def info(self, workflow_name: str, task_name: str) -> dict[str, Any]:  # noqa: D102
        return dict(self._call("info", workflow_name, task_name))

    def info_many(  # noqa: D102
        self, workflow_name: str, task_names: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        return dict(self._call("info_many", workflow_name, list(task_names)))

    def stamp(  # noqa: D102
        self,
        workflow_name: str,
        fingerprints: Mapping[str, Mapping[str, Any]],
        *,
        headers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        return list(self._call("stamp", workflow_name, fingerprints, headers=headers))

    def save_sources(self, workflow_name: str, texts: Mapping[str, str]) -> None:  # noqa: D102
        self._call("save_sources", workflow_name, texts)

    def read_source(self, workflow_name: str, digest: str) -> str | None:  # noqa: D102
        text: str | None = self._call("read_source", workflow_name, digest)
        return text

    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:  # noqa: D102
        return list(self._call("list_tasks", workflow_name, pattern))

    def list_workflows(self) -> list[str]:  # noqa: D102
        return list(self._call("list_workflows"))

    def remove_task(  # noqa: D102
        self,
        workflow_name: str,
        task_name: str | None = None,
        pattern: str | None = None,
        *,
        downstream: HasDownstream | None = None,
    ) -> list[str]:
        removed = list(self._call("remove_task", workflow_name, task_name, pattern))
        return remove_downstream(self, workflow_name, removed, downstream)

    def remove_workflow(self, workflow_name: str) -> None:  # noqa: D102
        self._call("remove_workflow", workflow_name)

    def new_workflow(self, workflow_name: str) -> None:  # noqa: D102
        self._call("new_workflow", workflow_name)

    def register_persistent_serializers(self, *serializers: Any) -> None:  # noqa: D102
        self._call("register_persistent_serializers", *serializers)

    def wait_verified(self) -> None:  # noqa: D102
        verification.wait_verified(forget=True)
        if _ray().is_initialized():  # otherwise Ray was shut down, and the actor has ended
            self._call("wait_verified")

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the storage in the actor."""
        ray = _ray()
        if not ray.is_initialized():
            ray.init(**(self._connect or {}))
        if self._actor is None or self._session != _session(ray):
            self._actor, self._session = self._get_actor(ray), _session(ray)
        try:
            found, warned = ray.get(self._actor.call.remote(method, *arguments, **options))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayActorError as error:
            self._actor = None
            message = f"the actor of {self!r} died: {error}"
            raise StorageError(message) from error
        for warning in warned:
            warnings.warn(warning, stacklevel=3)
        return found

    def _get_actor(self, ray: Any) -> Any:
        """Find or create the actor."""
        recipe = repr((self._inner, sorted(self._remote.items())))
        name = f"storage-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
        try:
            return ray.get_actor(name, namespace=_NAMESPACE)
        except ValueError:  # there is none
            pass
        # it does not reserve a core
        request = {"num_cpus": 0, **self._remote}
        if missing := unsatisfied_request(ray.nodes(), request, actor=True):
            message = f"{self!r} asks for {missing}: check remoteArgs"
            raise StorageError(message)
        # it outlives this process
        found = {"name": name, "namespace": _NAMESPACE, "get_if_exists": True}
        options = {"lifetime": "detached", **request, **found}
        actor = ray.remote(_StorageActor).options(**options).remote(self._inner)
        self._wait_for_start(ray, actor)
        return actor

    def _wait_for_start(self, ray: Any, actor: Any) -> None:
        """Wait for the start of an actor, whose resources others may occupy without end.

        Raises:
            StorageError: It does not start in time, or the storage cannot be created.
        """
        try:
            ray.get(actor.ready.remote(), timeout=_TIMEOUT)
        except ray.exceptions.RayActorError as error:
            message = f"the storage of {self!r} cannot be created: {error}"
            raise StorageError(message) from error
        except ray.exceptions.GetTimeoutError as error:
            ray.kill(actor)
            message = (
                f"the actor of {self!r} did not start within {_TIMEOUT:g} seconds: other actors or tasks may "
                f"occupy the resources of remoteArgs, {self._remote!r}; `ray status` shows their use"
            )
            raise StorageError(message) from error


class _StorageActor:
    """Actor that owns the storage, which is created on the node of the actor."""

    def __init__(self, inner: Any) -> None:
        from functionfuse.storage.factory import storage_factory
        from functionfuse.storage.filesystem import FilesystemStorage

        self._storage = inner if isinstance(inner, Storage) else storage_factory(inner)
        if isinstance(self._storage, FilesystemStorage):
            self._storage.check_before_reading()

    def ready(self) -> None:
        """Do nothing, once the storage is created."""

    def call(
        self, method: str, *arguments: Any, script: object = None, **options: Any
    ) -> tuple[Any, list[Any]]:
        """Call a method of the storage; returns also its warnings, which the caller has to see.

        Values are pickled on their way, and not by Ray's rules.

        Args:
            method: The name of the method.
            arguments: Its arguments.
            script: The caller's script, whose classes a result may have.
            options: The keyword arguments of the method.
        """
        del script  # this process has it now
        given = [each.open() if type(each) is PickledValue else each for each in arguments]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FunctionFuseWarning)
            found = getattr(self._storage, method)(*given, **options)
        ours = []
        for each in caught:
            if issubclass(each.category, FunctionFuseWarning):
                ours.append(each.message)
            else:  # of another library, whose class may not be known to the caller
                warnings.showwarning(each.message, each.category, each.filename, each.lineno)
        if method == "read_task":
            found = pickle_value(found, what=f"the result of node {arguments[-1]!r}")
        return found, ours


def _session(ray: Any) -> str:
    """The current connection of this process to a cluster; actors of an earlier connection have ended."""
    node: str = ray.get_runtime_context().get_node_id()
    return node


def _restore(
    remote: Mapping[str, Any],
    inner: Any,
    connect: Mapping[str, Any] | None,
    always_read: bool,  # noqa: FBT001 - of a recipe
) -> RayStorage:
    return RayStorage(remote, None, connect, storage=inner, always_read=always_read)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        message = "RayStorage needs Ray: pip install 'functionfuse[ray]'"
        raise MissingExtraError(message) from error
    return ray
