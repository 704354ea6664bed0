"""Provenance of one run: the fingerprints with which its results are stored, made of what was used."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["RunProvenance"]


class RunProvenance(Protocol):
    """What the scheduler asks about fingerprints; nodes are given by number.

    A fingerprint is made of the results that were really used: call `stamp` and `keep` in an order
    in which parents come before their dependents.
    """

    def stamp(self, number: int) -> dict[str, Any] | None:
        """Return the header field `fingerprint` with which a node that is submitted now is stored.

        From now on the node counts as computed in this run, also if it was planned to be loaded or kept.
        None for nodes that are not stored: instances, and nodes that always run.
        """

    def keep(self, number: int) -> dict[str, Any]:
        """Return the header field with which the stored result of a `MAYBE` node is re-stamped.

        Call it when all stale parents got the values that they replace: the result counts as loaded from now on.
        """

    def stale_parents(self, number: int) -> list[int]:
        """The parents for which a `MAYBE` node waits: it is kept if all of them get the values that they replace."""

    def replaced_digest(self, number: int) -> str | None:
        """The digest of the stored value that a computed node replaces; None if it has none."""

    def expected(self, number: int) -> str:
        """The derivation that the current graph and code give a node."""

    def may_load(self, number: int) -> bool:
        """Tell whether the stored result of a node may be loaded in this run.

        For recovery, which loads results that the plan did not need: a stale result is not loaded again.
        """
