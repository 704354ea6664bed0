"""A worker process: the kernel as a program, `python -m functionfuse._transport.worker DESCRIPTOR`.

It takes units from the socket with that number until the other side is gone, and runs one after the other.
What nodes print goes where the prints of the process go that started it.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from functionfuse._kernel.kernel import execute
from functionfuse._transport.protocol import Channel, Hello, Reply, Work, unit_of
from functionfuse._transport.shared_memory import Space, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from functionfuse._kernel.units import Unit
    from functionfuse._transport.protocol import ReplyKind
    from functionfuse._transport.shared_memory import Parcel

__all__ = ["main"]


class _Interruption:
    """Ends the process on SIGTERM, after the node that runs got a KeyboardInterrupt to clean up on."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _: int, __: FrameType | None) -> None:
        if not self.came:  # else the node cleans up
            self.came = True
            raise KeyboardInterrupt

    def check(self) -> None:
        """Go on with what it began, if a node caught it."""
        if self.came:
            raise KeyboardInterrupt

    def end(self) -> None:
        """Die as whoever sent the signal expects."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


class _Unopened(Exception):
    """Something that came cannot be unpickled here."""

    def __init__(self, error: Exception, parent: int | None = None) -> None:
        super().__init__(error, parent)
        self.reply = _refusal("open" if parent is None else "input", error, parent)


class _Worker:
    """Runs units; keeps nothing between them but what many of them share."""

    def __init__(self, space: Space, interruption: _Interruption) -> None:
        self._space = space
        self._interruption = interruption
        self._tools: dict[int, Any] = {}

    def reply_to(self, message: bytes | bytearray) -> bytes:
        """Run a unit, and say what became of it."""
        try:
            reply = self._run(*self._opened(message))
        except _Unopened as unopened:
            reply = unopened.reply
        return pickle.dumps(reply)

    def _opened(self, message: bytes | bytearray) -> tuple[Unit, list[Any]]:
        try:
            work: Work = pickle.loads(message)
            if work.forget:
                self._tools.clear()
            for number, parcel in work.tools.items():
                self._tools[number] = unpack(parcel)
            unit = unit_of(work.unit, self._tools)
        except Exception as error:
            raise _Unopened(error) from error
        parents = () if unit.load else unit.step.parents
        return unit, list(map(_opened_input, parents, work.inputs))

    def _run(self, unit: Unit, inputs: list[Any]) -> Reply:
        try:
            value, record = execute(unit, inputs)
        except BaseException as error:  # noqa: BLE001 - the node's own
            self._interruption.check()
            from functionfuse._transport.exceptions import dump_raised

            return Reply("error", dump_raised(error))
        try:
            return Reply("value", self._packed(value), record)
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            return _refusal("send", error)

    def _packed(self, value: Any) -> Parcel:
        try:
            return pack(value, self._space, pickle.dumps)
        except Exception:  # noqa: BLE001 - by reference did not do: a class of __main__, a closure
            from cloudpickle import dumps

            return pack(value, self._space, dumps)


def _opened_input(parent: int, parcel: Parcel) -> Any:
    try:
        return unpack(parcel)
    except Exception as error:
        raise _Unopened(error, parent) from error


def _refusal(kind: ReplyKind, error: Exception, parent: int | None = None) -> Reply:
    from functionfuse._transport.exceptions import described

    return Reply(kind, described(error).encode(errors="replace"), None, parent)


def _messages(channel: Channel) -> Iterator[bytes | bytearray]:
    with suppress(EOFError, ConnectionError):
        while True:
            yield channel.receive()


def _serve(channel: Channel, hello: Hello, interruption: _Interruption) -> None:
    """Run what comes, until nothing can come any more."""
    worker = _Worker(Space(hello.folders, hello.name), interruption)
    for message in _messages(channel):
        reply = worker.reply_to(message)
        _flush()
        interruption.check()
        try:
            channel.send(reply)
        except ConnectionError:
            return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()


def _settle_in(hello: Hello) -> None:
    """Be as the process that started this one is, as far as nodes can tell."""
    sys.path[:] = hello.path
    sys.argv[:] = hello.argv
    for name, value in hello.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    with suppress(AttributeError):  # none, or not a file: whole lines, as they come
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with suppress(AttributeError, OSError, RuntimeError, ValueError):  # none, or not a file
        faulthandler.enable()


def _heed_signals() -> _Interruption:
    """Leave Ctrl-C to the process that started this one; it says by SIGTERM when it has enough."""
    interruption = _Interruption()
    signal.signal(signal.SIGTERM, interruption)
    signal.signal(
        signal.SIGINT, lambda *_: None
    )  # not SIG_IGN: programs that nodes start inherit that
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    return interruption


def _leave_to_children(connected: socket.socket) -> None:
    """Let forked processes be ordinary ones: without the socket, so that its end is seen, and with usual signals."""
    os.register_at_fork(after_in_child=connected.close)
    for number, handler in (
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        os.register_at_fork(after_in_child=lambda n=number, h=handler: signal.signal(n, h))


def main() -> None:
    """Serve until the socket closes."""
    interruption = _heed_signals()
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only
    connected = socket.socket(fileno=descriptor)
    _leave_to_children(connected)
    channel = Channel(connected)
    try:
        hello: Hello = pickle.loads(channel.receive())
        _settle_in(hello)
        _serve(channel, hello, interruption)
    except EOFError:
        return
    except KeyboardInterrupt:
        _flush()
        interruption.end()
    connected.detach()  # open until the process is gone: that is how the other side sees it


if __name__ == "__main__":
    # the module itself, not a second one that is called __main__ as the user's script is
    from functionfuse._transport.worker import main as run

    run()
