"""Failures: the exception of a unit, from the state of its Dask task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import KilledWorker

from functionfuse._transport.exceptions import describe_exception
from functionfuse.backends.builtin.daskback import _compat
from functionfuse.backends.builtin.daskback.tasks import TaskExceptionEnvelope
from functionfuse.errors import EngineError

if TYPE_CHECKING:
    from distributed import Future

__all__ = ["exception_of", "failed_key"]


def failed_key(future: Future[Any]) -> str:
    """The key of the task that failed first: this one or one upstream; empty if Dask does not report it."""
    error: BaseException = future.exception()
    return error.key if isinstance(error, TaskExceptionEnvelope) else _compat.failed_key(error)


def exception_of(name: str, future: Future[Any]) -> BaseException:
    """The exception that a node raised, or an `EngineError` with the reason why its task has no result."""
    if future.status != "error":
        return EngineError(f"Dask gave node {name!r} up: its task is {future.status}")
    error: BaseException = future.exception()
    if isinstance(error, TaskExceptionEnvelope):
        return error.error
    if isinstance(error, KilledWorker):
        message = (
            f"node {name!r} was given up: {error.allowed_failures + 1} workers died while they "
            f"had it, the last at {error.last_worker.address} (KilledWorker). "
            "It may have crashed or needed too much memory: the workers' logs say more"
        )
    else:
        message = f"Dask could not run node {name!r}: {describe_exception(error)}"
    failed = EngineError(message)
    failed.__cause__ = error
    return failed
