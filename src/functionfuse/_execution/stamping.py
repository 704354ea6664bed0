"""Stamping: write the fingerprints of kept results to the storage, in batches and in a thread."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

from functionfuse._common.user_warnings import warn_user
from functionfuse.errors import IgnoredProvenanceWarning, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functionfuse.storage.base import Results

__all__ = ["Stamping"]


class Stamping:
    """The stamps of one run: those that come while others are written are written together."""

    def __init__(self, results: Results) -> None:
        """Begin without a thread, which the first stamp starts.

        Args:
            results: The storage of the run.
        """
        self._results = results
        self._lock = Lock()
        self._stamps: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self._executor: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._errors: list[Exception] = []

    def add(self, name: str, fingerprint: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """Stamp the stored result of a node soon.

        Args:
            name: The node.
            fingerprint: Its fingerprint.
            header: The header of the result: if another result is stored now, that one is not stamped.
        """
        with self._lock:
            self._stamps[name] = fingerprint, header
            if len(self._stamps) > 1:  # the thread is about to write others
                return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "functionfuse-stamps")
        self._last = self._executor.submit(self._write)

    def flush(self) -> None:
        """Wait until all stamps are written; results that cannot be stamped are a warning."""
        if self._last is not None:
            self._last.result()
        errors, self._errors = self._errors, []
        if errors:
            message = (
                f"results that were kept cannot be marked as fresh: {errors[0]}. "
                "The next run computes them again"
            )
            warn_user(message, IgnoredProvenanceWarning)

    def end(self) -> None:
        """Write all stamps, and end the thread."""
        self.flush()
        if self._executor is not None:
            self._executor.shutdown()

    def _write(self) -> None:
        with self._lock:
            stamps, self._stamps = self._stamps, {}
        fingerprints = {name: fingerprint for name, (fingerprint, _) in stamps.items()}
        headers = {name: header for name, (_, header) in stamps.items()}
        try:
            self._results.stamp(fingerprints, headers)
        except (StorageError, OSError) as error:
            self._errors.append(error)
