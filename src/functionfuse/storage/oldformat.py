"""The old published format of result files: a pickle stream, and its SHA-1."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from typing import Any, Final

from functionfuse.errors import CorruptResult
from functionfuse.serializers.base import is_literal

__all__ = ["old_references", "old_stream"]

_SHA1_SIZE: Final = 20


def old_stream(data: bytearray | memoryview) -> bytes:
    """The pickle stream of a file of the old published format, which ends with its SHA-1.

    Raises:
        CorruptResult: It is not of that format, or not what was written.
    """
    stream, digest = bytes(data[:-_SHA1_SIZE]), bytes(data[-_SHA1_SIZE:])
    if not stream or hashlib.sha1(stream, usedforsecurity=False).digest() != digest:
        message = "it is neither a result file nor one of the old format"
        raise CorruptResult(message)
    return stream


def old_references(data: bytearray | memoryview) -> dict[str, list[str]]:
    """By serializer what an old file names of what stands beside it, as in `Saving.written`.

    Nothing that the file asks for is imported or called, whoever wrote it.
    What cannot be followed in this way is left out.

    Raises:
        CorruptResult: It is not of the old format, or not what was written.
    """
    looking = _Looking(io.BytesIO(old_stream(data)))
    with contextlib.suppress(Exception):  # it needed what it asked for: what it named before stays
        looking.load()
    return looking.found


class _Nothing:
    """Stands for whatever a file asks for, and does nothing that it is told."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = __init__

    def __call__(self, *_: Any, **__: Any) -> _Nothing:
        return self


class _Looking(pickle.Unpickler):
    """Follows a pickle for the sake of the references in it."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.found: dict[str, list[str]] = {}

    def find_class(self, *_: str) -> Any:
        return _Nothing

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case (str(name), reference) if is_literal(reference):
                self.found.setdefault(name, []).append(repr(reference))
        return _Nothing()
