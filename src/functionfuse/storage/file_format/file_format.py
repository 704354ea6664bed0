"""A result as bytes, and back: self-describing, checked, without a copy of large buffers.

`docs/storage-format.md` describes the format byte by byte.
In short: a prefix, a JSON header that names the parts and their digests, the pickle stream, its buffers.
The prefix holds the digest of itself and of the header, so no byte of a file can change unseen.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import operator
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError, UntrustedResult
from functionfuse.storage.file_format.checksums import BLOCK, blocks, digesting, digests
from functionfuse.storage.file_format.legacy_format import legacy_stream
from functionfuse.storage.file_format.pickle_stream import pickle_value, unpickle_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist
    from functionfuse.storage.file_format.signatures import SigningKey

__all__ = [
    "DEFERRED",
    "PREFIX_SIZE",
    "Frame",
    "check_result_name",
    "check_signature",
    "file_size",
    "frame",
    "header_of",
    "header_size",
    "is_signed",
    "unframe",
]

MAGIC: Final = b"\x89FFUSE\r\n"
VERSION: Final = 2  # 1 was never released
#: Buffers of so many bytes may be checked later than they are read.
DEFERRED: Final = BLOCK
_PREFIX: Final = struct.Struct("<8sII32s32s")
PREFIX_SIZE: Final = _PREFIX.size
_START: Final = struct.Struct("<8sII")  # what stands before the digest
_UNSIGNED: Final = bytes(32)
_ALIGNMENT: Final = 64
_PADDING: Final = bytes(_ALIGNMENT)
_OLD_UNSIGNED: Final = (
    "it is of the old format, which has no signature: "
    "remove it, or read it without a signing_key if you know where it comes from"
)
#: Not as ASCII: two halves of a surrogate pair in a name must not come back as one character.
_to_json: Final = json.JSONEncoder(separators=(",", ":"), default=str, ensure_ascii=False).encode
#: Encodes halves of surrogate pairs, which may be in names, like all other characters.
_SURROGATES: Final = "surrogatepass"


class _Part(NamedTuple):
    """The pickle stream or one of its buffers, in a file that was read."""

    data: memoryview
    padding: memoryview
    digests: list[bytes]  # SHA-256 of each block
    start: int  # where in the file


class Frame:
    """A result file: its head, and the body behind it, which is digested in the background.

    Who writes the body first does not wait. Iterating gives the chunks in their order.
    """

    def __init__(
        self, metadata: Mapping[str, Any], parts: Sequence[memoryview], key: SigningKey | None
    ) -> None:
        """Begin; see `frame`."""
        self._metadata = {**metadata, "codec": "pickle5"}  # as it is now that the value was pickled
        self._key = key
        self._lengths = [len(part) for part in parts]
        self._digests = digesting([piece for part in parts for piece in blocks(part)])
        self.body: list[bytes | memoryview] = []
        for part in parts:
            self.body += (part, _PADDING[: -len(part) % _ALIGNMENT])

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self.head()
        yield from self.body

    def head(self) -> bytes:
        """Prefix and header; waits for the digests."""
        header = self._header(self._digests())
        signature = _UNSIGNED
        if self._key:
            names = self._metadata["workflow"], self._metadata["node"]
            signature = self._key.sign(VERSION, *names, header)
        start = _START.pack(MAGIC, VERSION, len(header))
        return start + _head_digest(start, signature, header) + signature + header

    @property
    def head_size(self) -> int:
        """The length of the head, which is known before it is."""
        unknown = bytes(hashlib.sha256().digest_size)
        return PREFIX_SIZE + len(self._header([unknown] * sum(map(_blocks_of, self._lengths))))

    def _header(self, digests: Sequence[bytes]) -> bytes:
        found = iter(digests)
        table = [
            [length, *(next(found).hex() for _ in range(_blocks_of(length)))]
            for length in self._lengths
        ]
        header = _to_json({**self._metadata, "parts": table}).encode(errors=_SURROGATES)
        return header + b" " * (-(PREFIX_SIZE + len(header)) % _ALIGNMENT)


def frame(
    value: Any,
    metadata: Mapping[str, Any],
    *,
    key: SigningKey | None = None,
    persistent_id: Callable[[Any], Any] | None = None,
) -> Frame:
    """The chunks of a result file, to be written one after the other, or the first one last.

    Args:
        value: The result. Large contiguous buffers in it (arrays) are not copied.
        metadata: What else the header shall say, at least `workflow` and `node`.
            What is no JSON value is kept as text.
            It is looked at after the value was pickled, so it may tell what that wrote elsewhere.
        key: Signs the result, for this workflow and node alone.
        persistent_id: As in `pickle`: gives what stands for an object, or None to pickle it.

    Raises:
        StorageError: The value cannot be pickled.
    """
    parts = pickle_value(value, persistent_id)
    return Frame(metadata, parts, key)


def unframe(  # noqa: PLR0913 - what a reader asks for, each by its name
    data: bytearray | mmap.mmap | memoryview,
    workflow: str,
    node: str,
    *,
    key: SigningKey | None = None,
    allowed: PickleAllowlist | None = None,
    loader: Callable[[Mapping[str, Any] | None], Callable[[Any], Any]] | None = None,
    defer: Callable[[memoryview, bytes, int], None] | None = None,
    verify: bool = True,
) -> Any:
    """The value in a result file; its large arrays live in `data` and can be written to.

    Args:
        data: The whole file.
        workflow: The workflow whose result is asked for.
        node: The node whose result is asked for.
        key: Believe nothing that was not signed with it under these names.
        allowed: Make nothing but objects of these types.
        loader: Takes the verified header (None for the old format) and returns `persistent_load`
            as in `pickle`: the object for a persistent id.
        defer: Takes what is not checked here: a block of a buffer of at least `DEFERRED` bytes,
            its SHA-256, and where it begins in the file.
            Who checks it later looks at the file, not at the block: that one belongs to the reader,
            who may have changed it. With a key nothing is deferred.
        verify: Check buffers as well; header and pickle stream are always checked.
            With a key everything is checked.

    Raises:
        CorruptResult: The bytes are not those that were written, or are another node's result.
        UntrustedResult: They are not signed with the key, or need something that is not allowed.
        StorageError: They are, but cannot be read here.
    """
    view = memoryview(data)
    if bytes(view[: len(MAGIC)]) != MAGIC:
        return _unframe_legacy(view, key, allowed, loader)
    head, signature = _intact_head(view)
    if key:
        key.check(signature, VERSION, workflow, node, head)
        defer, verify = None, True
    header = _fields(head)
    check_result_name(header, workflow, node)
    stream, *buffers = _parts(view, header, PREFIX_SIZE + len(head))
    stream = _private(stream)
    now, later = [stream], list[_Part]()
    for buffer in buffers:
        is_late = not verify or (defer is not None and len(buffer.data) >= DEFERRED)
        (later if is_late else now).append(buffer)
    _check(now, later)
    if defer and verify:
        _defer(later, defer)
    load = loader(header) if loader else None
    return unpickle_value(stream.data, [buffer.data for buffer in buffers], allowed, load)


def check_result_name(header: Mapping[str, Any], workflow: str, node: str) -> None:
    """Refuse the result of another node, which was renamed or copied to this one's name.

    Raises:
        CorruptResult: The header names another workflow or node, or none.
    """
    found = header.get("workflow"), header.get("node")
    if found == (workflow, node):
        return
    if not all(isinstance(name, str) for name in found):
        message = "the header is intact but does not name a workflow and a node"
        raise CorruptResult(message)
    message = (
        f"the file holds the result of node {found[1]!r} of workflow {found[0]!r}: it was renamed "
        "or copied. Rename it back or remove it; to rename a result, read it and save it under "
        "its new name"
    )
    raise CorruptResult(message)


def header_of(start: bytes) -> dict[str, Any] | None:
    """What a result file says of itself; None for the old published format.

    Args:
        start: The beginning of the file, longer than its header.

    Raises:
        CorruptResult: The header is not the one that was written.
        StorageError: It is of another version of the format.
    """
    return _fields(_intact_head(memoryview(start))[0]) if start.startswith(MAGIC) else None


def check_signature(start: bytes, workflow: str, node: str, key: SigningKey) -> None:
    """Verify the signature of a header.

    Args:
        start: As for `header_of`.
        workflow: The workflow whose result is asked for.
        node: The node whose result is asked for.
        key: The key that it must be signed with.

    Raises:
        CorruptResult: The header is not the one that was written.
        UntrustedResult: It is not signed with the key for this workflow and node.
    """
    if not start.startswith(MAGIC):
        raise UntrustedResult(_OLD_UNSIGNED)
    head, signature = _intact_head(memoryview(start))
    key.check(signature, VERSION, workflow, node, head)


def header_size(start: bytes) -> int:
    """How much of a result file `header_of` needs; 0 for the old published format.

    Args:
        start: The first `PREFIX_SIZE` bytes of the file.
    """
    if len(start) < PREFIX_SIZE or not start.startswith(MAGIC):
        return 0
    length: int = _START.unpack_from(start)[2]
    return PREFIX_SIZE + length


def is_signed(start: bytes) -> bool:
    """Tell whether a result file has a signature; whose it is, only the key can tell.

    Args:
        start: The first `PREFIX_SIZE` bytes of a file that is not of the old format.
    """
    return bool(_PREFIX.unpack_from(start)[4] != _UNSIGNED)


def file_size(start: bytes) -> int:
    """How many bytes a result file has if it is whole.

    Args:
        start: As for `header_of`, of a file that is not of the old format.
    """
    lengths = [length for length, _ in _table(_fields(_intact_head(memoryview(start))[0]))]
    return header_size(start) + sum(length + -length % _ALIGNMENT for length in lengths)


def _intact_head(view: memoryview) -> tuple[bytes, bytes]:
    """The header as it is written, and the signature."""
    if len(view) < PREFIX_SIZE:
        message = "the file is cut short"
        raise CorruptResult(message)
    prefix = bytes(view[:PREFIX_SIZE])  # read once: a mapped file may change meanwhile
    _, version, length, digest, signature = _PREFIX.unpack(prefix)
    header = bytes(view[PREFIX_SIZE : PREFIX_SIZE + length])
    if _head_digest(prefix[: _START.size], signature, header) != digest:
        message = "the header does not match its digest"
        raise CorruptResult(message)
    if version != VERSION:
        message = (
            f"it is of version {version} of the format, and this FunctionFuse reads version "
            f"{VERSION}: read it with the FunctionFuse that wrote it, or remove it"
        )
        raise StorageError(message)
    return header, signature


def _head_digest(start: bytes, signature: bytes, header: bytes) -> bytes:
    return hashlib.sha256(start + signature + header).digest()


def _fields(header: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(header.decode(errors=_SURROGATES))
    except (ValueError, RecursionError) as error:
        message = f"the header is intact but not one of ours: {error}"
        raise CorruptResult(message) from error
    if not isinstance(fields, dict):
        message = "the header is intact but not one of ours: it is no JSON object"
        raise CorruptResult(message)
    return fields


def _parts(view: memoryview, header: Mapping[str, Any], end: int) -> list[_Part]:
    """The pickle stream and its buffers, where the header says that they are."""
    parts: list[_Part] = []
    for length, written in _table(header):
        start, stop = end, end + length
        end = stop + -length % _ALIGNMENT
        parts.append(_Part(view[start:stop], view[stop:end], written, start))
    if end != len(view):
        message = f"the file has {len(view)} bytes where its header tells of {end}"
        raise CorruptResult(message)
    return parts


def _private(part: _Part) -> _Part:
    """Copy a part of a mapped file: what is checked must be what is unpickled."""
    if isinstance(part.data.obj, mmap.mmap):
        return part._replace(data=memoryview(bytes(part.data)))
    return part


def _table(header: Mapping[str, Any]) -> list[tuple[int, list[bytes]]]:
    """Length and digests of each part."""
    table = header.get("parts")
    try:
        parts = [
            (operator.index(length), [bytes.fromhex(digest) for digest in written])
            for length, *written in table or ()
        ]
    except (ValueError, TypeError):
        parts = []
    if not parts or any(len(written) != _blocks_of(length) for length, written in parts):
        message = "the header is intact but does not tell the parts of the file"
        raise CorruptResult(message)
    return parts


def _blocks_of(length: int) -> int:
    """How many digests a part has; no part has a negative length."""
    return max(1, -(-length // BLOCK)) if length >= 0 else -1


def _check(parts: Sequence[_Part], paddings: Sequence[_Part]) -> None:
    """Compare the contents of parts, and what is between these and others."""
    found = digests([piece for part in parts for piece in blocks(part.data)])
    if found != [digest for part in parts for digest in part.digests]:
        message = "the contents do not match their digest"
        raise CorruptResult(message)
    if any(bytes(part.padding).strip(b"\0") for part in (*parts, *paddings)):
        message = "there is something between the parts of the file"
        raise CorruptResult(message)


def _defer(parts: Sequence[_Part], defer: Callable[[memoryview, bytes, int], None]) -> None:
    for part in parts:
        for number, piece in enumerate(blocks(part.data)):
            defer(piece, part.digests[number], part.start + number * BLOCK)


def _unframe_legacy(
    view: memoryview,
    key: SigningKey | None,
    allowed: PickleAllowlist | None,
    loader: Callable[[None], Callable[[Any], Any]] | None,
) -> Any:
    stream = legacy_stream(view)
    if key:
        raise UntrustedResult(_OLD_UNSIGNED)
    return unpickle_value(stream, (), allowed, loader(None) if loader else None)
