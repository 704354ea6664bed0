"""Result files of the tests of signatures and of restricted unpickling, and payloads that leave a trace."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import pathlib
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import strategies as st
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from functionfuse.errors import CorruptResult, UntrustedResult
from functionfuse.storage.file_format.file_format import header_size, unframe
from functionfuse.storage.file_format.frame import frame
from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist
from functionfuse.storage.file_format.signatures import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


__all__ = [
    "ANOTHER",
    "KEY",
    "MULTIARRAY",
    "NUMERIC",
    "SAFE",
    "Calls",
    "atoms",
    "forged",
    "framed",
    "old_format",
    "streamed",
    "untrusted",
]

KEY = SigningKey("a test", b"0123456789abcdef")
ANOTHER = SigningKey("another test", b"fedcba9876543210")
SAFE = PickleAllowlist()
#: Where numpy keeps what its pickles call.
MULTIARRAY: Any = importlib.import_module("numpy._core.multiarray")
NUMERIC: Any = importlib.import_module("numpy._core.numeric")


class Calls:
    """Its pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Take function and arguments."""
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Give them."""
        return self.call


def framed(value: object, workflow: str = "w", node: str = "node", **options: Any) -> bytearray:
    """The bytes of a result file."""
    return bytearray(frame(value, {"workflow": workflow, "node": node}, **options).joined())


def old_format(value: object) -> bytearray:
    """A file of the old published format."""
    return streamed(pickle.dumps(value))


def forged(data: bytearray, old: bytes, new: bytes) -> bytearray:
    """A file altered with knowledge of the format, but not of the key: all checksums are right."""
    size = header_size(bytes(data))
    header, body = data[64:size], data[size:].replace(old, new)
    stream_length = int(header.split(b'"parts":[[')[1].split(b",")[0])
    for checksum in (lambda stream: blake3(stream).hexdigest(), xxh3_128_hexdigest):
        before, after = (checksum(bytes(part[:stream_length])) for part in (data[size:], body))
        header = header.replace(before.encode(), after.encode())
    header = header.replace(old, new)
    start, signature = data[:16], data[32:64]
    digest = xxh3_128_digest(start + signature + header)
    return bytearray(start + digest + signature + header + body)


def untrusted(data: bytearray, trace: Path, match: str, **options: Any) -> None:
    """Assert that a file is refused before anything in it is run."""
    names = {"workflow": "w", "node": "node"} | options
    with pytest.raises(UntrustedResult, match=match) as caught:
        unframe(data, **names)
    assert not trace.exists()
    # a damaged result would be computed again silently
    assert not isinstance(caught.value, CorruptResult)


moments = st.datetimes(timezones=st.none() | st.just(dt.UTC) | st.timezones())
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | moments
    | st.dates()
    | st.timedeltas()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.text("ab/.").map(pathlib.PurePosixPath)
    | st.text("ab/.").map(pathlib.Path)
    | st.sampled_from([int, list, dt.date, np.float64, ..., range(3)])
)


def streamed(stream: bytes) -> bytearray:
    """A file of the old format of a stream that no pickler makes."""
    return bytearray(stream + hashlib.sha1(stream, usedforsecurity=False).digest())
