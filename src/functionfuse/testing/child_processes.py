"""Child processes for tests: a fork server with preloaded libraries starts them in milliseconds."""

from __future__ import annotations

import multiprocessing
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext

__all__ = ["Child", "call_in_process", "say"]

_PATIENCE: Final = 60  # seconds until a process that hangs fails a test


@cache
def _context() -> ForkServerContext:
    """A fork server without threads; modules that cannot be imported are skipped."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["functionfuse.testing.storage.tests", "s3fs"])
    return context


class Child:
    """A call of a function in a process of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        """Start it; function and arguments are pickled."""
        self._receiver, sender = _context().Pipe(duplex=False)
        self._process = _context().Process(target=_call, args=(sender, function, args), daemon=True)
        self._process.start()
        sender.close()

    def result(self) -> Any:
        """The value of the function; raises its exception."""
        succeeded, value = self.receive()
        self._process.join()
        if not succeeded:
            raise value
        return value

    def receive(self) -> Any:
        """Receive the next message of the process."""
        if not self._receiver.poll(_PATIENCE):
            self.kill()
            pytest.fail(f"a process did not answer within {_PATIENCE} seconds")
        try:
            return self._receiver.recv()
        except EOFError:
            self._process.join()
            pytest.fail(f"a process ended with the code {self._process.exitcode}")

    def kill(self) -> None:
        """Kill the process immediately."""
        self._process.kill()
        self._process.join()
        self._receiver.close()


def call_in_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in another process; returns its value or raises its exception."""
    return Child(function, *args).result()


def say(value: Any) -> None:
    """Send a value to the test; called in a child."""
    _sender[0].send(value)


_sender: list[Connection] = []  # of the one call of this child process


def _call(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _sender.append(sender)
    try:
        outcome = True, function(*args)
    except BaseException as error:  # noqa: BLE001 - raised by `result`
        outcome = False, error
    sender.send(outcome)
