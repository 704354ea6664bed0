"""Legacy format of result files: a pickle stream followed by its SHA-1."""

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
    """The pickle stream of a legacy file.

    Raises:
        CorruptResult: The file has another format, or is damaged.
    """
    stream, digest = bytes(data[:-_SHA1_SIZE]), bytes(data[-_SHA1_SIZE:])
    if not stream or hashlib.sha1(stream, usedforsecurity=False).digest() != digest:
        message = "it is neither a result file nor a file of the legacy format"
        raise CorruptResult(message)
    return stream


def legacy_references(data: bytearray | memoryview) -> dict[str, list[str]]:
    """The references of a legacy file to sidecar files, by serializer, as in `SaveSession.written`.

    The stream is interpreted without any import or call, because it may be forged.
    References that cannot be found in this way are omitted.

    Raises:
        CorruptResult: The file has another format, or is damaged.
    """
    collector = _ReferenceCollector(legacy_stream(data))
    # references found so far are kept: the rest of the stream needs real objects
    with contextlib.suppress(Exception):
        interpret(collector)
    return collector.found


class _ReferenceCollector(PickleInterpreter):
    """Collects persistent ids of a stream; every name, call and object is one inert symbol."""

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
