"""Heads of result files: pack and unpack prefix and header, in the layout of their version."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.layout import CURRENT, MAGIC, UNSIGNED, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from functionfuse.storage.file_format.layout import Layout

__all__ = ["START_SIZE", "Head", "header_size", "layout_of", "pack_head", "unpack_head"]

#: Magic, version, and length of the header, which all versions begin with.
_START: Final = struct.Struct("<8sII")
START_SIZE: Final = _START.size
_LONGEST: Final = 80  # bytes of a prefix, of any version


class Head(NamedTuple):
    """Prefix and header of a file, whose digest matches."""

    layout: Layout
    signature: bytes
    header: bytes

    @property
    def size(self) -> int:
        """The length of prefix and header."""
        return self.layout.prefix.size + len(self.header)


def layout_of(version: int) -> Layout:
    """The layout of a version; prefixes of unknown versions are those of the current one."""
    if version == 2:  # noqa: PLR2004
        from functionfuse.storage.file_format.layout_version_2 import LAYOUT

        return LAYOUT
    return CURRENT


def pack_head(header: bytes, sign: Callable[[bytes], bytes] | None) -> bytes:
    """Prefix and header of a file of the current version."""
    signature = sign(header) if sign else UNSIGNED
    start = _START.pack(MAGIC, VERSION, len(header))
    return start + CURRENT.head_digest(start, signature, header) + signature + header


def unpack_head(view: memoryview) -> Head:
    """The head of a file, after verification of its digest.

    Raises:
        CorruptResult: The head is damaged.
        StorageError: The file has another version of the format.
    """
    prefix = bytes(view[:_LONGEST])  # read once: a mapped file may change in the meantime
    layout = layout_of(int.from_bytes(prefix[8:12], "little"))
    size = layout.prefix.size
    if len(prefix) < size:
        message = "the file is truncated"
        raise CorruptResult(message)
    _, version, length, digest, signature = layout.prefix.unpack_from(prefix)
    header = bytes(view[size : size + length])
    if layout.head_digest(prefix[:START_SIZE], signature, header) != digest:
        message = "the header does not match its checksum"
        raise CorruptResult(message)
    if version != layout.version:
        message = (
            f"it has format version {version}, but this FunctionFuse reads versions 2 and {VERSION}: "
            "read it with the FunctionFuse that wrote it, or remove it"
        )
        raise StorageError(message)
    return Head(layout, signature, header)


def header_size(start: bytes) -> int:
    """The length of prefix and header of a file; 0 for the legacy format.

    Args:
        start: The first `START_SIZE` bytes of the file, or more.
    """
    if len(start) < _START.size or not start.startswith(MAGIC):
        return 0
    _, version, length = _START.unpack_from(start)
    return int(layout_of(version).prefix.size + length)
