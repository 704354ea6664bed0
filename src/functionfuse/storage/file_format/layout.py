"""Layout of result files: prefix, checksums and signature of a version of the format, and the current one.

`docs/storage-format.md` describes the current version byte by byte.
A file has a prefix, a JSON header with lengths and digests of the parts, the pickle stream, and its buffers.
The prefix has the digest of itself and of the header, so that a change of any byte is detected.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult
from functionfuse.storage.file_format.checksums import blake3, xxh3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functionfuse.storage.file_format.checksums import Algorithm

__all__ = [
    "ALIGNMENT",
    "CHUNK",
    "CURRENT",
    "MAGIC",
    "SURROGATES",
    "UNSIGNED",
    "VERSION",
    "Layout",
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


def _contents(header: Mapping[str, Any]) -> Algorithm:
    """The algorithm that the header names."""
    match header.get("checksums"):
        case "xxh3-128":
            return xxh3()
        case "blake3":
            return blake3()
    message = "the header is intact but names no checksum algorithm of this version"
    raise CorruptResult(message)


def _keyed_blake3(secret: bytes, message: bytes) -> bytes:
    start: Any = blake3().start
    signature: bytes = start(message, key=_derived_key(secret)).digest()
    return signature


@functools.lru_cache(maxsize=8)
def _derived_key(secret: bytes) -> bytes:
    start: Any = blake3().start
    key: bytes = start(secret, derive_key_context=_KEY_CONTEXT).digest()
    return key


CURRENT: Final = Layout(
    VERSION, struct.Struct("<8sII16s32s"), CHUNK, xxh3, _contents, _keyed_blake3
)
