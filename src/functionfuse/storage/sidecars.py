"""Sidecar store: create, locate and delete the sidecar files of serializers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError, UntrustedResult
from functionfuse.serializers.base import Serializers, generate_name
from functionfuse.storage.backends.file_names import file_name
from functionfuse.storage.backends.sidecar_candidates import DAY, TOKEN, Candidate, Candidates
from functionfuse.storage.backends.sidecar_folders import SIDECARS
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

_GUESS: Final = 4096  # bytes; headers of results with many parts are longer
_FIELD: Final = "objects"  # of the header


class ReplacedError(StorageError):
    """A result was replaced or removed while it was read."""


class _Sidecar(NamedTuple):
    """The entry for sidecar files in the header of a stored result."""

    token: str  # "" for the folder that all results of the legacy format share
    serializers: Mapping[str, Any]
    start: bytes  # prefix and header of the result file


def header_at(backend: FileBackend, subfolder: str, file: str) -> dict[str, Any] | None:
    """The header of a result file; None for the legacy format.

    Raises:
        FileNotFoundError: No such file exists.
    """
    return header_of(start_at(backend, subfolder, file))


def start_at(backend: FileBackend, subfolder: str, file: str) -> bytes:
    """Prefix and header of a result file, by one request, or two if the header is long."""
    start = backend.start(subfolder, file, _GUESS)
    size = header_size(start)
    return backend.start(subfolder, file, size) if size > len(start) == _GUESS else start


class SidecarStore:
    """The sidecar folders of all results of a storage."""

    def __init__(
        self,
        backend: FileBackend,
        grace: float = DAY,
        key: Callable[[], SigningKey | None] = lambda: None,
    ) -> None:
        """Manage the sidecar folders in a backend.

        Args:
            backend: The backend with the result files.
            grace: Seconds for which the sidecar folder of a replaced result is kept.
            key: Returns the key; with a key, only signed headers decide what is removed.
        """
        self._backend = backend
        self._grace = grace
        self._key = key
        self.serializers = Serializers()

    def saving(self, subfolder: str, file: str) -> SidecarSave:
        """Begin a save; it gets a sidecar folder of its own, so that an earlier result stays intact."""
        token = generate_name()
        folder = self._folder(subfolder, file, token)
        return SidecarSave(self.serializers.saving(folder.protocols()), folder, token)

    def loader(
        self, subfolder: str, file: str, names: tuple[str, str], header: Mapping[str, Any] | None
    ) -> Callable[[Any], Any]:
        """`persistent_load` for a result; sidecar files are opened by the first call.

        Args:
            subfolder: The subfolder of the result file.
            file: The name of the result file.
            names: Workflow and node of the result.
            header: The verified header; None for the legacy format.
        """
        opened: list[tuple[ReadSession, str]] = []  # empty, or the one session of this read

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
        """Context of the write of a result: marks the sidecar folder of an earlier result as a candidate."""
        earlier = self._stored(subfolder, file)
        if earlier is None:
            yield
        elif not earlier.token:  # legacy format: the earlier file alone names its sidecar files
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
        """Collect garbage after the write of a result: find sidecar folders of other saves and delete those that are due.

        Args:
            subfolder: The subfolder of the result file.
            file: The name of the result file.
            save: The save of the result.

        Returns:
            Whether the sidecar folder of the result exists: another process may have removed the workflow.
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
        """The sidecar files to remove with a stored result; None if there are none or the header is not trusted.

        Raises:
            FileNotFoundError: No such result is stored.
        """
        if not self.serializers and not self._backend.has_sidecars(subfolder):
            return None  # registered serializers may have written to other places
        try:
            start = start_at(self._backend, subfolder, file)
            header = header_of(start)
            if header is None:
                return self._legacy(subfolder, file)
            return self._trusted(subfolder, file, header, start)
        except StorageError as error:
            if isinstance(error, FileNotFoundError):
                raise
            return None

    def remove(self, subfolder: str, file: str, sidecar: _Sidecar | None) -> None:
        """Remove the sidecar files of a removed result and of the results that it replaced."""
        if sidecar is not None:
            self._remove(subfolder, file, sidecar)
        if not self._backend.has_sidecars(subfolder):
            return
        for candidate in self._candidates(subfolder).all():
            if candidate.file == file and candidate.replaced:
                self._delete(subfolder, candidate)

    def sweep(self, subfolder: str) -> None:
        """Delete candidates that are due, and old sidecar folders of killed saves without a result file."""
        if not self.serializers or not self._backend.has_sidecars(subfolder):
            return
        self._collect(subfolder, self._candidates(subfolder).all())
        there = set(self._backend.names(subfolder))
        for file in self._sidecars(subfolder).names():
            if file not in there and not file.startswith("."):
                # removed in the meantime, or not permitted
                with contextlib.suppress(OSError, StorageError):
                    self._sweep_one(subfolder, file)

    def _sweep_one(self, subfolder: str, file: str) -> None:
        """Delete the sidecar folders of a missing result that no recent save has written."""
        folder = self._sidecars(subfolder).inner(file)
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
        """The sidecar files in a header that belongs to this file and is signed if the storage has a key.

        Raises:
            CorruptResult: The entry for sidecar files is invalid.
            UntrustedResult: The header is not signed, or belongs to another result.
        """
        objects = _named(header)
        if not objects:
            return None
        workflow, node = (str(header.get(field)) for field in ("workflow", "node"))
        if (self._quote(workflow), self._quote(node)) != (subfolder, file):
            message = "its header belongs to another result"
            raise UntrustedResult(message)
        if key := self._key():
            check_signature(start, workflow, node, key)
        return _Sidecar(objects["folder"], objects["serializers"], start[: header_size(start)])

    def _legacy(self, subfolder: str, file: str) -> _Sidecar | None:
        """The sidecar files of a result of the legacy format, from its pickle stream, since it has no header."""
        if self._key() or not self._of_all(subfolder).names():  # the format has no signature
            return None
        data = self._backend.read(subfolder, file, mapped=False).data
        written = legacy_references(memoryview(data))
        return _Sidecar("", written, b"") if written else None

    def _remove(self, subfolder: str, file: str, sidecar: _Sidecar) -> None:
        folder = self._of(subfolder, file, sidecar.token)
        # removed already, or a name outside of the folder
        with contextlib.suppress(FileNotFoundError, CorruptResult):
            self.serializers.remove(sidecar.serializers, folder.protocols())
        # object stores remove a folder with its files
        with contextlib.suppress(FileNotFoundError):
            folder.remove("" if sidecar.token else mark_of(file))

    def _collect(self, subfolder: str, candidates: Iterable[Candidate]) -> None:
        """Delete candidates that are due, unless their result names them."""
        for candidate in candidates:
            if candidate.is_due(self._grace):
                # removed in the meantime, or not permitted
                with contextlib.suppress(OSError, StorageError):
                    if not self._is_live(subfolder, candidate):
                        self._delete(subfolder, candidate)
                    elif candidate.has_no_pending_save(self._grace):
                        self._candidates(subfolder).drop(candidate.marker)

    def _is_live(self, subfolder: str, candidate: Candidate) -> bool:
        """Whether the result names the folder; an unsigned header counts, because it only prevents deletion."""
        try:
            header = header_at(self._backend, subfolder, candidate.file)
        except FileNotFoundError:
            return False
        return _named(header).get("folder") == candidate.token

    def _delete(self, subfolder: str, candidate: Candidate) -> None:
        candidates = self._candidates(subfolder)
        sidecar = None
        with contextlib.suppress(OSError, StorageError):  # the marker is missing or forged
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
        names = self._sidecars(subfolder).inner(file).names()
        return {name for name in names if TOKEN.fullmatch(name)}

    def _sidecars(self, subfolder: str) -> SidecarFolder:
        """The folder of all sidecar folders of a subfolder."""
        return self._backend.hidden_folder(subfolder, SIDECARS)

    def _candidates(self, subfolder: str) -> Candidates:
        return Candidates(self._sidecars(subfolder))

    def _quote(self, name: str) -> str:
        return file_name(name, fold_case=self._backend.fold_case, globs=self._backend.globs)

    def _of(self, subfolder: str, file: str, token: str) -> SidecarFolder:
        return self._folder(subfolder, file, token) if token else self._of_all(subfolder)

    def _of_all(self, subfolder: str) -> SidecarFolder:
        return self._sidecars(subfolder).legacy()

    def _folder(self, subfolder: str, file: str, token: str) -> SidecarFolder:
        return self._sidecars(subfolder).inner(file, token)


