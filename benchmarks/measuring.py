"""What all benchmarks share: taking turns, the rows, and how one of them is started."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from table import document, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
OURS: Final = "ours"


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    repeats: int = 5
    scale: float = 1.0  # of all sizes: a small one only tries whether a benchmark works
    long: bool = False  # also what takes many minutes
    folder: str | None = None  # where files go; None: temporary folders

    def size(self, full: int, least: int = 40) -> int:
        """A number of nodes, or of whatever there are many of."""
        return max(round(full * self.scale), min(least, full))


@dataclass(frozen=True, slots=True)
class Figure:
    """What several runs of one thing took, in the unit of their row."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        """Make it of what each run took."""
        taken = sorted(values)
        return cls(statistics.median(taken), taken[0], taken[-1], len(taken))


@dataclass(frozen=True, slots=True)
class Target:
    """The most that ours may be: by itself, as a multiple of a peer, or more than it."""

    most: float
    peer: str = ""
    how: Literal["itself", "ratio", "more"] = "itself"

    def is_met(self, ours: Figure, peers: Mapping[str, Figure | None]) -> bool | None:
        """Tell whether it is; None if the peer was not measured."""
        if self.how == "itself":
            return ours.median <= self.most
        peer = peers.get(self.peer)
        if peer is None:
            return None
        if self.how == "more":
            return ours.median - peer.median <= self.most
        return ours.median <= self.most * peer.median


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. A peer that is None cannot do it."""

    subject: str
    what: str
    unit: str
    ours: Figure
    peers: Mapping[str, Figure | None] = field(default_factory=dict)
    target: Target | None = None

    @classmethod
    def of(  # noqa: PLR0913 - the fields of a row
        cls,
        subject: str,
        what: str,
        unit: str,
        taken: Mapping[str, Sequence[float] | None],
        target: Target | None = None,
        ours: str = OURS,
    ) -> Row:
        """Make it of what each contestant took."""
        figures = {name: values and Figure.of(values) for name, values in taken.items()}
        own = figures.pop(ours)
        assert own
        return cls(subject, what, unit, own, figures, target)  # type: ignore[arg-type]

    def described(self) -> dict[str, Any]:
        """The row as JSON, with what follows from it."""
        ratios = {
            name: peer.median and self.ours.median / peer.median
            for name, peer in self.peers.items()
            if peer
        }
        met = self.target.is_met(self.ours, self.peers) if self.target else None
        return {**asdict(self), "ratios": ratios, "met": met}


def timed(work: Callable[[], object], scale: float = 1.0) -> Callable[[], float]:
    """Something that does the work and says how long it took: the seconds, times `scale`."""

    def measure() -> float:
        gc.collect()  # what an earlier contestant has left is not this one's
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * scale

    return measure


def checked(work: Callable[[], T], expected: object) -> Callable[[], T]:
    """The work, which must give what is expected: who is fast and wrong is not fast."""

    def checking() -> T:
        found = work()
        assert expected == found, f"expected {expected!r:.60}, found {found!r:.60}"
        return found

    return checking


def in_turns(
    contestants: Mapping[str, Callable[[], T]], repeats: int, *, warm: bool = True
) -> dict[str, list[T]]:
    """Let contestants take turns, each round beginning with another one; the first round may be a warm-up."""
    taken: defaultdict[str, list[T]] = defaultdict(list)
    names = list(contestants)
    with quiet_collector():
        for number in range(-warm, repeats):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                found = contestants[name]()
                if number >= 0:
                    taken[name].append(found)
    return dict(taken)


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep the collector from walking through all that the peers' imports have left, on everyone's time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def in_child(
    file: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> tuple[float, Any]:
    """Run a file in a process of its own: the seconds until its end, and the JSON in its last line.

    Raises:
        CalledProcessError: It failed; what it had to say is on the standard error stream.
    """
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, file, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    return time.perf_counter() - start, json.loads(lines[-1]) if lines else None


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark can be told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Options()
    parser.add_argument("--repeats", type=int, default=default.repeats, help="runs of everything")
    parser.add_argument("--scale", type=float, default=default.scale, help="of all sizes")
    parser.add_argument("--long", action="store_true", help="also what takes many minutes")
    parser.add_argument("--folder", help="where files go; a temporary folder")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser


def report(rows: Iterable[Mapping[str, Any]], file: Path | None) -> dict[str, Any]:
    """Print the table, write it as JSON, and give both the rows and the machine."""
    found = document(rows)
    print(text(found["rows"]))
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def main(measure: Callable[[Options], Iterable[Row]], description: str | None) -> None:
    """Run one benchmark as its command line says."""
    given = arguments(description).parse_args()
    options = Options(given.repeats, given.scale, given.long, given.folder)
    rows = []
    for row in measure(options):
        rows.append(row.described())
        print(f"{row.subject}: {row.what}", file=sys.stderr, flush=True)
    report(rows, given.json)


def available(library: str) -> bool:
    """Tell whether a library can be imported; says so if not."""
    from importlib.util import find_spec

    found = find_spec(library) is not None
    if not found:
        print(f"left out: {library} is not installed", file=sys.stderr)
    return found
