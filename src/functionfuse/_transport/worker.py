"""Worker process of a pool: `python -m functionfuse._transport.worker DESCRIPTOR`.

It receives units from the socket with that descriptor and runs one after the other, until the socket is closed.
Its output goes where that of the coordinator goes.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from functionfuse._common import plain_pickler
from functionfuse._common.terminal_signals import ignore_terminal_signals
from functionfuse._context.forwarding import send_messages
from functionfuse._kernel.kernel import execute
from functionfuse._transport.protocol import Channel, Handshake, Reply, TaskMessage, decode_unit
from functionfuse._transport.shared_memory import BufferPool, pickle_value, unpickle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from functionfuse._kernel.units import Unit
    from functionfuse._transport.protocol import ReplyKind
    from functionfuse._transport.shared_memory import Payload

__all__ = ["main"]


class _Interruption:
    """Ends the process on SIGTERM, after a KeyboardInterrupt in the running node, which can clean up."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _: int, __: FrameType | None) -> None:
        if not self.came:  # else the node cleans up
            self.came = True
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt again if a node caught it."""
        if self.came:
            raise KeyboardInterrupt

    def end(self) -> None:
        """End by SIGTERM, as the sender expects."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


class _UnpickleFailure(Exception):
    """A received object cannot be unpickled here."""

    def __init__(self, error: Exception, parent: int | None = None) -> None:
        super().__init__(error, parent)
        self.reply = _error_reply("open" if parent is None else "input", error, parent)


class _Worker:
    """Runs units; only shared objects stay between them."""

    def __init__(self, buffers: BufferPool, interruption: _Interruption) -> None:
        self._buffers = buffers
        self._interruption = interruption
        self._shared_objects: dict[int, Any] = {}

    def reply_to(self, message: bytes | bytearray) -> bytes:
        """Run a unit and return its outcome."""
        try:
            reply = self._run(*self._decode(message))
        except _UnpickleFailure as failure:
            reply = failure.reply
        return pickle.dumps(reply)

    def _decode(self, message: bytes | bytearray) -> tuple[Unit, list[Any]]:
        try:
            message_in: TaskMessage = pickle.loads(message)
            if message_in.reset:
                self._shared_objects.clear()
            for number, payload in message_in.shared_objects.items():
                self._shared_objects[number] = unpickle(payload)
            unit = decode_unit(message_in.unit, self._shared_objects)
        except Exception as error:
            raise _UnpickleFailure(error) from error
        parents = () if unit.load else unit.node.parents
        return unit, list(map(_unpickle_input, parents, message_in.inputs))

    def _run(self, unit: Unit, inputs: list[Any]) -> Reply:
        try:
            value, record = execute(unit, inputs)
        except BaseException as error:  # noqa: BLE001 - the node's own
            self._interruption.check()
            from functionfuse._transport.exceptions import dump_exception

            return Reply("error", dump_exception(error))
        try:
            return Reply("value", self._pickle_result(value), record)
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            return _error_reply("send", error)

    def _pickle_result(self, value: Any) -> Payload:
        try:
            return pickle_value(value, self._buffers, plain_pickler.dumps)
        except Exception:  # noqa: BLE001 - not by reference: a class of __main__, a closure
            from functionfuse._common.pickler import dumps

            return pickle_value(value, self._buffers, dumps)


def _unpickle_input(parent: int, payload: Payload) -> Any:
    try:
        return unpickle(payload)
    except Exception as error:
        raise _UnpickleFailure(error, parent) from error


def _error_reply(kind: ReplyKind, error: Exception, parent: int | None = None) -> Reply:
    from functionfuse._transport.exceptions import describe_exception

    return Reply(kind, describe_exception(error).encode(errors="replace"), None, parent)


def _messages(channel: Channel) -> Iterator[bytes | bytearray]:
    with suppress(EOFError, ConnectionError):
        while True:
            yield channel.receive()


def _serve(channel: Channel, handshake: Handshake, interruption: _Interruption) -> None:
    """Run units until the socket is closed."""
    worker = _Worker(BufferPool(handshake.folders, handshake.name), interruption)
    send_messages(partial(_send_message, channel))
    for message in _messages(channel):
        reply = worker.reply_to(message)
        _flush()
        interruption.check()
        try:
            channel.send(reply)
        except ConnectionError:
            return


def _send_message(channel: Channel, message: bytes) -> None:
    """Send a log record or warning while the node runs."""
    with suppress(OSError):  # the coordinator has ended
        channel.send(pickle.dumps(Reply("message", message)))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()


def _apply_handshake(handshake: Handshake) -> None:
    """Copy what nodes can see of the coordinator process: paths, arguments, environment."""
    sys.path[:] = handshake.path
    sys.argv[:] = handshake.argv
    for name, value in handshake.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    with suppress(AttributeError):  # none, or not a file: whole lines, as they come
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with suppress(AttributeError, OSError, RuntimeError, ValueError):  # none, or not a file
        faulthandler.enable()


def _install_signal_handlers() -> _Interruption:
    """Ignore Ctrl-C, which the coordinator handles: it sends SIGTERM to end this process."""
    interruption = _Interruption()
    signal.signal(signal.SIGTERM, interruption)
    ignore_terminal_signals()
    return interruption


def _reset_in_forked_children(connected: socket.socket) -> None:
    """Reset the signal handlers in forked processes, and close the socket there."""
    os.register_at_fork(after_in_child=connected.close)
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as by nohup
    hangup = signal.SIG_IGN if ignored else signal.SIG_DFL
    for number, handler in (
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, hangup),
        (signal.SIGINT, signal.default_int_handler),
    ):
        os.register_at_fork(after_in_child=lambda n=number, h=handler: signal.signal(n, h))


def main() -> None:
    """Serve until the socket closes."""
    interruption = _install_signal_handlers()
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only
    connected = socket.socket(fileno=descriptor)
    _reset_in_forked_children(connected)
    channel = Channel(connected)
    try:
        handshake: Handshake = pickle.loads(channel.receive())
        _apply_handshake(handshake)
        _serve(channel, handshake, interruption)
    except EOFError:
        return
    except KeyboardInterrupt:
        _flush()
        interruption.end()
    connected.detach()  # open until the process ends: the coordinator waits for that


if __name__ == "__main__":
    # the module itself, not a second one that is called __main__ as the user's script is
    from functionfuse._transport.worker import main as run

    run()
