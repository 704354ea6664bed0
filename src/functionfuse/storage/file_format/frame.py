"""Frames: result files to write, whose checksums are computed while they are written.

Large buffers are not copied. The body comes first, after the space for the head, which has the checksums.
"""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from functionfuse.storage.file_format.checksums import (
    blake3,
    close_digests,
    digests,
    split,
    xxh3,
)
from functionfuse.storage.file_format.head import pack_head
from functionfuse.storage.file_format.layout import (
    ALIGNMENT,
    CHUNK,
    CURRENT,
    SURROGATES,
    VERSION,
)
from functionfuse.storage.file_format.pickle_stream import pickle_value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from functionfuse.storage.file_format.signatures import SigningKey

__all__ = ["Frame", "frame"]

_PADDING: Final = bytes(ALIGNMENT)
_LENGTH: Final = struct.Struct("<Q")
#: Not as ASCII: two halves of a surrogate pair in a name must not become one character.
#: Fields are made for one header, so that looking for circular references is wasted time.
_to_json: Final = json.JSONEncoder(
    separators=(",", ":"), default=str, ensure_ascii=False, check_circular=False
).encode
_VALUE_DIGITS: Final = 32
_PREFIX_SIZE: Final = CURRENT.prefix.size


class Frame:
    """A result file to write. `body` is written first; `head` and `value` exist after it."""

    def __init__(
        self, metadata: Mapping[str, Any], parts: Sequence[memoryview], key: SigningKey | None
    ) -> None:
        """Compute nothing yet; see `frame`."""
        self._metadata = metadata
        self._parts = parts
        self._key = key
        #: With a key, no other chunk may have the same digest, on purpose either.
        self._algorithm = blake3() if key else xxh3()
        self._digests: list[bytes] = []
        self.body_size = sum(len(part) + -len(part) % ALIGNMENT for part in parts)
        self.value: str | None = None

    def body(self) -> Generator[memoryview | bytes]:
        """The chunks of the body in order, each after its digest was computed: its copy finds it in the cache.

        Exhaust or close it.
        """
        chunks = [split(part, CHUNK) for part in self._parts]
        found = digests(self._algorithm, [chunk for part in chunks for chunk in part])
        self._digests = []
        try:
            for pieces in chunks:
                for piece in pieces:
                    self._digests.append(next(found))
                    yield piece
                if padding := -len(pieces[-1]) % ALIGNMENT:
                    yield _PADDING[:padding]
        finally:
            close_digests(found)

    def head(self) -> bytes:
        """Prefix and header of a body that was written."""
        objects = "objects" in self._metadata  # files that these digests do not cover
        self.value = None if objects else self._value_digest()
        header = self._header(self._digests, self.value)
        if self._key is None:
            return pack_head(header, None)
        names = self._metadata["workflow"], self._metadata["node"]
        return pack_head(header, partial(self._key.sign, VERSION, *names))

    def joined(self) -> bytes:
        """The whole file."""
        body = [*self.body()]
        return b"".join([self.head(), *body])

    def head_size(self) -> int:
        """The length of the head, before the body is written."""
        unknown = [bytes(self._algorithm.size)] * sum(map(_chunks_of, self._parts))
        objects = "objects" in self._metadata
        return _PREFIX_SIZE + len(self._header(unknown, None if objects else "0" * _VALUE_DIGITS))

    def _value_digest(self) -> str:
        lengths = b"".join([_LENGTH.pack(len(part)) for part in self._parts])
        return xxh3().digest(lengths + b"".join(self._digests)).hex()

    def _header(self, digests: Sequence[bytes], value: str | None) -> bytes:
        found = iter(digests)
        table = [
            [len(part), *(next(found).hex() for _ in range(_chunks_of(part)))]
            for part in self._parts
        ]
        fields = {
            **self._metadata,
            "codec": "pickle5",
            "checksums": self._algorithm.name,
            "value": value,
            "parts": table,
        }
        header = _to_json(fields).encode(errors=SURROGATES)
        return header + b" " * (-(_PREFIX_SIZE + len(header)) % ALIGNMENT)


def frame(
    value: Any,
    metadata: Mapping[str, Any],
    *,
    key: SigningKey | None = None,
    persistent_id: Callable[[Any], Any] | None = None,
) -> Frame:
    """Pickle a value into a result file.

    Args:
        value: The result. Large contiguous buffers in it (arrays) are not copied.
        metadata: More fields of the header, at least `workflow` and `node`.
            Values outside of JSON are stored as text.
            It is read after the value was pickled, so it may have a field for sidecar files, `objects`.
        key: Signs the result for this workflow and node.
        persistent_id: As in `pickle`: returns the id of an object, or None to pickle it.

    Raises:
        StorageError: The value cannot be pickled.
    """
    parts = pickle_value(value, persistent_id)
    return Frame({**metadata}, parts, key)


def _chunks_of(part: memoryview) -> int:
    return max(1, -(-len(part) // CHUNK))
