"""Stands between HTTP clients and a server: sees what is asked, and breaks connections when a test says so."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Final

__all__ = ["Forwarder"]

_LOOPBACK: Final = "127.0.0.1"
_METHODS: Final = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")


class Forwarder:
    """A port that leads to another one, as long as the test lets it."""

    def __init__(self, target: int) -> None:
        """Lead to a port of the loopback interface."""
        #: The first lines of the requests: the client waits for an answer before it sends the next.
        self.requests: list[str] = []
        self._target = target
        self._lock = threading.Lock()
        self._left: int | None = None  # bytes to the server until the connections break
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((_LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def break_after(self, nbytes: int) -> None:
        """Let so many more bytes through to the server, then break all connections."""
        with self._lock:
            self._left = nbytes
        if nbytes == 0:
            self._break()

    def mend(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._left = None

    def close(self) -> None:
        """Stop for good."""
        _shut(self._listener)
        self.break_after(0)

    def _break(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            _shut(each)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                if self._left == 0:
                    _shut(client)
                else:
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection((_LOOPBACK, self._target))
        with self._lock:
            self._sockets += (client, server)
        for pump, one, other in ((self._up, client, server), (self._down, server, client)):
            threading.Thread(target=pump, args=(one, other), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if data.startswith(_METHODS):
                    self.requests.append(data.partition(b"\r\n")[0].decode())
                server.sendall(self._allowed(data))
                if self._left == 0:
                    self._break()
        _shut(server)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
        _shut(client)

    def _allowed(self, data: bytes) -> bytes:
        with self._lock:
            if self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
        return data


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # the other end has gone
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
