"""What fingerprints cost: of the code of a project in a new process, and in a plan after one edit."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from measuring import OURS, Options, Row, Target, in_child, in_turns, main, timed
from shapes import add

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT: Final = str(Path(__file__).with_name("small_project.py"))
FUNCTIONS: Final = 19  # of that project
NODES: Final = 10_000


def first_plans(options: Options) -> Iterator[Row]:
    """Fingerprints of a small project, in a new process for each run."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        in_child(PROJECT, "run", folder)
        for _ in range(options.repeats):
            _, (first, second) = in_child(PROJECT, "plan", folder)
            taken["first"].append(first)
            taken["second"].append(second)
    what = f"plan of {FUNCTIONS} functions"
    yield Row.of("provenance", f"{what}, first", "s", {OURS: taken["first"]}, Target(0.2))
    yield Row.of("provenance", f"{what}, second", "s", {OURS: taken["second"]}, Target(0.02))


def edited(folder: str, size: int, *, at: int | None) -> LocalWorkflow:
    """A chain with a storage, in which the argument of one node has another value."""
    function, value = workflow(add), 0
    for number in range(size):
        value = function(value, 2 if number == at else 1)
    backend = LocalWorkflow(value, workflow_name="bench")
    backend.set_storage(storage_factory({"kind": "file", "options": {"path": folder}}))
    return backend


def planned(folder: str, size: int, at: int | None) -> Callable[[], float]:
    """Seconds of a plan, without those of the graph's nodes."""

    def measure() -> float:
        return timed(edited(folder, size, at=at).plan)()

    return measure


def plans(options: Options) -> Iterator[Row]:
    """Plans of a graph that is stored: unchanged, and after an edit of its last and of its first node."""
    size = options.size(NODES)
    edits = {"": (None, 0.3), ", last edited": (size - 1, 0.3), ", first edited": (0, 2.0)}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        edited(folder, size, at=None).run()
        for name, (at, most) in edits.items():
            taken = in_turns({OURS: planned(folder, size, at)}, options.repeats)
            yield Row.of("provenance", f"plan of {size:,}{name}", "s", taken, Target(most))


def measure(options: Options) -> Iterator[Row]:
    """All rows."""
    yield from first_plans(options)
    yield from plans(options)


if __name__ == "__main__":
    main(measure, __doc__)
