"""Other processes for tests: clean ones, that have the libraries loaded and come up in milliseconds."""

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
    """Processes that are forked from one that has no threads; what cannot be loaded is left out."""
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
        """What the function returns, or raise what it raises."""
        succeeded, value = self.hear()
        self._process.join()
        if not succeeded:
            raise value
        return value

    def hear(self) -> Any:
        """What the process says next."""
        if not self._receiver.poll(_PATIENCE):
            self.kill()
            pytest.fail(f"a process did not answer within {_PATIENCE} seconds")
        try:
            return self._receiver.recv()
        except EOFError:
            self._process.join()
            pytest.fail(f"a process ended with the code {self._process.exitcode}")

    def kill(self) -> None:
        """End it at once, wherever it stands."""
        self._process.kill()
        self._process.join()
        self._receiver.close()


def call_in_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in another process; give what it returns, or raise what it raises."""
    return Child(function, *args).result()


def say(value: Any) -> None:
    """Tell the test something; called in a child."""
    _said_by[0].send(value)


_said_by: list[Connection] = []  # of the one call that a child is for


def _call(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _said_by.append(sender)
    try:
        outcome = True, function(*args)
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        outcome = False, error
    sender.send(outcome)
