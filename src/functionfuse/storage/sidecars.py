"""What serializers write beside result files: where, for whom, and how it goes away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError, UntrustedResult
from functionfuse.serializers.base import Serializers, generate_name
from functionfuse.storage.backends.file_names import file_name
from functionfuse.storage.backends.sidecar_candidates import DAY, TOKEN, Candidate, Candidates
from functionfuse.storage.damage_marks import StoredResult, mark_of
from functionfuse.storage.file_format.file_format import check_signature, header_of, header_size
from functionfuse.storage.file_format.legacy_format import legacy_references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from functionfuse.serializers.base import ReadSession, SaveSession
    from functionfuse.storage.backends.protocol import FileBackend
    from functionfuse.storage.backends.sidecar_folders import SidecarFolder
    from functionfuse.storage.file_format.signatures import SigningKey

__all__ = ["ReplacedError", "SidecarSave", "SidecarStore", "header_at", "start_at"]

_GUESS: Final = 4096  # bytes; a header is longer if it tells of many parts
_FIELD: Final = "objects"  # of the header


class ReplacedError(StorageError):
    """A result was replaced or removed while it was read."""


class _Sidecar(NamedTuple):
    """What a stored result says of its sidecar folder."""

    token: str  # "" for the folder that the published system has for all results
    serializers: Mapping[str, Any]
    start: bytes  # prefix and header of the result file


def header_at(backend: FileBackend, subfolder: str, file: str) -> dict[str, Any] | None:
    """What a result says of itself; None for the old format.

    Raises:
        FileNotFoundError: There is no such file.
    """
    return header_of(start_at(backend, subfolder, file))


def start_at(backend: FileBackend, subfolder: str, file: str) -> bytes:
    """The beginning of a result file, with its header: one look at the file, two if that is long."""
    start = backend.start(subfolder, file, _GUESS)
    size = header_size(start)
    return backend.start(subfolder, file, size) if size > len(start) == _GUESS else start


class SidecarStore:
    """The objects of all results in one place."""

    def __init__(
        self,
        backend: FileBackend,
        grace: float = DAY,
        key: Callable[[], SigningKey | None] = lambda: None,
    ) -> None:
        """Take a place.

        Args:
            backend: Where the results are.
            grace: Seconds for which the sidecar folder of a replaced result is kept.
            key: Gives the key without whose signature no header decides what is removed.
        """
        self._backend = backend
        self._grace = grace
        self._key = key
        self.serializers = Serializers()

    def saving(self, subfolder: str, file: str) -> SidecarSave:
        """One save: it has a folder of its own, so that an earlier result stays whole."""
        token = generate_name()
        folder = self._folder(subfolder, file, token)
        return SidecarSave(self.serializers.saving(folder.protocols()), folder, token)

    def loader(
        self, subfolder: str, file: str, names: tuple[str, str], header: Mapping[str, Any] | None
    ) -> Callable[[Any], Any]:
        """Gives what stands beside a result; nothing is done before it is asked for.

        Args:
            subfolder: The result's.
            file: The result's.
            names: Its workflow and node.
            header: The result's, verified; None for the old format.
        """
        opened: list[tuple[ReadSession, str]] = []  # one, when there is something to read

        def load(pid: Any) -> Any:
            if not opened:
                token = _named(header).get("folder", "")
                result = StoredResult(self._backend, subfolder, file, *names, token)
                protocols = self._of(subfolder, file, token).of(result).protocols()
                opened.append((self.serializers.reading(protocols), token))
            reading, token = opened[0]
            try:
                return reading.persistent_load(pid)
            except StorageError as error:
                if not self._is_replaced(subfolder, file, token):
                    raise
                message = "it was replaced while it was read; read it again"
                raise ReplacedError(message) from error

        return load

    @contextlib.contextmanager
    def replacing(self, subfolder: str, file: str) -> Iterator[None]:
        """Around the write of a result: the sidecar folder of an earlier one becomes a candidate."""
        earlier = self._stored(subfolder, file)
        if earlier is None:
            yield
        elif not earlier.token:  # of the published system: named by nothing that could be kept
            yield
            self._remove(subfolder, file, earlier)
        else:
            candidates = self._candidates(subfolder)
            marker = candidates.add(earlier.token, file, earlier.start)
            try:
                yield
            except BaseException:
                with contextlib.suppress(StorageError, OSError):
                    candidates.drop(marker)
                raise

    def collect(self, subfolder: str, file: str, save: SidecarSave) -> bool:
        """After the write of a result: find sidecar folders of others, and delete what is due.

        Args:
            subfolder: The result's.
            file: The result's.
            save: The save of the result.

        Returns:
            Whether the result has all that it names: somebody may have removed the workflow meanwhile.
        """
        if not self._backend.has_sidecars(subfolder):
            return not save.requires
        tokens = self._tokens(subfolder, file)
        others = tokens - {save.token}
        if others:
            candidates = self._candidates(subfolder)
            known = [candidate for candidate in candidates.all() if candidate.file == file]
            for token in others - {candidate.token for candidate in known}:
                candidates.add(token, file)  # of a killed or of a simultaneous save
            self._collect(subfolder, known)
        return not save.requires or save.token in tokens

    def stored(self, subfolder: str, file: str) -> _Sidecar | None:
        """What a result names that is to be removed; None if there is nothing, or it is not believed.

        Raises:
            FileNotFoundError: There is no such result.
        """
        if not self.serializers and not self._backend.has_sidecars(subfolder):
            return None  # a serializer that is registered may have written elsewhere
        try:
            start = start_at(self._backend, subfolder, file)
            header = header_of(start)
            if header is None:
                return self._published(subfolder, file)
            return self._trusted(subfolder, file, header, start)
        except StorageError as error:
            if isinstance(error, FileNotFoundError):
                raise
            return None

    def remove(self, subfolder: str, file: str, sidecar: _Sidecar | None) -> None:
        """Remove what a removed result had, and what results that it replaced had."""
        if sidecar is not None:
            self._remove(subfolder, file, sidecar)
        if not self._backend.has_sidecars(subfolder):
            return
        for candidate in self._candidates(subfolder).all():
            if candidate.file == file and candidate.replaced:
                self._delete(subfolder, candidate)

    def sweep(self, subfolder: str) -> None:
        """Delete candidates that are due, and what killed saves left long ago for results that are not there."""
        if not self.serializers or not self._backend.has_sidecars(subfolder):
            return
        self._collect(subfolder, self._candidates(subfolder).all())
        there = set(self._backend.names(subfolder))
        for file in self._backend.sidecars(subfolder).names():
            if file not in there and not file.startswith("."):
                with contextlib.suppress(
                    OSError, StorageError
                ):  # gone meanwhile, or not ours to remove
                    self._sweep_one(subfolder, file)

    def _sweep_one(self, subfolder: str, file: str) -> None:
        """Delete the sidecar folders of a result that is not there, if none was written lately."""
        folder = self._backend.sidecars(subfolder).inner(file)
        for token in self._tokens(subfolder, file):
            if folder.inner(token).changed() < time.time() - max(self._grace, DAY):
                folder.remove(token)

    def _stored(self, subfolder: str, file: str) -> _Sidecar | None:
        try:
            return self.stored(subfolder, file)
        except FileNotFoundError:
            return None

    def _trusted(
        self, subfolder: str, file: str, header: Mapping[str, Any], start: bytes
    ) -> _Sidecar | None:
        """What a header names, if it belongs to this file and is signed as it must be.

        Raises:
            CorruptResult: No save says so.
            UntrustedResult: It is not signed, or is that of another result.
        """
        objects = _named(header)
        if not objects:
            return None
        workflow, node = (str(header.get(field)) for field in ("workflow", "node"))
        if (self._quoted(workflow), self._quoted(node)) != (subfolder, file):
            message = "its header is that of another result"
            raise UntrustedResult(message)
        if key := self._key():
            check_signature(start, workflow, node, key)
        return _Sidecar(objects["folder"], objects["serializers"], start[: header_size(start)])

    def _published(self, subfolder: str, file: str) -> _Sidecar | None:
        """What a result of the old format names; there is no header to say so, and no folder of its own."""
        if self._key() or not self._of_all(subfolder).names():  # it has no signature
            return None
        data, _ = self._backend.read(subfolder, file, mapped=False)
        written = legacy_references(memoryview(data))
        return _Sidecar("", written, b"") if written else None

    def _remove(self, subfolder: str, file: str, sidecar: _Sidecar) -> None:
        folder = self._of(subfolder, file, sidecar.token)
        with contextlib.suppress(FileNotFoundError, CorruptResult):  # gone, or not in there
            self.serializers.remove(sidecar.serializers, folder.protocols())
        with contextlib.suppress(
            FileNotFoundError
        ):  # on object stores a folder goes with its files
            folder.remove("" if sidecar.token else mark_of(file))

    def _collect(self, subfolder: str, candidates: Iterable[Candidate]) -> None:
        """Delete candidates that are due, unless their result names them."""
        for candidate in candidates:
            if candidate.is_due(self._grace):
                with contextlib.suppress(
                    OSError, StorageError
                ):  # gone meanwhile, or not ours to remove
                    if not self._is_live(subfolder, candidate):
                        self._delete(subfolder, candidate)
                    elif candidate.has_no_pending_save(self._grace):
                        self._candidates(subfolder).drop(candidate.marker)

    def _is_live(self, subfolder: str, candidate: Candidate) -> bool:
        """Whether the result names the folder; signed or not, since it is kept then."""
        try:
            header = header_at(self._backend, subfolder, candidate.file)
        except FileNotFoundError:
            return False
        return _named(header).get("folder") == candidate.token

    def _delete(self, subfolder: str, candidate: Candidate) -> None:
        candidates = self._candidates(subfolder)
        sidecar = None
        with contextlib.suppress(OSError, StorageError):  # no marker, or not one of ours
            start = candidates.start(candidate)
            sidecar = self._trusted(subfolder, candidate.file, header_of(start) or {}, start)
        if sidecar is None or sidecar.token != candidate.token:
            sidecar = _Sidecar(candidate.token, {}, b"")
        self._remove(subfolder, candidate.file, sidecar)
        candidates.drop(candidate.marker)

    def _is_replaced(self, subfolder: str, file: str, token: str) -> bool:
        try:
            return bool(
                _named(header_at(self._backend, subfolder, file)).get("folder", "") != token
            )
        except StorageError:
            return False
        except FileNotFoundError:
            return True

    def _tokens(self, subfolder: str, file: str) -> set[str]:
        """The sidecar folders of a result."""
        names = self._backend.sidecars(subfolder).inner(file).names()
        return {name for name in names if TOKEN.fullmatch(name)}

    def _candidates(self, subfolder: str) -> Candidates:
        return Candidates(self._backend.sidecars(subfolder))

    def _quoted(self, name: str) -> str:
        return file_name(name, fold_case=self._backend.fold_case, globs=self._backend.globs)

    def _of(self, subfolder: str, file: str, token: str) -> SidecarFolder:
        return self._folder(subfolder, file, token) if token else self._of_all(subfolder)

    def _of_all(self, subfolder: str) -> SidecarFolder:
        return self._backend.sidecars(subfolder).published()

    def _folder(self, subfolder: str, file: str, token: str) -> SidecarFolder:
        return self._backend.sidecars(subfolder).inner(file, token)


class SidecarSave:
    """What one save writes beside its result."""

    def __init__(self, saving: SaveSession, folder: SidecarFolder, token: str) -> None:  # noqa: D107
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

    @property
    def requires(self) -> str:
        """The path of the sidecar folder in the workflow's; empty if a serializer wrote elsewhere or nothing."""
        is_needed = self._saving.written and self._folder.is_written
        return "/".join(self._folder.parts[-3:]) if is_needed else ""

    def undo(self) -> None:
        """Remove what was written: the save has failed."""
        written = self._saving.written
        self._saving.undo()
        if written:
            with contextlib.suppress(Exception):
                self._folder.remove()


class _Fields(Mapping[str, Any]):
    """Fields of a header of which one is known late."""

    def __init__(self, fields: Mapping[str, Any], save: SidecarSave) -> None:
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


def _named(header: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a header says of the objects, if anything.

    Raises:
        CorruptResult: No save says so.
    """
    objects = (header or {}).get(_FIELD)
    match objects:
        case None:
            return {}
        case {"folder": str(token), "serializers": dict()} if TOKEN.fullmatch(token):
            return dict(objects)
    message = "the header names objects as no save does"
    raise CorruptResult(message)
