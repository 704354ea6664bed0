"""Background verification: checksums of large results are compared after their values were returned.

Saves and ends of runs wait for it, so that nothing computed from damaged data is stored unnoticed.
One verifier serves the whole process, because a value from one storage may be saved in another.
It reads the file, not the memory, because the reader owns the value and may change it.
A damaged file is renamed, so that the next run computes its result again;
if renaming fails, this process remembers the file as damaged.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from typing import TYPE_CHECKING, Final

from functionfuse.errors import CorruptResult

if TYPE_CHECKING:
    from functionfuse.storage.file_format.checksums import Algorithm
    from functionfuse.storage.file_format.file_format import Chunk

__all__ = [
    "DAMAGED_PREFIX",
    "DeferredVerification",
    "begin_run",
    "check_known_damage",
    "reported",
    "wait_verified",
]

#: Prefix of the names of quarantined files.
DAMAGED_PREFIX: Final = ".damaged-"
_SLICE: Final = 2**18  # bytes of one read
_MAX_WAITING: Final = (
    64  # queued files, with a descriptor each; further ones are verified synchronously
)


class DeferredVerification:
    """The verification of one file: add its chunks, then begin."""

    def __init__(self, path: str, descriptor: int) -> None:
        """Duplicate the descriptor of an opened file."""
        self._path = path
        self._descriptor = os.dup(
            descriptor
        )  # of the file that was read, even if another one replaces it
        self._chunks: list[tuple[int, int, bytes, Algorithm]] = []
        self.done = threading.Event()

    def defer(self, chunk: Chunk) -> None:
        """Add a chunk of the file; its data are not kept."""
        self._chunks.append((chunk.start, len(chunk.data), chunk.digest, chunk.algorithm))

    def begin(self) -> None:
        """Queue the verification of the added chunks."""
        if not self._chunks:
            self.cancel()
        else:
            _verifier.add(self)

    def cancel(self) -> None:
        """Close the descriptor without verification."""
        os.close(self._descriptor)
        self._chunks = []

    def run(self) -> str | None:
        """Verify now; returns a description of damage, or None."""
        try:
            slice_ = memoryview(bytearray(_SLICE))
            if all(self._is_intact(slice_, *chunk) for chunk in self._chunks):
                return None
            return f"{self._path!r} is damaged: its contents do not match their checksum; {self._quarantine()}"
        except OSError as error:
            return f"{self._path!r} cannot be verified: {error.strerror}"
        finally:
            self.cancel()

    def _is_intact(
        self, slice_: memoryview, start: int, nbytes: int, digest: bytes, algorithm: Algorithm
    ) -> bool:
        """Read a chunk by slices into the same memory, which stays in the cache, and compare its digest."""
        found, end = algorithm.start(), start + nbytes
        while start < end:
            count = os.preadv(self._descriptor, [slice_[: end - start]], start)
            if not count:
                return False
            found.update(slice_[:count])
            start += count
        return found.digest() == digest

    def _quarantine(self) -> str:
        folder, name = os.path.split(self._path)
        quarantine = os.path.join(folder, f"{DAMAGED_PREFIX}{secrets.token_hex(4)}-{name}")
        try:
            if _identity(os.stat(self._path)) != _identity(os.fstat(self._descriptor)):
                return "it has been replaced since"
            os.rename(self._path, quarantine)
        except FileNotFoundError:
            return "it has been removed since"
        except OSError:
            _verifier.remembered.add(_identity(os.fstat(self._descriptor)))
            return "remove it, so that the next run computes its result again"
        return "it was moved aside, and the next run computes its result again"


class _Verifier:
    """All verifications of this process."""

    def __init__(self) -> None:
        self.remembered: set[tuple[int, int]] = set()
        self.damage: list[str] = []  # in the order of detection
        self.raised = 0  # number of those that `wait_verified` or a save raised
        self.reported = 0  # number of those that fail no more saves, except in runs that had begun
        self._waiting: list[DeferredVerification] = []
        self._inherited: list[DeferredVerification] = []  # from the parent process, by a fork
        self._begin()

    def _begin(self) -> None:
        """Start without a thread: in a new verifier and after a fork."""
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[DeferredVerification] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """Take over the queue of the parent process, whose thread does not exist here."""
        self._inherited, self._waiting = [*self._inherited, *self._waiting], []
        self._begin()

    def add(self, check: DeferredVerification) -> None:
        """Verify in the background, or now if the queue is full."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="functionfuse-checks", daemon=True
                )
                self._thread.start()
            immediate = len(self._waiting) >= _MAX_WAITING
            self._waiting.append(check)
        if immediate:
            self._finish(check)
        else:
            self._queue.put(check)

    def wait(self) -> None:
        """Wait for all queued verifications."""
        if self._inherited:
            self._take_over()
        if self._waiting:
            for check in [*self._waiting]:
                check.done.wait()

    def _take_over(self) -> None:
        with self._lock:
            while self._inherited:
                self._note(self._inherited.pop())

    def _work(self) -> None:
        queue_ = self._queue
        while True:
            self._finish(queue_.get())

    def _finish(self, check: DeferredVerification) -> None:
        self._note(check)
        with self._lock:
            self._waiting.remove(check)
        check.done.set()

    def _note(self, check: DeferredVerification) -> None:
        if damage := check.run():
            with self._lock:
                self.damage.append(damage)


def wait_verified(*, forget: bool, since: int | None = None) -> None:
    """Wait for the verification of all files that this process has read, from any storage.

    Args:
        forget: Do not report the damage again.
        since: A mark from `reported` or `begin_run`. Damage found after it is reported even if
            another run has reported it before.

    Raises:
        CorruptResult: A file is damaged, and its value was returned before.
    """
    _verifier.wait()
    if not _verifier.damage:
        return
    start = _verifier.reported if since is None else min(since, _verifier.reported)
    end = len(_verifier.damage)  # more may be found in the meantime
    found = _verifier.damage[start:end]
    _verifier.raised = end
    if forget:
        _verifier.reported = end
    if found:
        message = (
            "background verification failed: results read from these files, and anything computed "
            f"from them, are invalid: {'; '.join(found)}"
        )
        if not forget:
            message += (
                ". All saves fail until `wait_verified()` of a storage is called, or a run begins"
            )
        raise CorruptResult(message)


def reported() -> int:
    """The number of reported damages: a mark for `wait_verified`."""
    return _verifier.reported


def begin_run() -> int:
    """Forget damage that a save has raised, so that it does not fail a new run; returns a mark."""
    _verifier.reported = max(_verifier.reported, _verifier.raised)
    return _verifier.reported


def check_known_damage(status: os.stat_result) -> None:
    """Raise for a file that is known to be damaged.

    Raises:
        CorruptResult: The file is damaged.
    """
    if _verifier.remembered and _identity(status) in _verifier.remembered:
        message = "the contents do not match their checksum"
        raise CorruptResult(message)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


_verifier: Final = _Verifier()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_verifier.reset_after_fork)
