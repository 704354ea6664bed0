"""Format of result files: writes and reads frames with a header, checksums and out-of-band buffers.

`docs/storage-format.md` describes the format byte by byte.
A file has a prefix, a JSON header with lengths and digests of the parts, the pickle stream, and its buffers.
The prefix has the digest of itself and of the header, so that a change of any byte is detected.
Large buffers are not copied.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import operator
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult, StorageError, UntrustedResult
from functionfuse.storage.file_format.checksums import BLOCK, blocks, digests, start_digests
from functionfuse.storage.file_format.legacy_format import legacy_stream
from functionfuse.storage.file_format.pickle_stream import pickle_value, unpickle_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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
#: Bytes from which on a buffer may be verified after the read.
DEFERRED: Final = BLOCK
_PREFIX: Final = struct.Struct("<8sII32s32s")
PREFIX_SIZE: Final = _PREFIX.size
_START: Final = struct.Struct("<8sII")  # the prefix before the digest
_UNSIGNED: Final = bytes(32)
_ALIGNMENT: Final = 64
_PADDING: Final = bytes(_ALIGNMENT)
_OLD_UNSIGNED: Final = (
    "it has the legacy format, which has no signature: "
    "remove it, or read it without a signing_key if you trust its origin"
)
#: Not as ASCII: two halves of a surrogate pair in a name must not become one character.
_to_json: Final = json.JSONEncoder(separators=(",", ":"), default=str, ensure_ascii=False).encode
#: Encodes halves of surrogate pairs, which names may contain.
_SURROGATES: Final = "surrogatepass"


class _Part(NamedTuple):
    """The pickle stream or one of its buffers in a file."""

    data: memoryview
    padding: memoryview
    digests: list[bytes]  # SHA-256 of each block
    start: int  # offset in the file


class Frame:
    """A result file to write: a head, and a body whose digests are computed in the background.

    Writing the body first avoids waiting for the digests. Iteration yields the chunks in order.
    """

    def __init__(
        self, metadata: Mapping[str, Any], parts: Sequence[memoryview], key: SigningKey | None
    ) -> None:
        """Start the digests; see `frame`."""
        self._metadata = {**metadata, "codec": "pickle5"}  # evaluated after the value was pickled
        self._key = key
        self._lengths = [len(part) for part in parts]
        self._digests = start_digests([piece for part in parts for piece in blocks(part)])
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
        """The length of the head, known before the digests are."""
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
    """Pickle a value into the chunks of a result file.

    Args:
        value: The result. Large contiguous buffers in it (arrays) are not copied.
        metadata: More fields of the header, at least `workflow` and `node`.
            Values outside of JSON are stored as text.
            It is read after the value was pickled, so it may have a field for sidecar files.
        key: Signs the result for this workflow and node.
        persistent_id: As in `pickle`: returns the id of an object, or None to pickle it.

    Raises:
        StorageError: The value cannot be pickled.
    """
    parts = pickle_value(value, persistent_id)
    return Frame(metadata, parts, key)


def unframe(  # noqa: PLR0913 - keyword options of a read
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
    """Verify and unpickle a result file; large arrays of the value are views of `data` and writeable.

    Args:
        data: The whole file.
        workflow: The workflow of the requested result.
        node: The node of the requested result.
        key: Require a signature with this key for these names.
        allowed: Refuse objects of other types.
        loader: Takes the verified header (None for the legacy format) and returns `persistent_load`
            as in `pickle`: the object for a persistent id.
        defer: Called with each block of buffers of at least `DEFERRED` bytes, which is not verified here,
            its SHA-256, and its offset in the file. The later verification has to read the file:
            the reader owns the block and may change it. With a key nothing is deferred.
        verify: Verify buffers too; header and pickle stream are always verified.
            With a key everything is verified.

    Raises:
        CorruptResult: The file is damaged, or has the result of another node.
        UntrustedResult: The file is not signed with the key, or uses types that are not allowed.
        StorageError: The file is intact but cannot be read here.
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
    stream, buffers = _verify(_parts(view, header, PREFIX_SIZE + len(head)), defer, verify=verify)
    load = loader(header) if loader else None
    return unpickle_value(stream.data, [buffer.data for buffer in buffers], allowed, load)


def _verify(
    parts: Iterable[_Part], defer: Callable[[memoryview, bytes, int], None] | None, *, verify: bool
) -> tuple[_Part, list[_Part]]:
    """The pickle stream and the buffers of a file, verified or deferred; see `unframe`."""
    stream, *buffers = parts
    stream = _private(stream)
    now, later = [stream], list[_Part]()
    for buffer in buffers:
        is_late = not verify or (defer is not None and len(buffer.data) >= DEFERRED)
        (later if is_late else now).append(buffer)
    _check(now, later)
    if defer and verify:
        _defer(later, defer)
    return stream, buffers