class SidecarSave:
    """The sidecar files of one save."""

    def __init__(self, saving: SaveSession, folder: SidecarFolder, token: str) -> None:  # noqa: D107
        self._saving = saving
        self._folder = folder
        self.token = token
        self.persistent_id = saving.persistent_id

    def header(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Header fields, with the sidecar files that are written when the fields are read."""
        return _Fields(fields, self)

    @property
    def objects(self) -> dict[str, Any] | None:
        """The header entry for sidecar files; None if there are none."""
        written = self._saving.written
        return {"folder": self.token, "serializers": written} if written else None

    @property
    def requires(self) -> str:
        """The path of the sidecar folder within the workflow; empty if nothing was written there."""
        is_needed = self._saving.written and self._folder.is_written
        return "/".join(self._folder.parts[-3:]) if is_needed else ""

    def undo(self) -> None:
        """Remove the sidecar files of a failed save."""
        written = self._saving.written
        self._saving.undo()
        if written:
            with contextlib.suppress(Exception):
                self._folder.remove()


class _Fields(Mapping[str, Any]):
    """Header fields, one of which is computed when it is read."""

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
    """The header entry for sidecar files; empty if there is none.

    Raises:
        CorruptResult: The entry is invalid.
    """
    objects = (header or {}).get(_FIELD)
    match objects:
        case None:
            return {}
        case {"folder": str(token), "serializers": dict()} if TOKEN.fullmatch(token):
            return dict(objects)
    message = "the entry for sidecar files in the header is invalid"
    raise CorruptResult(message)
