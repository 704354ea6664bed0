"""What serializers write beside result files: where, for whom, and how it goes away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.serializers.base import Serializers, generate_name
from functionfuse.storage.damage_marks import StoredResult, mark_of
from functionfuse.storage.framing import header_of, header_size
from functionfuse.storage.objects import inside
from functionfuse.storage.oldformat import old_references

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from functionfuse.serializers.base import Reading, Saving
    from functionfuse.storage.objects import StoredObjects
    from functionfuse.storage.place import Place

__all__ = ["Beside", "OneSave", "header_at"]

_GUESS: Final = 4096  # bytes; a header is longer if it tells of many parts
_FIELD: Final = "objects"  # of the header
_DAY: Final = 24 * 60 * 60.0  # seconds; what is younger may be of a save that still runs


def header_at(place: Place, subfolder: str, file: str) -> dict[str, Any] | None:
    """What a result says of itself: one look at the file, two if the header is long.

    Raises:
        FileNotFoundError: There is no such file.
        CorruptResult: The header is not the one that was written.
    """
    start = place.start(subfolder, file, _GUESS)
    size = header_size(start)
    if size > len(start) == _GUESS:
        start = place.start(subfolder, file, size)
    return header_of(start)


class Beside:
    """The objects of all results in one place."""

    def __init__(self, place: Place) -> None:  # noqa: D107
        self._place = place
        self.serializers = Serializers()

    def saving(self, subfolder: str, file: str) -> OneSave:
        """One save: it has a folder of its own, so that an earlier result stays whole."""
        token = generate_name()
        folder = self._folder(subfolder, file, token)
        return OneSave(self.serializers.saving(folder.protocols()), folder, token)

    def loader(
        self, subfolder: str, file: str, data: Any, names: tuple[str, str]
    ) -> Callable[[Any], Any]:
        """Gives what stands beside a result; nothing is done before it is asked for.

        Args:
            subfolder: The result's.
            file: The result's.
            data: The bytes of the result.
            names: Its workflow and node.
        """
        readings: list[Reading] = []  # one, when there is something to read

        def load(pid: Any) -> Any:
            if not readings:
                token = _named(_header_in(data)).get("folder")
                folder = self._folder(subfolder, file, token) if token else self._of_all(subfolder)
                result = StoredResult(self._place, subfolder, file, *names, token or "")
                readings.append(self.serializers.reading(folder.of(result).protocols()))
            return readings[0].persistent_load(pid)

        return load

    def of(self, subfolder: str, file: str) -> Mapping[str, Any]:
        """What a stored result says of its objects; nothing if it is damaged.

        Raises:
            FileNotFoundError: There is no such result.
        """
        if not self._place.has_objects(subfolder):
            return {}
        try:
            header = header_at(self._place, subfolder, file)
            return self._published(subfolder, file) if header is None else _named(header)
        except StorageError as error:
            if isinstance(error, FileNotFoundError):
                raise
            return {}

    def remove(self, subfolder: str, file: str, objects: Mapping[str, Any]) -> None:
        """Remove the objects of a result that is gone or was replaced."""
        if objects:
            token = objects["folder"]
            folder = self._folder(subfolder, file, token) if token else self._of_all(subfolder)
            with contextlib.suppress(FileNotFoundError, CorruptResult):  # gone, or not in there
                self.serializers.remove(objects["serializers"], folder.protocols())
            folder.remove("" if token else mark_of(file))

    def _published(self, subfolder: str, file: str) -> Mapping[str, Any]:
        """What a result of the old format names; there is no header to say so, and no folder of its own."""
        if not self._of_all(subfolder).names():
            return {}
        data, _ = self._place.read(subfolder, file)
        written = old_references(memoryview(data))
        return {"folder": "", "serializers": written} if written else {}

    def _of_all(self, subfolder: str) -> StoredObjects:
        return self._place.objects(subfolder).published()

    def sweep(self, subfolder: str) -> None:
        """Remove what killed saves left long ago for results that are not there."""
        if self.serializers and self._place.has_objects(subfolder):
            there = self._place.names(subfolder)
            for file in self._place.objects(subfolder).names():
                if file not in there:
                    self.sweep_one(subfolder, file)

    def sweep_one(self, subfolder: str, file: str, keep: Collection[str] = ()) -> None:
        """Remove what killed saves of one result left long ago."""
        folder = self._place.objects(subfolder).inner(file)
        for token in folder.names():
            if token not in keep and folder.inner(token).changed() < time.time() - _DAY:
                folder.remove(token)

    def _folder(self, subfolder: str, file: str, token: str) -> StoredObjects:
        return self._place.objects(subfolder).inner(file, token)


class OneSave:
    """What one save writes beside its result."""

    def __init__(self, saving: Saving, folder: StoredObjects, token: str) -> None:  # noqa: D107
        self._saving = saving
        self._folder = folder
        self.token = token
        self.persistent_id = saving.persistent_id

    def header(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Fields of a header, and what is written by the time that they are looked at."""
        return _Fields(fields, self)

    @property
    def objects(self) -> dict[str, Any] | None:
        """What the header says of the objects; None if there are none."""
        written = self._saving.written
        return {"folder": self.token, "serializers": written} if written else None

    def undo(self) -> None:
        """Remove what was written: the save has failed."""
        written = self._saving.written
        self._saving.undo()
        if written:
            with contextlib.suppress(Exception):
                self._folder.remove()


class _Fields(Mapping[str, Any]):
    """Fields of a header of which one is known late."""

    def __init__(self, fields: Mapping[str, Any], save: OneSave) -> None:
        self._fields = fields
        self._save = save

    def _all(self) -> Mapping[str, Any]:
        objects = self._save.objects
        return {**self._fields, _FIELD: objects} if objects else self._fields

    def __getitem__(self, name: str) -> Any:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _header_in(data: Any) -> dict[str, Any] | None:
    """The header of a whole result file."""
    with memoryview(data) as view:
        return header_of(bytes(view[: header_size(bytes(view[:_GUESS]))]))


def _named(header: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a header says of the objects, if anything.

    Raises:
        CorruptResult: No save says so.
    """
    objects = (header or {}).get(_FIELD)
    match objects:
        case None:
            return {}
        case {"folder": str(token), "serializers": dict()} if "/" not in inside(token):
            return dict(objects)
    message = f"the header names objects as no save does: {objects!r}"
    raise CorruptResult(message)
