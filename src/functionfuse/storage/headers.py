"""Header reader: headers of stored results, of one or many, with their accepted fingerprints."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.file_format import (
    check_result_name,
    check_signature,
    header_of,
    header_size,
)
from functionfuse.storage.sidecars import start_at
from functionfuse.storage.stamps import Stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functionfuse.storage.backends.protocol import FileBackend
    from functionfuse.storage.file_format.signatures import SigningKey
    from functionfuse.storage.stamps import StampStore

__all__ = ["HeaderReader"]

_GUESS: Final = 4096  # bytes; headers of results with many parts are longer
_LONGEST: Final = 2**26  # bytes; longer than any header, whose length may be forged
#: The checksum of prefix and header, and the signature or its begin, in each version of the format.
_BOUND: Final = slice(16, 64)
_SHA1: Final = slice(-20, None)  # of a file in the legacy format


class HeaderReader:
    """Reads headers and stamps from a backend."""

    def __init__(
        self, backend: FileBackend, stamps: StampStore, key: Callable[[], SigningKey | None]
    ) -> None:
        """Read from a backend.

        Args:
            backend: The backend with the result files.
            stamps: The stamps in it.
            key: Returns the key; with a key, only signed headers are read.
        """
        self._backend = backend
        self._stamps = stamps
        self._key = key

    def one(self, subfolder: str, file: str, workflow: str, node: str) -> dict[str, Any]:
        """The header of one result.

        Raises:
            FileNotFoundError: No such result is stored.
            CorruptResult: The header is damaged.
            UntrustedResult: The header is not signed with the key.
        """
        start = start_at(self._backend, subfolder, file)
        header = self._header(start, workflow, node)
        stamp = self._stamps.read(subfolder, workflow, {file: node}).get(file)
        return self._accepted(header, stamp, subfolder, file, start)

    def many(
        self, subfolder: str, workflow: str, nodes: Mapping[str, str]
    ) -> dict[str, dict[str, Any]]:
        """The headers of several results by node; results without a readable header are absent.

        Args:
            subfolder: The subfolder of the result files.
            workflow: The workflow of the results.
            nodes: The nodes by result file.
        """
        starts, headers = self._read(subfolder, workflow, nodes)
        stamps = self._stamps.read(subfolder, workflow, {file: nodes[file] for file in headers})
        for file, stamp in stamps.items():
            headers[file] = self._accepted(headers[file], stamp, subfolder, file, starts[file])
        return {nodes[file]: header for file, header in headers.items()}

    def stamp(
        self,
        subfolder: str,
        workflow: str,
        fingerprints: Mapping[str, tuple[str, Mapping[str, Any]]],
        seen: Mapping[str, Mapping[str, Any]] | None,
    ) -> list[str]:
        """Write stamps; returns the nodes whose results have got one.

        Args:
            subfolder: The subfolder of the result files.
            workflow: The workflow of the results.
            fingerprints: Node and fingerprint by result file.
            seen: Headers by node; a result with another header was replaced, and is not stamped.
        """
        nodes = {file: node for file, (node, _) in fingerprints.items()}
        starts, headers = self._read(subfolder, workflow, nodes)
        now = time.time()
        stamps = {
            file: (nodes[file], Stamp(bound, now, dict(fingerprints[file][1])))
            for file, header in headers.items()
            if seen is None or _is_same(header, seen.get(nodes[file]))
            if (bound := self._bound(subfolder, file, starts[file]))
        }
        self._stamps.write(subfolder, workflow, stamps)
        return [node for node, _ in stamps.values()]

    def _read(
        self, subfolder: str, workflow: str, nodes: Mapping[str, str]
    ) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
        """Prefixes with headers, and headers, by result file."""
        starts = self._backend.starts(subfolder, list(nodes), _GUESS, _needed)
        headers = {}
        for file, start in starts.items():
            with suppress(StorageError):  # damaged: reading it by name reports that
                headers[file] = self._header(start, workflow, nodes[file])
        return starts, headers

    def _header(self, start: bytes, workflow: str, node: str) -> dict[str, Any]:
        if key := self._key():
            check_signature(start, workflow, node, key)
        header = header_of(start)
        if header is None:
            return {"format": "old", "workflow": workflow, "node": node}
        check_result_name(header, workflow, node)
        return header

    def _accepted(
        self,
        header: dict[str, Any],
        stamp: Stamp | None,
        subfolder: str,
        file: str,
        start: bytes,
    ) -> dict[str, Any]:
        """The header with the fingerprint of a stamp, if it was made for this result file."""
        if stamp is None or stamp.result != self._bound(subfolder, file, start):
            return header
        return {**header, "fingerprint": stamp.fingerprint, "accepted": stamp.accepted}

    def _bound(self, subfolder: str, file: str, start: bytes) -> str:
        """What a stamp of a result file is bound to; empty if the file was removed in the meantime."""
        if header_size(start):
            return start[_BOUND].hex()
        with suppress(FileNotFoundError, CorruptResult):
            return bytes(self._backend.read(subfolder, file).data[_SHA1]).hex()
        return ""


def _needed(start: bytes) -> int:
    return min(header_size(start), _LONGEST)


def _is_same(header: Mapping[str, Any], seen: Mapping[str, Any] | None) -> bool:
    """Whether a header belongs to the same result file as one that `many` has returned."""
    return seen is not None and all(
        seen.get(name) == value for name, value in header.items() if name != "fingerprint"
    )
