"""State of a pickle opcode interpreter: builds plain data and leaves names, calls and states to a subclass.

It reads streams of protocols 2 to 5 as Python 3 writes them.
It imports nothing, calls nothing, and allocates memory in proportion to the bytes of the stream.
It does not recurse, so the nesting of a stream is not limited.
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
    """Interprets one stream; a subclass resolves names and checks calls."""

    def __init__(self, stream: bytes | memoryview, buffers: Sequence[memoryview] = ()) -> None:
        """Prepare to interpret a stream.

        Args:
            stream: The pickle stream; it is copied, so that it cannot change during the load.
            buffers: Its out-of-band buffers.
        """
        self.data = bytes(stream)
        self.position = 0
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []  # one for each mark
        self.memo: dict[int, Any] = {}
        self.buffers = iter(buffers)
        #: By identity: objects that the stream did not create, found by name or loaded from sidecar files.
        self.foreign: dict[int, Any] = {}
        self.budget = Budget(len(self.data) + sum(len(buffer) for buffer in buffers))

    # ---- hooks of subclasses ----

    @abstractmethod
    def find(self, module: str, name: str) -> Any:
        """Return the object or symbol for a name."""

    @abstractmethod
    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Call the object or symbol of a name."""

    @abstractmethod
    def make(self, kind: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Create an instance of a class without initialising it."""

    @abstractmethod
    def build(self, made: Any, state: Any) -> Any:
        """Set the state of an object; returns the object."""

    @abstractmethod
    def extend(self, made: Any, items: list[Any]) -> None:
        """Append items to an object that is not a new list."""

    @abstractmethod
    def update(self, made: Any, keys: list[Any], values: list[Any]) -> None:
        """Set items of an object that is not a new dict."""

    @abstractmethod
    def add(self, made: Any, items: list[Any]) -> None:
        """Add items to an object that is not a new set."""

    @abstractmethod
    def persistent_load(self, pid: Any) -> Any:
        """Return the object for a persistent id."""

    def recall(self, symbol: Symbol) -> Any:
        """Return the current value of a symbol in the memo."""
        return symbol

    def finish(self, value: Any) -> Any:
        """Check and return the value of the complete stream."""
        return value

    # ---- what opcodes read ----

    def take(self, length: int) -> bytes:
        """Return the next bytes of the stream; raise if there are fewer."""
        start = self.position
        self.position = end = start + length
        if end > len(self.data):
            message = f"{length} bytes are announced, but only {len(self.data) - start} are left"
            raise pickle.UnpicklingError(message)
        return self.data[start:end]

    def number(self, length: int) -> int:
        """Return a length or index, stored as an unsigned little-endian integer."""
        return int.from_bytes(self.take(length), "little")

    def line(self) -> str:
        """Return the next line of the stream; the opcode GLOBAL has two of them."""
        end = self.data.index(b"\n", self.position)
        return self.take(end + 1 - self.position)[:-1].decode()

    def pop_mark(self) -> list[Any]:
        """Return the items on the stack above the last mark."""
        items = self.stack
        self.stack = self.outer_stacks.pop()
        return items
