"""File storage: one result file for each node, on any file backend."""

from __future__ import annotations

import fnmatch
import platform
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, get_args

from functionfuse._common.process_identity import this_process
from functionfuse._common.version import VERSION
from functionfuse.errors import OptionError, ResultNotFound, StorageError
from functionfuse.serializers.base import pickling_result
from functionfuse.storage.backends.protocol import WorkflowRemovedError
from functionfuse.storage.backends.sidecar_candidates import DAY, check_grace
from functionfuse.storage.base import HasDownstream, SavedResult, Storage, remove_downstream
from functionfuse.storage.file_format import verification
from functionfuse.storage.file_format.file_format import unframe
from functionfuse.storage.file_format.frame import frame
from functionfuse.storage.file_format.signatures import SigningKey
from functionfuse.storage.headers import HeaderReader
from functionfuse.storage.named_errors import NamedErrors
from functionfuse.storage.result_names import ResultNames
from functionfuse.storage.sidecars import ReplacedError, SidecarStore
from functionfuse.storage.sources import SourceStore
from functionfuse.storage.stamps import StampStore

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from functionfuse.storage.backends.protocol import FileBackend
    from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist

__all__ = ["CommonOptions", "FilesystemStorage", "Verify"]

Verify = Literal["lazy", "always", "never"]
#: Attempts to read or save a result that other processes keep replacing or removing.
_ATTEMPTS: Final = 100
_ORIGIN: Final = {
    "host": platform.node(),
    "python": platform.python_version(),
    "functionfuse": VERSION,
}


