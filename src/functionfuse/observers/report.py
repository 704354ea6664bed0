"""What became of each step of a run."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from functionfuse._common.tables import Table
from functionfuse._kernel.units import Record, Status
from functionfuse.plan import Action

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from functionfuse.plan import Plan

__all__ = ["Report"]

_HEADER = ("node", "status", "started", "seconds", "worker", "bytes")


@dataclass(frozen=True)
class Report:
    """The records of a run, by node, and the plan that it followed."""

    workflow: str
    plan: Plan
    records: Mapping[str, Record]

    def __getitem__(self, name: str) -> Record:
        return self.records[name]

    def __iter__(self) -> Iterator[Record]:
        return (self.records[name] for name in self.plan.actions if name in self.records)

    def status(self, name: str) -> str:
        """What became of a node, also of one that was left out or not started."""
        if name in self.records:
            return self.records[name].status
        return "skipped" if self.plan.actions[name] is Action.SKIP else "not started"

    def why(self, name: str) -> str:
        """The plan's reason for what became of a node, or the failure for which it was not started."""
        return self._kept_back.get(name) or self.plan[name].reason

    @cached_property
    def _kept_back(self) -> dict[str, str]:
        """Why the nodes were not started that the plan meant to start."""
        failed = self.names("failed")
        if not failed:
            return {}
        cause = dict.fromkeys(failed, "")  # of what failed itself, the plan's reason
        order = self.plan.graph.order
        for node in order:
            if self.status(node.name) == "not started":
                parents = [order[parent].name for parent in node.parents]
                lost = [parent for parent in parents if parent in cause]
                if lost:
                    cause[node.name] = cause[lost[0]] or f"it needs {lost[0]!r}, which failed"
        others = f"nothing was started after {failed[0]!r} had failed"
        names = [node.name for node in order if self.status(node.name) == "not started"]
        return {name: cause.get(name, others) for name in names}

    def names(self, status: Status) -> list[str]:
        """The nodes with this status, in graph order."""
        return [record.name for record in self if record.status == status]

    @property
    def durations(self) -> dict[str, float]:
        """The seconds that each computed node took, by name."""
        records = self.records.values()
        return {record.name: record.seconds for record in records if record.status == "computed"}

    def summary(self) -> str:
        """One line: how many nodes were computed, loaded, skipped and so on."""
        counts = Counter(self.status(name) for name in self.plan.actions)
        order = (*get_args(Status), "skipped", "not started")
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        return f"workflow {self.workflow!r}: {', '.join(parts)}"

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the table as an HTML file."""
        page = f'<!DOCTYPE html>\n<meta charset="utf-8">\n{self._repr_html_()}\n'
        Path(path).write_text(page, encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.summary()}\n\n{self._table().text()}"

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        return Table(_HEADER, [self._row(name) for name in self.plan.actions])

    def _row(self, name: str) -> tuple[str, ...]:
        record = self.records.get(name)
        if record is None:
            return name, self.status(name), "", "", "", ""
        started = time.strftime("%H:%M:%S", time.localtime(record.started))
        nbytes = "" if record.nbytes is None else str(record.nbytes)
        return name, record.status, started, f"{record.seconds:.3f}", record.worker, nbytes
