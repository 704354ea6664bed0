"""Garbage-collection candidates: sidecar folders that may no longer belong to a result.

The sidecar folder of a replaced result stays for a grace period: a reader may hold the earlier result.
The name of a marker file has the folder and the time since when it is a candidate: one listing finds all due ones.
The marker of a replaced result contains the start of its file, from which serializers learn what they wrote to
other places. There are no locks: a collection first checks whether the result names the folder.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functionfuse.errors import OptionError

if TYPE_CHECKING:
    from functionfuse.storage.backends.sidecar_folders import SidecarFolder

__all__ = ["CANDIDATES", "DAY", "TOKEN", "Candidate", "Candidates", "check_grace"]

#: The folder of the markers, next to the sidecar folders: no result file begins with a dot.
CANDIDATES: Final = ".candidates"
#: Seconds that no save exceeds.
DAY: Final = 24 * 60 * 60.0
#: The name of a sidecar folder.
TOKEN: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MARKER: Final = re.compile(rf"([ru])([0-9a-f]{{12}})-({TOKEN.pattern})-(.+)", re.DOTALL)


class Candidate(NamedTuple):
    """A sidecar folder and its marker."""

    marker: str
    replaced: bool  # by a later result; otherwise it may belong to a save that is still running
    since: float  # seconds since 1970
    token: str
    file: str  # of the result

    def is_due(self, grace: float) -> bool:
        """Whether the folder may be deleted unless the result names it."""
        return self._age >= (grace if self.replaced else max(grace, DAY))

    def has_no_pending_save(self, grace: float) -> bool:
        """Whether every save has ended that was running when the folder became a candidate."""
        return self._age >= max(grace, DAY)

    @property
    def _age(self) -> float:
        return time.time() - self.since


class Candidates:
    """The candidates of one workflow."""

    def __init__(self, sidecars: SidecarFolder) -> None:
        """Use the folder with the sidecar folders of all results of the workflow."""
        self._sidecars = sidecars

    @property
    def _folder(self) -> SidecarFolder:
        # a new object for each access: markers do not depend on each other, so when another process removes
        # the workflow between two writes, the second one makes the folder again instead of failing
        return self._sidecars.inner(CANDIDATES)

    def all(self) -> list[Candidate]:
        """All candidates, by one listing; other files are ignored."""
        found = map(_MARKER.fullmatch, self._folder.names())
        return [_candidate(match) for match in found if match]

    def add(self, token: str, file: str, start: bytes | None = None) -> str:
        """Write a marker for a sidecar folder; returns the name of the marker.

        Args:
            token: The name of the sidecar folder.
            file: The result file.
            start: Prefix and header of the replaced result; None if unknown.
        """
        kind = "u" if start is None else "r"
        marker = f"{kind}{int(time.time() * 1000):012x}-{token}-{file}"
        self._folder.write_bytes(marker, start or b"")
        return marker

    def start(self, candidate: Candidate) -> bytes:
        """Prefix and header of the replaced result; empty if unknown."""
        return self._folder.read_bytes(candidate.marker) if candidate.replaced else b""

    def drop(self, marker: str) -> None:
        """Remove a marker."""
        self._folder.remove(marker)


def check_grace(grace: Any) -> None:
    """Validate the option `grace`.

    Raises:
        OptionError: The value is not a number of seconds.
    """
    if type(grace) not in (int, float) or not grace >= 0:
        message = f"grace must be a number of seconds, 0 or more, not {grace!r}"
        raise OptionError(message)


def _candidate(match: re.Match[str]) -> Candidate:
    kind, milliseconds, token, file = match.groups()
    return Candidate(match.group(), kind == "r", int(milliseconds, 16) / 1000, token, file)
