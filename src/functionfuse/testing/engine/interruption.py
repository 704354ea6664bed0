"""Interruption tests: termination signals to the process of a run, and nodes that ask for a terminal."""

from __future__ import annotations

import bdb
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from functionfuse import workflow
from functionfuse.events import NodeFinished
from functionfuse.testing.engine.suite import Suite, text_of

if TYPE_CHECKING:
    from functionfuse.events import Event

__all__ = ["InterruptionTests"]

_HAS_SIGNALS: Final = hasattr(signal, "SIGHUP")  # not on Windows


@workflow
def number(value: int, *_: Any) -> int:
    """Return a value."""
    return value


@workflow
def debug() -> None:
    """Do what a debugger does at the end of standard input."""
    raise bdb.BdbQuit


@workflow
def ask() -> None:
    """Do what `input` does at the end of standard input."""
    message = "EOF when reading a line"
    raise EOFError(message)


class InterruptionTests(Suite):
    """Signals and terminals."""

    @pytest.mark.skipif(not _HAS_SIGNALS, reason="Windows has no such signals")
    def test_termination_signals(self) -> None:
        """SIGTERM or SIGHUP to the process of a run ends the run like Ctrl-C, with `SystemExit`; the next run works."""
        handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
        for received in (signal.SIGTERM, signal.SIGHUP):
            first = number(1).set_name("first")
            made = self.new_workflow(number(2, first).set_name("second"))
            made.add_observer(_SendWhenFinished(received))

            with pytest.raises(SystemExit) as caught:
                made.run()

            assert (received, 128 + received) == (received, caught.value.code)
            assert made.report is not None
            assert "second" not in made.report.names("computed"), received
        assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
        assert 3 == self.compute(number(3))

    def test_missing_terminal(self) -> None:
        """A debugger or `input()` in a process without a terminal is an error that says how to debug the node."""
        for node in (debug().set_name("node"), ask().set_name("node")):
            with pytest.raises((bdb.BdbQuit, EOFError)) as caught:
                self.compute(node)

            text = text_of(caught.value)
            assert "'node'" in text, type(caught.value)
            assert "without workers" in text, type(caught.value)


@dataclass(frozen=True)
class _SendWhenFinished:
    """Observer that sends a signal to this process when a node is done."""

    number: signal.Signals

    def __call__(self, event: Event) -> None:
        if isinstance(event, NodeFinished):
            os.kill(os.getpid(), self.number)
