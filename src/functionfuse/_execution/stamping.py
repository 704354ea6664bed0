"""Stamping: write the fingerprints of kept results to the storage, in batches in a thread."""

from __future__ import annotations

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

from functionfuse.errors import StaleResultWarning, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functionfuse.storage.base import Results

__all__ = ["Stamping"]


class Stamping:
    """The stamps of one run: those that come while others are written are written together."""

    def __init__(self, results: Results) -> None:
        """Start the thread with the first stamp.

        Args:
            results: The storage of the run.
        """
        self._results = results
        self._lock = Lock()
        self._stamps: dict[str, Mapping[str, Any]] = {}
        self._executor: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def add(self, name: str, fingerprint: Mapping[str, Any]) -> None:
        """Stamp the stored result of a node soon."""
        with self._lock:
            self._stamps[name] = fingerprint
            if len(self._stamps) > 1:  # a batch waits for the thread already
                return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "functionfuse-stamps")
        self._writing = self._executor.submit(self._write)

    def flush(self) -> None:
        """Wait until all stamps are written; one that cannot be written is a warning."""
        if self._writing is None:
            return
        try:
            self._writing.result()
        except (StorageError, OSError) as error:
            ...
        self._writing = None
