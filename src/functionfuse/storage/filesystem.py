"""The one implementation of storages: results in files, one for each node, in any place that has files."""

from __future__ import annotations

import fnmatch
import platform
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, get_args

from functionfuse import __version__
from functionfuse.errors import CorruptResult, OptionError, ResultNotFound, StorageError
from functionfuse.serializers.base import storing
from functionfuse.storage.base import Storage
from functionfuse.storage.beside import Beside, header_at
from functionfuse.storage.framing import frame, unframe
from functionfuse.storage.naming import file_name, node_name
from functionfuse.storage.processes import this_process
from functionfuse.storage.signing import SigningKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from functionfuse.storage.place import Place
    from functionfuse.storage.restricted_unpickler import PickleAllowlist

__all__ = ["Common", "FilesystemStorage", "Verify"]

Verify = Literal["lazy", "always", "never"]
_ORIGIN: Final = {
    "host": platform.node(),
    "python": platform.python_version(),
    "functionfuse": __version__,
}


class Common(TypedDict, total=False):
    """The options that all kinds of storage have."""

    verify: Verify  # when the contents of a result are checked; see `FilesystemStorage`
    signing_key: str | None  # "env:NAME" or "file:PATH"
    allowed_types: Sequence[type | str] | None  # what results are made of, besides plain data
    always_read: bool  # children of a node get what was read back


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What a storage does with the files of its place."""

    verify: Verify = "lazy"
    signing_key: str | None = None
    allowed_types: Sequence[type | str] | None = None

    def __post_init__(self) -> None:
        if self.verify not in get_args(Verify):
            valid = ", ".join(map(repr, get_args(Verify)))
            message = f"verify is one of {valid}, not {self.verify!r}"
            raise OptionError(message)


class FilesystemStorage(Storage):
    """Results under `workflow/node` in a place. A result is there as a whole or not at all."""

    _recipe: _Recipe

    def __init__(self, place: Place, *, always_read: bool = False, **recipe: Any) -> None:
        """Take a place.

        Args:
            place: Where the files are.
            always_read: Children of a node get what was read back instead of the value that was saved.
            **recipe: `verify`: "lazy" gives large local results out at once and checks them in the
                background, see `settle`; "always" checks before anything is given out; "never"
                checks headers alone.
                `signing_key`: sign results, and read only what was signed with this key.
                `allowed_types`: read nothing that is made of other things than plain data, arrays,
                and these types; None is anything.

        Raises:
            OptionError: An option is not understood.
        """
        self._assemble(place, _Recipe(**recipe), this_process())
        key, _ = self._tools()  # wrong options are told where they are given
        if key:
            self._recipe = replace(
                self._recipe, signing_key=key.source
            )  # a worker may stand elsewhere
        self.always_read = always_read

    def _assemble(self, place: Place, recipe: _Recipe, home: str) -> None:
        self._place = place
        self._recipe = recipe
        self._home = home
        self._beside = Beside(place)
        self._loaded: tuple[SigningKey | None, PickleAllowlist | None] | None = None
        self._registered: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[object, tuple[Any, ...]]:
        state = self._home, self.always_read, self._registered
        return _restored, (type(self), self._place, self._recipe, *state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    # ---- one result ----

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
            self._place.settle(forget=False)  # else it might be made of what is damaged
            where = self._where(workflow_name, task_name)
            if self._beside.serializers:
                return self._save_with_objects(where, obj, fields)
            with storing():
                framed = frame(obj, fields, key=self._tools()[0])
            return self._place.write(*where, framed)

    def _save_with_objects(
        self, where: tuple[str, str], obj: Any, fields: Mapping[str, Any]
    ) -> int:
        beside, save = self._beside, self._beside.saving(*where)
        try:
            with storing():
                framed = frame(
                    obj, save.header(fields), key=self._tools()[0], persistent_id=save.persistent_id
                )
            earlier = self._objects_of(where)
            size = self._place.write(*where, framed)
        except BaseException:
            save.undo()
            raise
        beside.remove(*where, earlier)
        if save.objects or earlier:
            beside.sweep_one(*where, keep={save.token})
        return size

    def _objects_of(self, where: tuple[str, str]) -> Mapping[str, Any]:
        try:
            return self._beside.of(*where)
        except FileNotFoundError:
            return {}

    def read_task(self, workflow_name: str, task_name: str) -> Any:  # noqa: D102
        with self._explained("read", workflow_name, task_name):
            where = self._where(workflow_name, task_name)
            key, allowed = self._tools()
            data, check = self._place.read(*where, late=self._checks_later())
            try:
                value = unframe(
                    data,
                    workflow_name,
                    task_name,
                    key=key,
                    allowed=allowed,
                    persistent_load=self._beside.loader(*where, data),
                    defer=check.defer if check else None,
                    verify=self._recipe.verify != "never",
                )
            except BaseException:
                if check:
                    check.cancel()
                raise
            if check:
                check.begin()
            return value

    def file_exists(self, workflow_name: str, task_name: str) -> bool:  # noqa: D102
        with self._explained("look for", workflow_name, task_name):
            return self._place.exists(*self._where(workflow_name, task_name))

    def info(self, workflow_name: str, task_name: str) -> dict[str, Any]:  # noqa: D102
        with self._explained("read", workflow_name, task_name):
            header = header_at(self._place, *self._where(workflow_name, task_name))
        return header or {"format": "old", "workflow": workflow_name, "node": task_name}

    # ---- many results ----

    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:  # noqa: D102
        subfolder = self._quoted(workflow_name)
        with self._explained("list", workflow_name, pattern):
            files = self._place.names(subfolder)
            names = [
                node_name(file) or self._header_name(subfolder, file, "node") for file in files
            ]
        return sorted(
            name for name in names if name is not None and fnmatch.fnmatchcase(name, pattern)
        )

    def list_workflows(self) -> list[str]:  # noqa: D102
        with self._explained("list", "*", "*"):
            names = [self._workflow_in(subfolder) for subfolder in self._place.subfolders()]
        return sorted(name for name in names if name is not None)

    def remove_task(  # noqa: D102
        self, workflow_name: str, task_name: str | None = None, pattern: str | None = None
    ) -> None:
        if (task_name is None) == (pattern is None):
            message = "remove_task() takes either a task_name or a pattern"
            raise TypeError(message)
        if task_name is not None:
            self._remove(workflow_name, task_name)
            return
        for name in self.list_tasks(workflow_name, pattern or ""):
            with suppress(ResultNotFound):  # somebody else removed it meanwhile
                self._remove(workflow_name, name)

    def _remove(self, workflow_name: str, task_name: str) -> None:
        with self._explained("remove", workflow_name, task_name):
            where = self._where(workflow_name, task_name)
            objects = self._beside.of(*where)
            self._place.remove(*where)
            self._beside.remove(*where, objects)

    def remove_workflow(self, workflow_name: str) -> None:  # noqa: D102
        with self._explained("remove", workflow_name, "*"):
            self._place.remove_all(self._quoted(workflow_name))

    def new_workflow(self, workflow_name: str) -> None:
        """Make room for the results of a workflow, and remove what killed processes left of earlier ones."""
        with self._explained("make a folder for", workflow_name, "*"):
            subfolder = self._quoted(workflow_name)
            self._place.make(subfolder)
            self._place.sweep(subfolder)
            self._beside.sweep(subfolder)

    # ---- and more ----

    def register_persistent_serializers(self, *serializers: Any) -> None:  # noqa: D102
        self._beside.serializers.register(*serializers)
        self._registered += serializers

    def settle(self) -> None:  # noqa: D102
        self._place.settle(forget=True)

    def _tools(self) -> tuple[SigningKey | None, PickleAllowlist | None]:
        """What is made of the recipe in each process."""
        if self._loaded is None:
            recipe = self._recipe
            key = SigningKey.load(recipe.signing_key) if recipe.signing_key is not None else None
            self._loaded = key, _allowlist(recipe.allowed_types)
        return self._loaded

    def _checks_later(self) -> bool:
        """What is read in a worker goes elsewhere, where nobody would know that it is damaged."""
        return self._recipe.verify == "lazy" and self._home == this_process()

    def _quoted(self, name: str) -> str:
        return file_name(name, fold_case=self._place.fold_case, globs=self._place.globs)

    def _where(self, workflow_name: str, task_name: str) -> tuple[str, str]:
        return self._quoted(workflow_name), self._quoted(task_name)

    def _workflow_in(self, subfolder: str) -> str | None:
        """The workflow of a subfolder; None if it has no results."""
        files = self._place.names(subfolder)
        name = node_name(subfolder)
        if not files or name is not None:
            return name if files else None
        names = (self._header_name(subfolder, file, "workflow") for file in files)
        return next((name for name in names if name is not None), None)

    def _header_name(self, subfolder: str, file: str, field: str) -> str | None:
        """A name that was cut for the file system; None if it cannot be known."""
        try:
            header = header_at(self._place, subfolder, file)
        except (FileNotFoundError, CorruptResult):  # removed meanwhile, or damaged: not a result
            return None
        return header[field] if header else None

    @contextmanager
    def _explained(self, verb: str, workflow_name: str, task_name: str) -> Iterator[None]:
        """Give errors the names that the user knows."""
        try:
            yield
        except StorageError as error:
            self._place.scrub(error)
            message = f"cannot {verb} {workflow_name}/{task_name} in {self!r}: {error}"
            raise type(error)(message) from error
        except OSError as error:
            result = f"{workflow_name}/{task_name} in {self!r}"
            if verb != "save" and isinstance(error, FileNotFoundError | IsADirectoryError):
                message = f"there is no result {result}"
                raise ResultNotFound(message) from None
            message = f"cannot {verb} {result}: {error.strerror or error}"
            raise StorageError(message) from error


def _restored(  # noqa: PLR0913 - a recipe
    kind: type[FilesystemStorage],
    place: Place,
    recipe: _Recipe,
    home: str,
    always_read: bool,  # noqa: FBT001
    serializers: tuple[Any, ...],
) -> FilesystemStorage:
    """A storage from its recipe; nothing is connected."""
    storage = kind.__new__(kind)
    storage._assemble(place, recipe, home)
    storage.always_read = always_read
    storage.register_persistent_serializers(*serializers)
    return storage


def _allowlist(types: Sequence[type | str] | None) -> PickleAllowlist | None:
    """Return what reads nothing but some types; its modules are loaded by those who use it."""
    if types is None:
        return None
    from functionfuse.storage.restricted_unpickler import PickleAllowlist

    return PickleAllowlist(types)
