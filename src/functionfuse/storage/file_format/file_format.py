"""Reader of result files: verifies head, parts and padding, and unpickles the value.

`layout` describes the versions, `frame` writes files.
"""

from __future__ import annotations

import json
import mmap
import operator
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import CorruptResult, UntrustedResult
from functionfuse.storage.file_format.checksums import close_digests, digests, split
from functionfuse.storage.file_format.head import header_size, unpack_head
from functionfuse.storage.file_format.layout import (
    ALIGNMENT,
    MAGIC,
    SURROGATES,
    UNSIGNED,
)
from functionfuse.storage.file_format.legacy_format import legacy_stream
from functionfuse.storage.file_format.pickle_stream import unpickle_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from functionfuse.storage.file_format.checksums import Algorithm
    from functionfuse.storage.file_format.head import Head
    from functionfuse.storage.file_format.layout import Layout
    from functionfuse.storage.file_format.restricted_unpickler import PickleAllowlist
    from functionfuse.storage.file_format.signatures import SigningKey

    Defer = Callable[["Chunk"], None]
    Load = Callable[[int, int], None]

__all__ = [
    "DEFERRED",
    "Chunk",
    "check_result_name",
    "check_signature",
    "file_size",
    "header_of",
    "header_size",
    "is_signed",
    "unframe",
]

#: Bytes from which on a buffer may be verified after the read.
DEFERRED: Final = 16 * 2**20
#: Bytes that are loaded first: nearly all headers are shorter.
_GUESS: Final = 2**16
_OLD_UNSIGNED: Final = (
    "it has the legacy format, which has no signature: "
    "remove it, or read it without a signing_key if you trust its origin"
)
_WEAK: Final = (
    "it is signed, but its checksums are not cryptographic: its contents may be forged. Remove it"
)


_from_json: Final = json.JSONDecoder().decode
_new: Final = tuple.__new__  # of a named tuple: half of the time of its own


class Chunk(NamedTuple):
    """A piece of a part, with the digest in the header."""

    data: memoryview
    start: int  # offset in the file
    digest: bytes
    algorithm: Algorithm


class _Part(NamedTuple):
    """The pickle stream or one of its buffers in a file."""

    data: memoryview
    padding: memoryview
    chunks: list[Chunk]


