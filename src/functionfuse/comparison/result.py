"""Outcome of a comparison: the nodes that differ between backends, as text, table and exception."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functionfuse._common.tables import Table
from functionfuse.errors import DifferentResults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functionfuse.comparison.mutation import Mutation

__all__ = ["Comparison", "Difference"]

_HEADER: Final = ("node", "written at", "backend", "where", "expected", "actual", "because of")


@dataclass(frozen=True, slots=True)
class Difference:
    """A node whose result on a backend differs from the reference."""

    node: str
    location: str  # "train at pipeline.py:41"
    backend: str
    path: str  # position within the value, like `[0]['loss']`; empty for the whole value
    expected: str  # of the reference
    actual: str
    because_of: str = ""  # a dependency that differs too, or the node that mutated the value

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        reason = f" (because of node {self.because_of!r})" if self.because_of else ""
        return (
            f"node {self.node!r} ({self.location}){where}: expected {self.expected}, "
            f"on {self.backend} it is {self.actual}{reason}"
        )


@dataclass(frozen=True)
class Comparison:
    """The outcome of one graph on several backends; the first one is the reference."""

    backends: tuple[str, ...]
    nodes: int
    differences: tuple[Difference, ...]  # in graph order
    changes: tuple[Mutation, ...]  # arguments that nodes mutate, found on the reference
    unknown: Mapping[str, str]  # reasons by the names of nodes whose results cannot be compared
    #: One line for each node whose fingerprint differs: backends cannot share its stored results.
    fingerprints: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Tell whether no node differs."""
        return not self.differences

    @property
    def first(self) -> Difference | None:
        """The first difference in graph order."""
        return self.differences[0] if self.differences else None

    def raise_if_different(self) -> None:
        """Raise an exception that describes all differences.

        Raises:
            DifferentResults: A node differs; the exception is an AssertionError too.
        """
        if self.differences:
            raise DifferentResults(str(self))

    def __str__(self) -> str:
        parts = [*self._lines(), self._table().text() if self.differences else ""]
        return "\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>\n" for line in self._lines())
        return lines + (self._table().html() if self.differences else "")

    def _lines(self) -> list[str]:
        names = f"{', '.join(self.backends)} ({self.nodes} nodes)"
        first = self.first
        return [
            f"{names}: no node differs" if first is None else f"{names}: the first is {first}",
            *map(str, self.changes),
            *self.fingerprints,
            *[f"node {name!r} cannot be compared: {why}" for name, why in self.unknown.items()],
        ]

    def _table(self) -> Table:
        rows = [
            (each.node, each.location, each.backend, each.path, each.expected, each.actual, because)
            for each in self.differences
            for because in [each.because_of]
        ]
        return Table(_HEADER, rows)
