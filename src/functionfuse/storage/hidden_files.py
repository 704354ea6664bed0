"""Hidden files: small files next to result files, with a checksum and a signature.

A file has a line with its kind and version, a line with the checksum and the signature, and the content.
Both cover the kind, the names of workflow and file, and the content, so a file that was renamed or copied is detected.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from functionfuse.errors import CorruptResult

if TYPE_CHECKING:
    from functionfuse.storage.file_format.signatures import SigningKey

__all__ = ["decode_file", "encode_file"]

_VERSION: Final = 1
#: The version of result files whose algorithm signs hidden files.
_SIGNED_AS: Final = 3
_LENGTH: Final = struct.Struct("<I")
_SECOND_LINE: Final = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{64})\n")
_UNSIGNED: Final = bytes(32)


def encode_file(
    kind: str, workflow: str, name: str, content: bytes, key: SigningKey | None
) -> bytes:
    """The bytes of a hidden file.

    Args:
        kind: A word for the kind of file.
        workflow: The workflow that the file belongs to.
        name: What the file belongs to: a node, or a digest.
        content: The content.
        key: Signs the file, if there is one.
    """
    line = _first_line(kind)
    signature = key.sign(_SIGNED_AS, workflow, name, line + content) if key else _UNSIGNED
    checksum = _checksum(line, workflow, name, content)
    return b"%s%s %s\n%s" % (line, checksum, signature.hex().encode(), content)


def decode_file(kind: str, workflow: str, name: str, data: bytes, key: SigningKey | None) -> bytes:
    """The verified content of a hidden file; arguments as for `encode_file`.

    Raises:
        CorruptResult: The file is damaged, or was not written by `encode_file` for these names.
        UntrustedResult: The file is not signed with the key.
    """
    line = _first_line(kind)
    found = _SECOND_LINE.match(data, len(line))
    content = data[found.end() :] if found else b""
    if (
        found is None
        or not data.startswith(line)
        or found[1] != _checksum(line, workflow, name, content)
    ):
        message = "it does not match its checksum"
        raise CorruptResult(message)
    if key:
        signature = bytes.fromhex(found[2].decode())
        key.check(signature, _SIGNED_AS, workflow, name, line + content)
    return content


def _first_line(kind: str) -> bytes:
    return f"functionfuse {kind} {_VERSION}\n".encode()


def _checksum(line: bytes, workflow: str, name: str, content: bytes) -> bytes:
    import xxhash

    names = (text.encode(errors="surrogatepass") for text in (workflow, name))
    bound = b"".join(_LENGTH.pack(len(text)) + text for text in names)
    return xxhash.xxh3_128_hexdigest(line + bound + content).encode()
