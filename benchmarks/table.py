"""The table of all benchmarks: as text that is Markdown too, with the machine that it was made on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PACKAGES: Final = (
    *("functionfuse", "prefect", "ray", "dask", "distributed"),
    *("apache-hamilton", "pipefunc", "joblib", "numpy"),
)
HEADER: Final = ("what", "ours", "least - most", "beside", "theirs", "ratio", "target", "met")
RIGHT: Final = {"ours", "theirs", "least - most", "ratio"}
MET: Final = {True: "yes", False: "**no**", None: ""}


def document(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows, and where and when they were measured."""
    return {"machine": machine(), "rows": list(rows)}


def machine() -> dict[str, Any]:
    """What explains figures, and names no computer."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not on Linux
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, a line for each peer, and how many targets are met."""
    table = Table(box=box.MARKDOWN, pad_edge=False)
    for title in HEADER:
        table.add_column(title, no_wrap=True, justify="right" if title in RIGHT else "left")
    for row in rows:
        for line in _lines(row):
            table.add_row(*line)
    console = Console(width=10_000, color_system=None, markup=False, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    lines = [line.strip() for line in capture.get().splitlines()]
    return "\n".join([*filter(None, lines), "", verdict(rows)])


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many targets are met, and which are not."""
    judged = [row for row in rows if row["met"] is not None]
    missed = [f"{row['subject']}, {row['what']}" for row in judged if not row["met"]]
    counted = f"{len(judged) - len(missed)} of {len(judged)} targets are met"
    return f"{counted}; not: {'; '.join(missed)}." if missed else f"{counted}."


def about(facts: Mapping[str, Any]) -> str:
    """A sentence on where and when."""
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items())
    return (
        f"{facts['date']}, {facts['processor']}, {facts['cores']} cores, {facts['system']}, "
        f"Python {facts['python']}, {packages}; load before the end: {facts['load']}."
    )


def _lines(row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    ours, target = row["ours"], row["target"]
    own = (
        f"{row['subject']}: {row['what']}",
        f"{shown(ours['median'])} {row['unit']}",
        f"{shown(ours['least'])} - {shown(ours['most'])}",
    )
    wanted = (_target(target, row["unit"]), MET[row["met"]])
    peers = row["peers"] or {"": None}
    judged = target["peer"] if target and target["peer"] in peers else next(iter(peers))
    for name, peer in peers.items():
        yield *own, *_peer(row, name, peer), *(wanted if name == judged else ("", ""))
        own = ("", "", "")


def _peer(row: Mapping[str, Any], name: str, peer: Mapping[str, float] | None) -> tuple[str, ...]:
    if peer is None:
        return name, "cannot" if name else "", ""
    ratio = row["ratios"][name]
    worse = " (behind)" if ratio > 1 else ""
    return name, f"{shown(peer['median'])} {row['unit']}", f"{shown(ratio)} x{worse}"


def _target(target: Mapping[str, Any] | None, unit: str) -> str:
    if target is None:
        return ""
    most = shown(target["most"])
    if target["how"] == "ratio":
        return f"<= {most} x"
    if target["how"] == "more" and target["most"] < 0:
        return f">= {shown(-target['most'])} {unit} less"
    if target["how"] == "more":
        return f"<= {most} {unit} more"
    return f"<= {most} {unit}"


def shown(number: float) -> str:
    """A number with three digits that count."""
    if number == 0:
        return "0"
    for least, digits in ((100, 0), (10, 1), (1, 2)):
        if abs(number) >= least:
            return f"{number:,.{digits}f}"
    return f"{number:.3g}"
