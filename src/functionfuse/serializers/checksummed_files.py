"""Checksummed sidecar files: write a file with its digest, and verify it on reading."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from functionfuse.errors import CorruptResult
from functionfuse.serializers.base import generate_name

if TYPE_CHECKING:
    from functionfuse.serializers.base import ResultFolder

__all__ = ["read_file", "write_file"]


def write_file(folder: ResultFolder, ending: str, data: bytes | memoryview) -> tuple[str, str]:
    """Write a file; returns its name and its digest, which the result file stores."""
    name = f"{generate_name()}.{ending}"
    folder.write_bytes(name, data)
    return name, hashlib.sha256(data).hexdigest()


def read_file(folder: ResultFolder, name: str, digest: str) -> bytes:
    """Read and verify a file.

    Raises:
        CorruptResult: The file is damaged or missing.
    """
    try:
        data = folder.read_bytes(name)
    except FileNotFoundError:
        message = f"{folder.path}/{name} is missing"
        raise CorruptResult(message) from None
    if hashlib.sha256(data).hexdigest() != digest:
        message = f"{folder.path}/{name} does not match its checksum"
        raise CorruptResult(message)
    return data
