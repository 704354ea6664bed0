"""Stamps: accepted fingerprints of stored results, each in a small file that is bound to its result file.

A stamp replaces the fingerprint in the header of one result file, without a change of that file.
It names the checksum of prefix and header, which is another one for each save, so a later result has no stamp.
"""

from __future__ import annotations

import json
import math
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult, IgnoredProvenanceWarning, StorageError
from functionfuse.storage.backends.sidecar_folders import STAMPS
from functionfuse.storage.hidden_files import decode_file, encode_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functionfuse.storage.backends.protocol import FileBackend
    from functionfuse.storage.backends.sidecar_folders import SidecarFolder
    from functionfuse.storage.file_format.signatures import SigningKey

__all__ = ["Stamp", "StampStore"]

_KIND: Final = "stamp"
_SHOWN: Final = 3  # ignored stamps that a warning names
_to_json: Final = json.JSONEncoder(separators=(",", ":"), default=str, ensure_ascii=False).encode


class Stamp(NamedTuple):
    """An accepted fingerprint."""

    result: str  # bytes of its result file that are different for each save, in hexadecimal
    accepted: float  # seconds since 1970
    fingerprint: Mapping[str, Any]


class StampStore:
    """The stamps in a backend."""

    def __init__(self, backend: FileBackend, key: Callable[[], SigningKey | None]) -> None:
        """Manage the stamps in a backend.

        Args:
            backend: The backend with the result files.
            key: Returns the key; with a key, stamps are signed, and others are ignored.
        """
        self._backend = backend
        self._key = key

    def write(self, subfolder: str, workflow: str, stamps: Mapping[str, tuple[str, Stamp]]) -> None:
        """Write stamps: node and stamp by result file."""
        key = self._key()
        contents = {
            file: encode_file(_KIND, workflow, node, _encode(workflow, node, stamp), key)
            for file, (node, stamp) in stamps.items()
        }
        self._folder(subfolder).replace_many(contents)

    def read(self, subfolder: str, workflow: str, nodes: Mapping[str, str]) -> dict[str, Stamp]:
        """The stamps of results, by result file; warns of those that cannot be used.

        One name is looked for directly; more names, by one listing of all stamps.

        Args:
            subfolder: The subfolder of the result files.
            workflow: The workflow of the results.
            nodes: The nodes by result file.
        """
        found, ignored = dict[str, Stamp](), list[str]()
        for file, data in self._data(subfolder, nodes).items():
            try:
                content = decode_file(_KIND, workflow, nodes[file], data, self._key())
                found[file] = _decode(content)
            except StorageError as error:
                ignored.append(f"{nodes[file]}: {error}")
        if ignored:
            self._warn(workflow, ignored)
        return found

    def remove(self, subfolder: str, file: str) -> None:
        """Remove the stamp of a removed result, if there is one."""
        self._folder(subfolder).remove_file(file)

    def files(self, subfolder: str) -> frozenset[str]:
        """The result files that have stamps, also of removed and replaced results."""
        return frozenset(self._folder(subfolder).names())

    def _data(self, subfolder: str, nodes: Mapping[str, str]) -> dict[str, bytes]:
        """The bytes of the stamps that exist, by result file."""
        try:
            if len(nodes) > 1:
                there = self.files(subfolder)
                nodes = {file: node for file, node in nodes.items() if file in there}
            return self._folder(subfolder).read_many(list(nodes)) if nodes else {}
        except PermissionError as error:  # without them, accepted results would be computed again
            message = f"its folder {STAMPS} cannot be read: {error.strerror}"
            raise StorageError(message) from error

    def _folder(self, subfolder: str) -> SidecarFolder:
        return self._backend.hidden_folder(subfolder, STAMPS)

    def _warn(self, workflow: str, ignored: Sequence[str]) -> None:
        more = f"; and {len(ignored) - _SHOWN} more" if len(ignored) > _SHOWN else ""
        message = (
            f"{len(ignored)} accepted fingerprints of workflow {workflow!r} in {self._backend!r} are ignored, "
            "and those in the result files count; accept these results again. "
            f"{'; '.join(ignored[:_SHOWN])}{more}"
        )
        warnings.warn(message, IgnoredProvenanceWarning, stacklevel=2)


def _encode(workflow: str, node: str, stamp: Stamp) -> bytes:
    fields = {"workflow": workflow, "node": node, **stamp._asdict()}
    return _to_json(fields).encode(errors="surrogatepass")


def _decode(content: bytes) -> Stamp:
    """Decode the content of a stamp.

    Raises:
        CorruptResult: The content was not written by FunctionFuse.
    """
    try:
        fields = json.loads(content.decode(errors="surrogatepass"))
    except (ValueError, RecursionError):
        fields = None
    match fields:
        case {"result": str(result), "accepted": float(seconds), "fingerprint": dict(fingerprint)}:
            if math.isfinite(seconds):
                return Stamp(result, seconds, fingerprint)
    message = "it was not written by FunctionFuse"
    raise CorruptResult(message)
