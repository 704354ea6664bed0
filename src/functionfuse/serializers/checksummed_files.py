"""Single files in a result's folder, of which no byte changes unseen."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from functionfuse.errors import CorruptResult
from functionfuse.serializers.base import generate_name

if TYPE_CHECKING:
    from functionfuse.serializers.base import ResultFolder

__all__ = ["read_file", "write_file"]


def write_file(folder: ResultFolder, ending: str, data: bytes | memoryview) -> tuple[str, str]:
    """Write a file; returns its name and its digest, which belong into the result file."""
    name = f"{generate_name()}.{ending}"
    folder.write_bytes(name, data)
    return name, hashlib.sha256(data).hexdigest()


def read_file(folder: ResultFolder, name: str, digest: str) -> bytes:
    """The bytes of a file.

    Raises:
        CorruptResult: They are not those that were written, or the file is gone.
    """
    try:
        data = folder.read_bytes(name)
    except FileNotFoundError:
        message = f"{folder.path}/{name} is missing"
        raise CorruptResult(message) from None
    if hashlib.sha256(data).hexdigest() != digest:
        message = f"{folder.path}/{name} is not what was written"
        raise CorruptResult(message)
    return data
