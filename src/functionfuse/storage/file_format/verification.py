"""Checks in the background: a large result is given out at once, and nothing is built on it unseen.

One register serves the whole process: what was read from one storage may be saved in another.
What was given out belongs to the reader, who may change it: the file is looked at, not the memory.
A file that turns out to be damaged is moved aside, so that the next run computes its result anew;
where that cannot be done, this process remembers it.
"""

from __future__ import annotations

import hashlib
import os
import queue
import secrets
import threading
from typing import Final

from functionfuse.errors import CorruptResult

__all__ = [
    "DAMAGED_PREFIX",
    "DeferredVerification",
    "begin_run",
    "check_known_damage",
    "reported",
    "wait_verified",
]

#: How the names of files begin that were moved aside.
DAMAGED_PREFIX: Final = ".damaged-"
_SLICE: Final = 2**20  # bytes that are read at once
_MAX_WAITING: Final = (
    64  # files that wait at once, with a descriptor each; more are checked on the spot
)


class DeferredVerification:
    """The check of one file: its buffers are noted, then it begins."""

    def __init__(self, path: str, descriptor: int) -> None:
        """Take a file that was opened; the descriptor stays the caller's."""
        self._path = path
        self._descriptor = os.dup(descriptor)  # the file that was read, whatever takes its name
        self._buffers: list[tuple[int, int, bytes]] = []
        self.done = threading.Event()

    def defer(self, buffer: memoryview, digest: bytes, start: int) -> None:
        """Note a buffer, its SHA-256, and where in the file it begins."""
        self._buffers.append((start, buffer.nbytes, digest))

    def begin(self) -> None:
        """Check what was noted."""
        if not self._buffers:
            self.cancel()
        else:
            _verifier.add(self)

    def cancel(self) -> None:
        """Check nothing."""
        os.close(self._descriptor)
        self._buffers = []

    def run(self) -> str | None:
        """Check now; gives what is to be said of damage."""
        try:
            if all(self._is_intact(*buffer) for buffer in self._buffers):
                return None
            return f"{self._path!r} is damaged: its contents do not match their digest; {self._quarantine()}"
        except OSError as error:
            return f"{self._path!r} cannot be checked: {error.strerror}"
        finally:
            self.cancel()

    def _is_intact(self, start: int, nbytes: int, digest: bytes) -> bool:
        found, end = hashlib.sha256(), start + nbytes
        while start < end and (data := os.pread(self._descriptor, min(_SLICE, end - start), start)):
            found.update(data)
            start += len(data)
        return found.digest() == digest

    def _quarantine(self) -> str:
        folder, name = os.path.split(self._path)
        aside = os.path.join(folder, f"{DAMAGED_PREFIX}{secrets.token_hex(4)}-{name}")
        try:
            if _identity(os.stat(self._path)) != _identity(os.fstat(self._descriptor)):
                return "it has been replaced since"
            os.rename(self._path, aside)
        except FileNotFoundError:
            return "it has been removed since"
        except OSError:
            _verifier.remembered.add(_identity(os.fstat(self._descriptor)))
            return "remove it, and its result is computed anew"
        return "it was moved aside, and the next run computes its result anew"


class _Verifier:
    """All checks of this process."""

    def __init__(self) -> None:
        self.remembered: set[tuple[int, int]] = set()
        self.damage: list[str] = []  # in the order in which it was found
        self.raised = 0  # how many were raised, by `wait_verified` or by a save that was refused
        self.reported = 0  # how many make no save fail any more, except in runs that had begun
        self._waiting: list[DeferredVerification] = []
        self._inherited: list[
            DeferredVerification
        ] = []  # by the process that this one was forked from
        self._begin()

    def _begin(self) -> None:
        """Have no thread: at first, and in a process that was forked."""
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[DeferredVerification] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """Take over what was given out before: in this process nobody checks it."""
        self._inherited, self._waiting = [*self._inherited, *self._waiting], []
        self._begin()

    def add(self, check: DeferredVerification) -> None:
        """Check in the background, or now if there is too much to do."""
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
        """Wait for all checks that have begun."""
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
    """Wait for the checks of all files that this process has read, in any storage.

    Args:
        forget: Do not report the damage again.
        since: A mark by `reported` or `begin_run`. Damage found after it is reported again if another
            run was the first that it was reported to.

    Raises:
        CorruptResult: A file is damaged whose result was given out.
    """
    _verifier.wait()
    if not _verifier.damage:
        return
    start = _verifier.reported if since is None else min(since, _verifier.reported)
    end = len(_verifier.damage)  # more may be found meanwhile
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
                ". Nothing is saved until `wait_verified()` of a storage is called, or a run begins"
            )
        raise CorruptResult(message)


def reported() -> int:
    """How much damage has been reported so far: a mark for `wait_verified`."""
    return _verifier.reported


def begin_run() -> int:
    """Forget damage that a save has raised, so that a new run does not fail of it; returns a mark."""
    _verifier.reported = max(_verifier.reported, _verifier.raised)
    return _verifier.reported


def check_known_damage(status: os.stat_result) -> None:
    """Refuse a file that is known to be damaged.

    Raises:
        CorruptResult: It is.
    """
    if _verifier.remembered and _identity(status) in _verifier.remembered:
        message = "the contents do not match their digest"
        raise CorruptResult(message)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


_verifier: Final = _Verifier()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_verifier.reset_after_fork)
