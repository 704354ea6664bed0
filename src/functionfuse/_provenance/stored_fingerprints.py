"""Headers of stored results, read once for a plan and in batches, with their fingerprints."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from functionfuse._provenance.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

__all__ = [
    "Derivations",
    "HeaderSource",
    "StoredFingerprint",
    "StoredFingerprints",
    "combined_digest",
]


def combined_digest(*parts: str) -> str:
    """One digest of several texts."""
    import xxhash  # late: only runs with a storage need it

    return xxhash.xxh3_128_hexdigest("\0".join(parts).encode("utf-8", "surrogatepass"))


class HeaderSource(Protocol):
    """Reads headers and code texts of one workflow; `Results` does."""

    def headers(self, names: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """The headers of stored results by name; missing and damaged ones are absent."""

    def read_source(self, digest: str) -> str | None:
        """The stored text of a part of the code."""


class Derivations(NamedTuple):
    """Both derivations of a result."""

    derivation: str
    graph: str


#: The header of a result that is damaged, not trusted or removed since it was listed.
_UNREADABLE: Final[Mapping[str, Any]] = MappingProxyType({})


class StoredFingerprint(NamedTuple):
    """What the header of a stored result says about its provenance."""

    fingerprint: Fingerprint | None
    header: Mapping[str, Any]

    @property
    def is_readable(self) -> bool:
        """Whether the header can be read; otherwise the run finds the damage when it loads the result."""
        return self.header is not _UNREADABLE

    @property
    def digest(self) -> str | None:
        """The digest of the value; None where values have none."""
        digest = self.header.get("value")
        return digest if isinstance(digest, str) else None

    @property
    def seconds(self) -> float:
        """The seconds that the computation took; 0 if unknown."""
        seconds = self.header.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    @property
    def without_fingerprint(self) -> str:
        """In place of a derivation: a digest that tells which file it is."""
        return combined_digest(
            "without fingerprint", str(self.digest or self.header.get("created"))
        )


class StoredFingerprints:
    """The fingerprints of the results that are stored now."""

    def __init__(self, source: HeaderSource, names: Container[str]) -> None:
        """Read nothing yet.

        Args:
            source: Reads headers.
            names: The names of the stored results.
        """
        self.source = source
        self._names = names
        self._read: dict[str, StoredFingerprint | None] = {}

    def read(self, names: Iterable[str]) -> None:
        """Read the headers of some results, in one call of the storage."""
        wanted = [name for name in names if name in self._names and name not in self._read]
        headers = self.source.headers(wanted) if wanted else {}
        for name in wanted:
            self._read[name] = _stored(headers.get(name, _UNREADABLE))

    def get(self, name: str) -> StoredFingerprint | None:
        """The stored fingerprint of a node; None if no result is stored."""
        if name not in self._read:
            self.read((name,))
        return self._read.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._names


def _stored(header: Mapping[str, Any]) -> StoredFingerprint:
    return StoredFingerprint(Fingerprint.from_header(header.get("fingerprint")), header)
