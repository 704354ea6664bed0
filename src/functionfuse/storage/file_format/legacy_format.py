"""The old published format of result files: a pickle stream, and its SHA-1."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any, Final

from functionfuse.errors import CorruptResult
from functionfuse.serializers.base import is_literal
from functionfuse.storage.file_format.pickle_interpreter import PickleInterpreter, Symbol
from functionfuse.storage.file_format.pickle_loop import interpret

__all__ = ["legacy_references", "legacy_stream"]

_SHA1_SIZE: Final = 20


def legacy_stream(data: bytearray | memoryview) -> bytes:
    """The pickle stream of a file of the old published format, which ends with its SHA-1.

    Raises:
        CorruptResult: It is not of that format, or not what was written.
    """
    stream, digest = bytes(data[:-_SHA1_SIZE]), bytes(data[-_SHA1_SIZE:])
    if not stream or hashlib.sha1(stream, usedforsecurity=False).digest() != digest:
        message = "it is neither a result file nor one of the old format"
        raise CorruptResult(message)
    return stream


def legacy_references(data: bytearray | memoryview) -> dict[str, list[str]]:
    """By serializer what an old file names of what stands beside it, as in `SaveSession.written`.

    Nothing that the file asks for is imported or called, whoever wrote it.
    What cannot be followed in this way is left out.

    Raises:
        CorruptResult: It is not of the old format, or not what was written.
    """
    collector = _ReferenceCollector(legacy_stream(data))
    with contextlib.suppress(Exception):  # it needed what it asked for: what it named before stays
        interpret(collector)
    return collector.found


class _ReferenceCollector(PickleInterpreter):
    """Notes what a stream stores elsewhere; whatever it names, calls or makes is one inert symbol."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.found: dict[str, list[str]] = {}
        self._inert = Symbol()

    def find(self, module: str, name: str) -> Any:  # noqa: ARG002 - inert
        return self._inert

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:  # noqa: ARG002 - inert
        return self._inert

    def make(self, kind: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:  # noqa: ARG002 - inert
        return self._inert

    def build(self, made: Any, state: Any) -> Any:  # noqa: ARG002 - inert
        return made

    def extend(self, made: Any, items: list[Any]) -> None:
        pass

    def update(self, made: Any, keys: list[Any], values: list[Any]) -> None:
        pass

    def add(self, made: Any, items: list[Any]) -> None:
        pass

    def persistent_load(self, pid: Any) -> Any:
        self.budget.spend_on_tree([pid], (tuple, list))
        match pid:
            case (str(name), reference) if is_literal(reference):
                self.found.setdefault(name, []).append(repr(reference))
        return self._inert