def unframe(  # noqa: PLR0913 - keyword options of a read
    data: bytearray | mmap.mmap | memoryview,
    workflow: str,
    node: str,
    *,
    key: SigningKey | None = None,
    allowed: PickleAllowlist | None = None,
    loader: Callable[[Mapping[str, Any] | None], Callable[[Any], Any]] | None = None,
    defer: Defer | None = None,
    load: Load | None = None,
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
        defer: Called with each chunk of buffers of at least `DEFERRED` bytes, which is not verified here.
            The later verification has to read the file: the reader owns the chunk and may change it.
            With a key nothing is deferred.
        load: Reads a range of bytes of the file into `data`, from several threads; None: all are there.
        verify: Verify buffers too; header and pickle stream are always verified.
            With a key everything is verified.

    Raises:
        CorruptResult: The file is damaged, or has the result of another node.
        UntrustedResult: The file is not signed with the key, or uses types that are not allowed.
        StorageError: The file is intact but cannot be read here.
    """
    view = _with_head(data, load)
    if bytes(view[: len(MAGIC)]) != MAGIC:
        return _unframe_legacy(view, key, allowed, loader)
    head = unpack_head(view)
    header = _trusted_fields(head, workflow, node, key)
    is_mapped = load is None and isinstance(view.obj, mmap.mmap)
    parts = _parts(view, head, header, is_private=not is_mapped)
    if key:
        defer, verify = None, True
    stream, buffers = _verify(parts, defer, load, verify=verify)
    return unpickle_value(stream, buffers, allowed, loader(header) if loader else None)


def _trusted_fields(head: Head, workflow: str, node: str, key: SigningKey | None) -> dict[str, Any]:
    """The fields of a header that is signed, if there is a key, and has the requested names."""
    if key:
        key.check(head.signature, head.layout.version, workflow, node, head.header)
    header = _fields(head.header)
    check_result_name(header, workflow, node)
    if key and not head.layout.contents(header).is_cryptographic:
        raise UntrustedResult(_WEAK)
    return header


def _with_head(data: bytearray | mmap.mmap | memoryview, load: Load | None) -> memoryview:
    """The file, with loaded prefix and header; with all of its bytes if it has the legacy format."""
    view = memoryview(data)
    if load:
        guess = min(_GUESS, len(view))
        load(0, guess)
        size = header_size(bytes(view[:guess])) or len(view)
        if size > guess:
            load(0, min(size, len(view)))
    return view


def _verify(
    parts: Iterable[_Part], defer: Defer | None, load: Load | None, *, verify: bool
) -> tuple[memoryview, list[memoryview]]:
    """The pickle stream and the buffers of a file, verified or deferred; see `unframe`."""
    stream, *buffers = parts
    now, later = [stream], list[_Part]()
    for buffer in buffers:
        is_late = not verify or (defer is not None and len(buffer.data) >= DEFERRED)
        (later if is_late else now).append(buffer)
    for chunk in _chunks_of(later):
        _load_chunk(chunk, load)
    _check(now, later, load)
    if defer and verify:
        for chunk in _chunks_of(later):
            defer(chunk)
    return stream.data, [buffer.data for buffer in buffers]


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
    return _fields(unpack_head(memoryview(start)).header) if start.startswith(MAGIC) else None


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
    head = unpack_head(memoryview(start))
    key.check(head.signature, head.layout.version, workflow, node, head.header)


def is_signed(start: bytes) -> bool:
    """Whether a result file has a signature; it is not verified, which needs the key.

    Args:
        start: As for `header_of`, not of the legacy format.
    """
    return unpack_head(memoryview(start)).signature != UNSIGNED


def file_size(start: bytes) -> int:
    """The size of a complete result file in bytes, from its header.

    Args:
        start: As for `header_of`, not of the legacy format.
    """
    head = unpack_head(memoryview(start))
    lengths = [length for length, _ in _table(_fields(head.header), head.layout)]
    return head.size + sum(length + -length % ALIGNMENT for length in lengths)


def _fields(header: bytes) -> dict[str, Any]:
    try:
        fields = _from_json(header.decode(errors=SURROGATES))
    except (ValueError, RecursionError) as error:
        message = f"the header is intact but was not written by FunctionFuse: {error}"
        raise CorruptResult(message) from error
    if not isinstance(fields, dict):
        message = (
            "the header is intact but was not written by FunctionFuse: it is not a JSON object"
        )
        raise CorruptResult(message)
    return fields


def _parts(
    view: memoryview, head: Head, header: Mapping[str, Any], *, is_private: bool
) -> list[_Part]:
    """The pickle stream and its buffers, by the table in the header.

    Args:
        view: The whole file.
        head: Its prefix and header.
        header: The fields of the header.
        is_private: No other process can change the bytes. Otherwise the stream is copied: it could
            change between verification and unpickling.
    """
    algorithm, parts, end = head.layout.contents(header), list[_Part](), head.size
    for length, written in _table(header, head.layout):
        start, stop = end, end + length
        end = stop + -length % ALIGNMENT
        data = view[start:stop]
        if not parts and not is_private:
            data = memoryview(bytes(data))
        if len(written) == 1:  # nearly all parts
            chunks = [_new(Chunk, (data, start, written[0], algorithm))]
        else:
            size = head.layout.chunk
            pieces = zip(split(data, size), count(start, size), written, strict=False)
            chunks = [Chunk(piece, offset, digest, algorithm) for piece, offset, digest in pieces]
        parts.append(_new(_Part, (data, view[stop:end], chunks)))
    if end != len(view):
        message = f"the file has {len(view)} bytes, but its header announces {end}"
        raise CorruptResult(message)
    return parts


def _table(header: Mapping[str, Any], layout: Layout) -> list[tuple[int, list[bytes]]]:
    """Length and digests of each part."""
    table = header.get("parts")
    try:
        parts = [
            (operator.index(length), [bytes.fromhex(digest) for digest in written])
            for length, *written in table or ()
        ]
    except (ValueError, TypeError):
        parts = []
    if not parts or [len(written) for _, written in parts] != [
        _count(length, layout) for length, _ in parts
    ]:
        message = "the header is intact but does not list the parts of the file"
        raise CorruptResult(message)
    return parts


def _count(length: int, layout: Layout) -> int:
    """The number of digests of a part; -1, which never matches, for a negative length."""
    return max(1, -(-length // layout.chunk)) if length >= 0 else -1


def _check(parts: Sequence[_Part], paddings: Sequence[_Part], load: Load | None) -> None:
    """Verify the digests of parts, and the padding of these and other parts."""
    chunks = _chunks_of(parts)
    pieces = [chunk.data for chunk in chunks]

    def fill(index: int) -> None:
        _load_chunk(chunks[index], load)

    found = digests(chunks[0].algorithm, pieces, fill if load else None)
    try:
        if any(map(operator.ne, found, [chunk.digest for chunk in chunks])):
            message = "the contents do not match their checksum"
            raise CorruptResult(message)
    finally:
        close_digests(found)
    if b"".join([part.padding for part in (*parts, *paddings)]).strip(b"\0"):
        message = "the padding between the parts of the file is not zero"
        raise CorruptResult(message)


def _chunks_of(parts: Sequence[_Part]) -> list[Chunk]:
    return [chunk for part in parts for chunk in part.chunks]


def _load_chunk(chunk: Chunk, load: Load | None) -> None:
    """Load a chunk, and the padding behind it if it is the last one of its part."""
    if load:
        length = len(chunk.data)
        load(chunk.start, chunk.start + length + -length % ALIGNMENT)


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