class CommonOptions(TypedDict, total=False):
    """Options of all kinds of storage."""

    verify: Verify  # when the contents of a result are verified; see `FilesystemStorage`
    signing_key: str | None  # "env:NAME" or "file:PATH"
    allowed_types: Sequence[type | str] | None  # types in results, besides plain data
    always_read: bool  # dependents of a node get the value that is read back
    grace: float  # seconds for which sidecar files of a replaced result are kept


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Options of a storage that apply to its files."""

    verify: Verify = "lazy"
    signing_key: str | None = None
    allowed_types: Sequence[type | str] | None = None
    grace: float = DAY

    def __post_init__(self) -> None:
        check_grace(self.grace)
        if self.verify not in get_args(Verify):
            valid = ", ".join(map(repr, get_args(Verify)))
            message = f"verify must be one of {valid}, not {self.verify!r}"
            raise OptionError(message)


class FilesystemStorage(Storage):
    """Storage of result files `workflow/node` on a file backend, each written atomically."""

    _recipe: _Recipe

    def __init__(self, backend: FileBackend, *, always_read: bool = False, **recipe: Any) -> None:
        """Use a file backend.

        Args:
            backend: The backend for the files.
            always_read: Dependents of a node get the value that is read back instead of the saved one.
            **recipe: `verify`: "lazy" returns large local results immediately and verifies them in the
                background, see `wait_verified`; "always" verifies before a value is returned; "never"
                does not verify arrays.
                `signing_key`: sign results, and read only results that were signed with this key.
                `allowed_types`: refuse results with other types than plain data, arrays
                and these types; None allows all types.
                `grace`: seconds for which sidecar files of a replaced result are kept for
                readers of the earlier result.

        Raises:
            OptionError: An option is invalid.
        """
        self._assemble(backend, _Recipe(**recipe), this_process())
        key, _ = (
            self._key_and_allowlist()
        )  # raises for invalid options in the process that sets them
        if key:
            self._recipe = replace(
                self._recipe, signing_key=key.source
            )  # a worker may have another current folder
        self.always_read = always_read

    def _assemble(self, backend: FileBackend, recipe: _Recipe, home: str) -> None:
        self._backend = backend
        self._recipe = recipe
        self._home = home
        self._names = ResultNames(backend)
        self._sidecars = SidecarStore(backend, recipe.grace, self._key)
        self._stamps = StampStore(backend, self._key)
        self._sources = SourceStore(backend, self._key)
        self._headers = HeaderReader(backend, self._stamps, self._key)
        self._loaded: tuple[SigningKey | None, PickleAllowlist | None] | None = None
        self._registered: tuple[Any, ...] = ()

    def __getstate__(self) -> tuple[Any, ...]:
        return self._backend, self._recipe, self._home, self.always_read, self._registered

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        backend, recipe, home, self.always_read, serializers = state
        self._assemble(backend, recipe, home)
        self.register_persistent_serializers(*serializers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._backend!r})"

    # ---- one result ----

    def save(  # noqa: D102 - as in Storage
        self,
        workflow_name: str,
        task_name: str,
        obj: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> SavedResult:
        fields = {
            "created": time.time(),
            **_ORIGIN,
            **(metadata or {}),
            "workflow": workflow_name,
            "node": task_name,
        }
        with self._named_errors("save", workflow_name, task_name):
            verification.wait_verified(forget=False)  # the value may depend on a damaged result
            where = self._names.where(workflow_name, task_name)
            if self._sidecars.serializers:
                return self._save_with_objects(where, obj, fields)
            with pickling_result():
                framed = frame(obj, fields, key=self._key())
            size = self._backend.write(*where, framed)
            return SavedResult(size, framed.value)

    def _save_with_objects(
        self, where: tuple[str, str], obj: Any, fields: Mapping[str, Any]
    ) -> SavedResult:
        for _ in range(_ATTEMPTS):
            saved = self._try_to_save(where, obj, fields)
            if saved is not None:
                return saved
        message = "other processes removed its workflow during every attempt to save it"
        raise StorageError(message)

    def _try_to_save(
        self, where: tuple[str, str], obj: Any, fields: Mapping[str, Any]
    ) -> SavedResult | None:
        """Save a result and its sidecar folder; None if another process removed the workflow in the meantime."""
        sidecars = self._sidecars
        save = sidecars.saving(*where)
        try:
            with pickling_result():
                framed = frame(
                    obj,
                    save.header(fields),
                    key=self._key(),
                    persistent_id=save.persistent_id,
                )
            with sidecars.replacing(*where):
                size = self._backend.write(*where, framed, requires=save.requires)
        except WorkflowRemovedError:
            save.undo()
            return None
        except BaseException:
            save.undo()
            raise
        return SavedResult(size, framed.value) if sidecars.collect(*where, save) else None

    def read_task(self, workflow_name: str, task_name: str) -> Any:  # noqa: D102
        for _ in range(_ATTEMPTS):
            with suppress(ReplacedError):
                return self._read(workflow_name, task_name)
        return self._read(workflow_name, task_name)

    def _read(self, workflow_name: str, task_name: str) -> Any:
        with self._named_errors("read", workflow_name, task_name):
            where = self._names.where(workflow_name, task_name)
            key, allowed = self._key_and_allowlist()
            # signed results are read into private memory: a mapped file may change after its verification
            data, check, source = self._backend.read(
                *where, mapped=not key, deferred=self._defers_verification(), on_demand=True
            )
            try:
                value = unframe(
                    data,
                    workflow_name,
                    task_name,
                    key=key,
                    allowed=allowed,
                    loader=partial(self._sidecars.loader, *where, (workflow_name, task_name)),
                    defer=check.defer if check else None,
                    load=source.load if source else None,
                    verify=self._recipe.verify != "never",
                )
            except BaseException:
                if check:
                    check.cancel()
                raise
            finally:
                if source:
                    source.close()
            if check:
                check.begin()
            return value

    def file_exists(self, workflow_name: str, task_name: str) -> bool:  # noqa: D102
        with self._named_errors("look for", workflow_name, task_name):
            return self._backend.exists(*self._names.where(workflow_name, task_name))

    def info(self, workflow_name: str, task_name: str) -> dict[str, Any]:  # noqa: D102
        with self._named_errors("read", workflow_name, task_name):
            where = self._names.where(workflow_name, task_name)
            return self._headers.one(*where, workflow_name, task_name)

    # ---- many results ----

    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:  # noqa: D102
        with self._named_errors("list", workflow_name, pattern):
            names = self._names.nodes(workflow_name)
        return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))

    def list_workflows(self) -> list[str]:  # noqa: D102
        with self._named_errors("list", "*", "*"):
            return sorted(self._names.workflows())

    def info_many(  # noqa: D102
        self, workflow_name: str, task_names: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        with self._named_errors("read", workflow_name, "*"):
            nodes = {self._names.file(name): name for name in task_names}
            return self._headers.many(self._names.file(workflow_name), workflow_name, nodes)

    def stamp(  # noqa: D102
        self,
        workflow_name: str,
        fingerprints: Mapping[str, Mapping[str, Any]],
        *,
        headers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        subfolder = self._names.file(workflow_name)
        with self._named_errors("save", workflow_name, "*"):
            given = {self._names.file(name): (name, each) for name, each in fingerprints.items()}
            return sorted(self._headers.stamp(subfolder, workflow_name, given, headers))

    def save_sources(self, workflow_name: str, texts: Mapping[str, str]) -> None:  # noqa: D102
        with self._named_errors("save", workflow_name, "*"):
            self._sources.write(self._names.file(workflow_name), workflow_name, texts)

    def read_source(self, workflow_name: str, digest: str) -> str | None:  # noqa: D102
        with self._named_errors("read", workflow_name, digest):
            return self._sources.read(self._names.file(workflow_name), workflow_name, digest)

    def remove_task(  # noqa: D102
        self,
        workflow_name: str,
        task_name: str | None = None,
        pattern: str | None = None,
        *,
        downstream: HasDownstream | None = None,
    ) -> list[str]:
        if (task_name is None) == (pattern is None):
            message = "remove_task() takes either a task_name or a pattern"
            raise TypeError(message)
        if task_name is not None:
            self._remove(workflow_name, task_name)
            return remove_downstream(self, workflow_name, [task_name], downstream)
        names = self.list_tasks(workflow_name, pattern or "")
        removed, stamped = list[str](), self._stamped(workflow_name) if names else frozenset[str]()
        for name in names:
            with suppress(ResultNotFound):  # another process removed it in the meantime
                self._remove(workflow_name, name, stamped)
                removed.append(name)
        return remove_downstream(self, workflow_name, removed, downstream)

    def _remove(
        self, workflow_name: str, task_name: str, stamped: Container[str] | None = None
    ) -> None:
        """Remove a result, its stamp and its sidecar files; `stamped` are the files with stamps, if known."""
        with self._named_errors("remove", workflow_name, task_name):
            subfolder, file = self._names.where(workflow_name, task_name)
            sidecar = self._sidecars.stored(subfolder, file)
            self._backend.remove(subfolder, file)
            if stamped is None or file in stamped:
                self._stamps.remove(subfolder, file)
            self._sidecars.remove(subfolder, file, sidecar)

    def _stamped(self, workflow_name: str) -> frozenset[str]:
        """The result files of a workflow that have stamps."""
        with self._named_errors("list", workflow_name, "*"):
            return self._stamps.files(self._names.file(workflow_name))

    def remove_workflow(self, workflow_name: str) -> None:  # noqa: D102
        with self._named_errors("remove", workflow_name, "*"):
            self._backend.remove_all(self._names.file(workflow_name))

    def new_workflow(self, workflow_name: str) -> None:
        """Create the folder of a workflow, and remove leftovers of killed processes."""
        with self._named_errors("make a folder for", workflow_name, "*"):
            subfolder = self._names.file(workflow_name)
            self._backend.make(subfolder)
            self._backend.sweep(subfolder)
            self._sidecars.sweep(subfolder)

    # ---- serializers, verification and names ----

    def register_persistent_serializers(self, *serializers: Any) -> None:  # noqa: D102
        self._sidecars.serializers.register(*serializers)
        self._registered += serializers

    def wait_verified(self) -> None:  # noqa: D102
        verification.wait_verified(forget=True)

    def check_before_reading(self) -> None:
        """Verify before results are returned: they leave this process, and failures of its background checks would be lost."""
        self._home = ""

    def _key_and_allowlist(self) -> tuple[SigningKey | None, PickleAllowlist | None]:
        """The signing key and the allowlist, loaded once in each process."""
        if self._loaded is None:
            recipe = self._recipe
            key = SigningKey.load(recipe.signing_key) if recipe.signing_key is not None else None
            self._loaded = key, _allowlist(recipe.allowed_types)
        return self._loaded

    def _key(self) -> SigningKey | None:
        return self._key_and_allowlist()[0]

    def _defers_verification(self) -> bool:
        """Whether verification may run in the background: not in workers, whose values leave the process."""
        return self._recipe.verify == "lazy" and self._home == this_process()

    def _named_errors(self, verb: str, workflow_name: str, task_name: str) -> NamedErrors:
        """Context that adds the names of workflow and node to errors."""
        return NamedErrors(self, self._backend.scrub, verb, workflow_name, task_name)


def _allowlist(types: Sequence[type | str] | None) -> PickleAllowlist | None:
    """Create the allowlist, if there is one; its modules are imported only then."""
    if types is None:
        return None
    from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist

    return PickleAllowlist(types)
