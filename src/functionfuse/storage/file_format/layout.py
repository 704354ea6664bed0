"""Layouts: prefix, checksums and signatures of result files, for each version of the format.

`docs/storage-format.md` describes the current version byte by byte.
A file has a prefix, a JSON header with lengths and digests of the parts, the pickle stream, and its buffers.
The prefix has the digest of itself and of the header, so that a change of any byte is detected.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError
from functionfuse.storage.file_format.checksums import blake3, xxh3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functionfuse.storage.file_format.checksums import Algorithm

__all__ = [
    "ALIGNMENT",
    "CHUNK",
    "MAGIC",
    "START_SIZE",
    "SURROGATES",
    "UNSIGNED",
    "VERSION",
    "Head",
    "Layout",
    "header_size",
    "layout_of",
    "pack_head",
    "unpack_head",
]

MAGIC: Final = b"\x89FFUSE\r\n"
VERSION: Final = 3  # 1 and 2 were never released
#: Bytes of a chunk, which has one digest; the last chunk of a part may be smaller.
#: The cache of a processor holds it: its copy finds it there after its digest was computed.
CHUNK: Final = 4 * 2**20
ALIGNMENT: Final = 64
UNSIGNED: Final = bytes(32)
#: Encodes halves of surrogate pairs, which names may contain.
SURROGATES: Final = "surrogatepass"
#: Magic, version, and length of the header, which all versions begin with.
_START: Final = struct.Struct("<8sII")
START_SIZE: Final = _START.size
#: Separates keys of signatures from other keys that are derived from the same secret.
_KEY_CONTEXT: Final = "functionfuse 2026-11-28 signatures of result files"


class Layout(NamedTuple):
    """The layout of a version of the format."""

    version: int
    prefix: struct.Struct  # magic, version, length of the header, digest, signature
    chunk: int  # bytes
    head: Callable[[], Algorithm]  # of prefix and header
    contents: Callable[[Mapping[str, Any]], Algorithm]  # of the chunks, by the header
    mac: Callable[[bytes, bytes], bytes]  # the signature of a message with a secret

    def head_digest(self, start: bytes, signature: bytes, header: bytes) -> bytes:
        """The digest in the prefix."""
        return self.head().digest(start + signature + header)


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
    return _CURRENT


def pack_head(header: bytes, sign: Callable[[bytes], bytes] | None) -> bytes:
    """Prefix and header of a file of the current version."""
    signature = sign(header) if sign else UNSIGNED
    start = _START.pack(MAGIC, VERSION, len(header))
    return start + _CURRENT.head_digest(start, signature, header) + signature + header


def unpack_head(view: memoryview) -> Head:
    """The head of a file, after verification of its digest.

    Raises:
        CorruptResult: The head is damaged.
        StorageError: The file has another version of the format.
    """
    start = bytes(view[: _START.size])
    layout = layout_of(_START.unpack(start)[1] if len(start) == _START.size else VERSION)
    prefix = bytes(
        view[: layout.prefix.size]
    )  # read once: a mapped file may change in the meantime
    if len(prefix) < layout.prefix.size:
        message = "the file is truncated"
        raise CorruptResult(message)
    _, version, length, digest, signature = layout.prefix.unpack(prefix)
    header = bytes(view[layout.prefix.size : layout.prefix.size + length])
    if layout.head_digest(prefix[: _START.size], signature, header) != digest:
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


def _contents(header: Mapping[str, Any]) -> Algorithm:
    """The algorithm that the header names."""
    for algorithm in (xxh3, blake3):
        if header.get("checksums") == algorithm().name:
            return algorithm()
    message = "the header is intact but names no checksum algorithm of this version"
    raise CorruptResult(message)


def _keyed_blake3(secret: bytes, message: bytes) -> bytes:
    start: Any = blake3().start
    key = start(secret, derive_key_context=_KEY_CONTEXT).digest()
    signature: bytes = start(message, key=key).digest()
    return signature


_CURRENT: Final = Layout(
    VERSION, struct.Struct("<8sII16s32s"), CHUNK, xxh3, _contents, _keyed_blake3
)
