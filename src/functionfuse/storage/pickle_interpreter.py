"""Pickle opcode interpreter: builds plain data itself and leaves names, calls and states to a subclass.

It reads streams of protocols 2 to 5 as Python 3 writes them.
It imports nothing, calls nothing, and allocates memory in proportion to the bytes of the stream.
It does not recurse, so the nesting of a stream is not limited.
"""

from __future__ import annotations

import pickle
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from functionfuse.storage.file_format.pickle_opcodes import HANDLERS
from functionfuse.storage.file_format.restricted_limits import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functionfuse.storage.file_format.pickle_opcodes import Symbol

__all__ = ["PickleInterpreter"]

_STOP: Final = pickle.STOP[0]


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

    # ---- the loop ----

    def load(self) -> Any:
        """Interpret the stream.

        Raises:
            UnpicklingError: The stream is malformed.
            UntrustedResult: The stream uses opcodes or names that are refused.
        """
        data, handlers = self.data, HANDLERS
        try:
            while True:
                opcode = data[self.position]
                self.position += 1
                if opcode == _STOP:
                    break
                handlers[opcode](self)
        except (IndexError, struct.error) as error:
            message = f"the stream ends too early, or the stack is empty: byte {self.position}"
            raise pickle.UnpicklingError(message) from error
        if self.outer_stacks or len(self.stack) != 1:
            message = "the stream does not produce exactly one value"
            raise pickle.UnpicklingError(message)
        return self.finish(self.stack[0])

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
