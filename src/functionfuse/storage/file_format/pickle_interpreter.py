"""State of a pickle opcode interpreter: builds plain data and leaves names, calls and states to a subclass.

It reads what Python 3 writes in protocols 2 to 5.
It imports nothing, calls nothing, and allocates no more than there are bytes to fill it with.
It does not recurse, so a stream may be nested as deeply as it likes.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from functionfuse.storage.file_format.restricted_limits import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PickleInterpreter", "Symbol"]


class Symbol:
    """Something that stands in for a value on the stack and never becomes part of the result."""

    __slots__ = ()


class PickleInterpreter(ABC):
    """Interprets one stream; a subclass decides what names mean and what may be called with what."""

    def __init__(self, stream: bytes | memoryview, buffers: Sequence[memoryview] = ()) -> None:
        """Prepare to interpret a stream.

        Args:
            stream: The pickle stream; it is copied, so that nobody changes it in between.
            buffers: Its out-of-band buffers.
        """
        self.data = bytes(stream)
        self.position = 0
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []  # one for each mark
        self.memo: dict[int, Any] = {}
        self.buffers = iter(buffers)
        #: By identity, what was there before the stream: found by name, or stored elsewhere.
        self.foreign: dict[int, Any] = {}
        self.budget = Budget(len(self.data) + sum(len(buffer) for buffer in buffers))

    # ---- what a subclass decides ----

    @abstractmethod
    def find(self, module: str, name: str) -> Any:
        """Return what a name means."""

    @abstractmethod
    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Call what a name means."""

    @abstractmethod
    def make(self, kind: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Make an object of a class, without initialising it."""

    @abstractmethod
    def build(self, made: Any, state: Any) -> Any:
        """Give a state to an object; returns the object."""

    @abstractmethod
    def extend(self, made: Any, items: list[Any]) -> None:
        """Append items to something else than a new list."""

    @abstractmethod
    def update(self, made: Any, keys: list[Any], values: list[Any]) -> None:
        """Set items of something else than a new dict."""

    @abstractmethod
    def add(self, made: Any, items: list[Any]) -> None:
        """Add items to something else than a new set."""

    @abstractmethod
    def persistent_load(self, pid: Any) -> Any:
        """Return what is stored elsewhere."""

    def recall(self, symbol: Symbol) -> Any:
        """Return what a symbol in the memo means by now."""
        return symbol

    def finish(self, value: Any) -> Any:
        """Return the result that the whole stream has made."""
        return value

    # ---- what opcodes read ----

    def take(self, length: int) -> bytes:
        """Return the next bytes of the stream, which has to have as many."""
        start = self.position
        self.position = end = start + length
        if end > len(self.data):
            message = f"{length} bytes are announced and {len(self.data) - start} left"
            raise pickle.UnpicklingError(message)
        return self.data[start:end]

    def number(self, length: int) -> int:
        """Return a length or index, which are stored little-endian without a sign."""
        return int.from_bytes(self.take(length), "little")

    def line(self) -> str:
        """Return the next line of the stream, as the opcode GLOBAL has two of them."""
        end = self.data.index(b"\n", self.position)
        return self.take(end + 1 - self.position)[:-1].decode()

    def pop_mark(self) -> list[Any]:
        """Return what is on the stack above the last mark."""
        items = self.stack
        self.stack = self.outer_stacks.pop()
        return items
