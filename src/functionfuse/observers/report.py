"""Run report: status, time and worker of every node."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from functionfuse._common.tables import Table
from functionfuse._kernel.units import Record, Status
from functionfuse.plan import Action

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator, Mapping

    from functionfuse.plan import Plan

__all__ = ["Report"]

_HEADER = ("node", "status", "started", "seconds", "worker", "bytes")


@dataclass(frozen=True)
class Report:
    """The records of a run by node name, and its plan."""

    workflow: str
    plan: Plan
    records: Mapping[str, Record]
    #: Nodes that might have been computed, and whose stored results turned out to be right.
    kept: Collection[str] = ()
    seeds: Mapping[str, int] = field(default_factory=dict)  # of the nodes that have one

    def __getitem__(self, name: str) -> Record:
        return self.records[name]

    def __iter__(self) -> Iterator[Record]:
        return (self.records[name] for name in self.plan.actions if name in self.records)

    def status(self, name: str) -> str:
        """The status of a node, including skipped and not started."""
        if name in self.records:
            return self.records[name].status
        is_skipped = self.plan.actions[name] is Action.SKIP or name in self.kept
        return "skipped" if is_skipped else "not started"

    def why(self, name: str) -> str:
        """The reason of the plan for the action of a node, or the failure because of which it was not started."""
        if name in self.kept:
            return "stored; what it was computed from got the same values again"
        return self._upstream_failures.get(name) or self.plan[name].reason

    @cached_property
    def _upstream_failures(self) -> dict[str, str]:
        """Reasons for planned nodes that were not started."""
        failed = self.names("failed")
        if not failed:
            return {}
        cause = dict.fromkeys(failed, "")  # the failed nodes: `why` uses the plan's reason
        order = self.plan.graph.order
        for node in order:
            if self.status(node.name) == "not started":
                parents = [order[parent].name for parent in node.parents]
                failures = [parent for parent in parents if parent in cause]
                if failures:
                    cause[node.name] = (
                        cause[failures[0]] or f"it depends on {failures[0]!r}, which failed"
                    )
        others = f"nothing was started after {failed[0]!r} had failed"
        names = [node.name for node in order if self.status(node.name) == "not started"]
        return {name: cause.get(name, others) for name in names}

    def names(self, status: Status) -> list[str]:
        """The nodes with this status, in graph order."""
        return [record.name for record in self if record.status == status]

    @property
    def durations(self) -> dict[str, float]:
        """The seconds of the computed nodes, by name."""
        records = self.records.values()
        return {record.name: record.seconds for record in records if record.status == "computed"}

    def summary(self) -> str:
        """One line with the number of nodes for each status."""
        counts = Counter(self.status(name) for name in self.plan.actions)
        order = (*get_args(Status), "skipped", "not started")
        parts = [f"{counts[status]} {status}" for status in order if counts[status]]
        stale = self._stale_results()
        note = f"; {stale} of the results {'is' if stale == 1 else 'are'} stale" if stale else ""
        return f"workflow {self.workflow!r}: {', '.join(parts)}{note}{self._always_run_note()}"

    def _always_run_note(self) -> str:
        """Which loaded results depend on nodes that always run, whose values are not compared."""
        loaded = [record.name for record in self if record.status == "loaded"]
        found = {name: self.plan.always_run_upstream(name) for name in loaded}
        names = [name for name, upstream in found.items() if upstream]
        if not names:
            return ""
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        upstream = found[names[0]]
        return f"; {names[0]!r}{more} loaded, whatever {upstream!r} returns, which always runs"

    def _stale_results(self) -> int:
        """The number of stored results that were used although they are stale."""
        provenance = self.plan.provenance
        if provenance is None:
            return 0
        nodes = self.plan.graph.nodes
        used = [record.name for record in self if record.status == "loaded"]
        return sum(provenance.is_stale(nodes[name].number) for name in (*used, *self.kept))

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the table as an HTML file."""
        page = f'<!DOCTYPE html>\n<meta charset="utf-8">\n{self._repr_html_()}\n'
        Path(path).write_text(page, encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.summary()}\n\n{self._table().text()}"

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        rows = [self._row(name) for name in self.plan.actions]
        header: tuple[str, ...] = _HEADER
        columns = list[dict[str, str]]()
        for title, texts in (("seed", self._seed_texts()), ("why", self._reasons())):
            if texts:
                header = (*header, title)
                columns.append(texts)
        return Table(
            header, [(*row, *(texts.get(row[0], "") for texts in columns)) for row in rows]
        )

    def _seed_texts(self) -> dict[str, str]:
        return {name: str(seed) for name, seed in self.seeds.items()}

    def _reasons(self) -> dict[str, str]:
        """The reasons of the plan for the nodes whose stored results it compared."""
        provenance, nodes = self.plan.provenance, self.plan.graph.nodes
        if provenance is None:
            return {}
        compared = [name for name, node in nodes.items() if provenance.is_compared(node.number)]
        return {name: self.why(name) for name in compared}

    def _row(self, name: str) -> tuple[str, ...]:
        record = self.records.get(name)
        if record is None:
            return name, self.status(name), "", "", "", ""
        started = time.strftime("%H:%M:%S", time.localtime(record.started))
        nbytes = "" if record.nbytes is None else str(record.nbytes)
        return name, record.status, started, f"{record.seconds:.3f}", record.worker, nbytes