def check_result_name(header: Mapping[str, Any], workflow: str, node: str) -> None:
    """Raise if a file has the result of another node, which was renamed or copied.

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
        f"the file has the result of node {found[1]!r} of workflow {found[0]!r}: it was renamed "
        "or copied. Rename it back or remove it; to rename a result, read it and save it under "
        "its new name"
    )
    raise CorruptResult(message)


def header_of(start: bytes) -> dict[str, Any] | None:
    """The header of a result file; None for the legacy format.

    Args:
        start: The beginning of the file with the whole header.

    Raises:
        CorruptResult: The header is damaged.
        StorageError: The file has another format version.
    """
    return _fields(_intact_head(memoryview(start))[0]) if start.startswith(MAGIC) else None


def check_signature(start: bytes, workflow: str, node: str, key: SigningKey) -> None:
    """Verify the signature of a header.

    Args:
        start: As for `header_of`.
        workflow: The workflow of the requested result.
        node: The node of the requested result.
        key: The required key.

    Raises:
        CorruptResult: The header is damaged.
        UntrustedResult: The header is not signed with the key for this workflow and node.
    """
    if not start.startswith(MAGIC):
        raise UntrustedResult(_OLD_UNSIGNED)
    head, signature = _intact_head(memoryview(start))
    key.check(signature, VERSION, workflow, node, head)


def header_size(start: bytes) -> int:
    """The bytes of a result file that `header_of` needs; 0 for the legacy format.

    Args:
        start: The first `PREFIX_SIZE` bytes of the file.
    """
    if len(start) < PREFIX_SIZE or not start.startswith(MAGIC):
        return 0
    length: int = _START.unpack_from(start)[2]
    return PREFIX_SIZE + length


def is_signed(start: bytes) -> bool:
    """Whether a result file has a signature; it is not verified, which needs the key.

    Args:
        start: The first `PREFIX_SIZE` bytes of a file in the current format.
    """
    return bool(_PREFIX.unpack_from(start)[4] != _UNSIGNED)


def file_size(start: bytes) -> int:
    """The size of a complete result file in bytes, from its header.

    Args:
        start: As for `header_of`, of a file in the current format.
    """
    lengths = [length for length, _ in _table(_fields(_intact_head(memoryview(start))[0]))]
    return header_size(start) + sum(length + -length % _ALIGNMENT for length in lengths)


def _intact_head(view: memoryview) -> tuple[bytes, bytes]:
    """The bytes of the header after verification of its digest, and the signature."""
    if len(view) < PREFIX_SIZE:
        message = "the file is truncated"
        raise CorruptResult(message)
    prefix = bytes(view[:PREFIX_SIZE])  # read once: a mapped file may change in the meantime
    _, version, length, digest, signature = _PREFIX.unpack(prefix)
    header = bytes(view[PREFIX_SIZE : PREFIX_SIZE + length])
    if _head_digest(prefix[: _START.size], signature, header) != digest:
        message = "the header does not match its checksum"
        raise CorruptResult(message)
    if version != VERSION:
        message = (
            f"it has format version {version}, but this FunctionFuse reads version {VERSION}: "
            "read it with the FunctionFuse that wrote it, or remove it"
        )
        raise StorageError(message)
    return header, signature


def _head_digest(start: bytes, signature: bytes, header: bytes) -> bytes:
    return hashlib.sha256(start + signature + header).digest()


def _fields(header: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(header.decode(errors=_SURROGATES))
    except (ValueError, RecursionError) as error:
        message = f"the header is intact but was not written by FunctionFuse: {error}"
        raise CorruptResult(message) from error
    if not isinstance(fields, dict):
        message = (
            "the header is intact but was not written by FunctionFuse: it is not a JSON object"
        )
        raise CorruptResult(message)
    return fields


def _parts(view: memoryview, header: Mapping[str, Any], end: int) -> list[_Part]:
    """The pickle stream and its buffers, by the table in the header."""
    parts: list[_Part] = []
    for length, written in _table(header):
        start, stop = end, end + length
        end = stop + -length % _ALIGNMENT
        parts.append(_Part(view[start:stop], view[stop:end], written, start))
    if end != len(view):
        message = f"the file has {len(view)} bytes, but its header announces {end}"
        raise CorruptResult(message)
    return parts


def _private(part: _Part) -> _Part:
    """Copy a part of a mapped file, which could change between verification and unpickling."""
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
        message = "the header is intact but does not list the parts of the file"
        raise CorruptResult(message)
    return parts


def _blocks_of(length: int) -> int:
    """The number of digests of a part; -1, which never matches, for a negative length."""
    return max(1, -(-length // BLOCK)) if length >= 0 else -1


def _check(parts: Sequence[_Part], paddings: Sequence[_Part]) -> None:
    """Verify the digests of parts, and the padding of these and other parts."""
    found = digests([piece for part in parts for piece in blocks(part.data)])
    if found != [digest for part in parts for digest in part.digests]:
        message = "the contents do not match their checksum"
        raise CorruptResult(message)
    if any(bytes(part.padding).strip(b"\0") for part in (*parts, *paddings)):
        message = "the padding between the parts of the file is not zero"
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
