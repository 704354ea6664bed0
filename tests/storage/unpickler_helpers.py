"""Unpickle a stream by the restricted unpickler, and describe the outcome."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

from functionfuse.errors import StorageError
from functionfuse.storage.file_format.file_format import unframe
from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist

__all__ = [
    "FROM_BUFFER",
    "HUGE",
    "MEMO",
    "MINUS",
    "RECONSTRUCT",
    "dtype",
    "file_of",
    "load",
    "named",
    "outcome",
    "text",
]


def file_of(stream: bytes) -> bytearray:
    """A file of the old format."""
    return bytearray(stream + hashlib.sha1(stream, usedforsecurity=False).digest())


def load(stream: bytes, *allowed: type | str) -> Any:
    """The value for a reader that allows some types."""
    return unframe(file_of(stream), "w", "n", allowed=PickleAllowlist(allowed))


def outcome(stream: bytes) -> str:
    """The type of a stream's value, or the error, without passing the value on."""
    try:
        value = load(stream)
    except StorageError as error:
        return f"{type(error).__name__}: {error}"
    return type(value).__name__


def text(value: str) -> bytes:
    """A text in a pickle."""
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    """A name in a pickle."""
    return text(module) + text(name) + pickle.STACK_GLOBAL


RECONSTRUCT = named("numpy._core.multiarray", "_reconstruct")
FROM_BUFFER = named("numpy._core.numeric", "_frombuffer")
MINUS = b"J\xff\xff\xff\xff"
HUGE = b"\x8a\x05" + (10**11).to_bytes(5, "little")
MEMO = pickle.MEMOIZE


def dtype(kind: str, state: bytes = b"NNN" + 2 * MINUS + b"K\x00", order: str = "|") -> bytes:
    """A dtype in a pickle."""
    return (
        named("numpy", "dtype") + text(kind) + b"\x89\x88\x87R(K\x03" + text(order) + state + b"tb"
    )
