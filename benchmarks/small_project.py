"""A small project of 19 functions whose fingerprints `provenance.py` times in a new process."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = tuple[float, float]

SCALE = 2.0
BOUNDS = {"low": 0.0, "high": 100.0}


def clean(values: Sequence[float]) -> list[float]:
    """Keep what is within the bounds."""
    return [value for value in values if within(value, **BOUNDS)]


def within(value: float, low: float, high: float) -> bool:
    """Tell whether a value is within bounds."""
    return low <= value <= high


def scaled(values: Sequence[float], factor: float = SCALE) -> list[float]:
    """Multiply all values."""
    return [value * factor for value in values]


def shifted(values: Sequence[float]) -> list[float]:
    """Move the mean to zero."""
    middle = mean(values)
    return [value - middle for value in values]


def mean(values: Sequence[float]) -> float:
    """The mean, or zero."""
    return statistics.fmean(values) if values else 0.0


def spread(values: Sequence[float]) -> float:
    """The standard deviation."""
    return statistics.pstdev(values)


def normal(values: Sequence[float]) -> list[float]:
    """Move the mean to zero and the deviation to one."""
    deviation = spread(values) or 1.0
    return [value / deviation for value in shifted(values)]


def pairs(values: Sequence[float]) -> list[Row]:
    """Each value with the one before it."""
    return list(itertools.pairwise(values))


def slope(rows: Sequence[Row]) -> float:
    """The slope of a line through all rows."""
    above = sum(first * second for first, second in rows)
    return above / (sum(first * first for first, _ in rows) or 1.0)


def residuals(rows: Sequence[Row], by: float) -> list[float]:
    """What the line leaves."""
    return [second - by * first for first, second in rows]


def error(rows: Sequence[Row], by: float) -> float:
    """The mean square of what the line leaves."""
    return mean([value * value for value in residuals(rows, by)])


def split(rows: Sequence[Row], part: float = 0.5) -> tuple[Sequence[Row], Sequence[Row]]:
    """Rows to fit, and rows to test."""
    at = int(len(rows) * part)
    return rows[:at], rows[at:]


def load(seed: int) -> list[float]:
    """A node: some values."""
    return clean([float((seed * number) % 97) for number in range(50)])


def prepare(values: Sequence[float], how: Callable[[Sequence[float]], Any]) -> list[Row]:
    """A node: rows of transformed values."""
    return pairs(how(scaled(values)))


def fit(rows: Sequence[Row]) -> float:
    """A node: the model."""
    return slope(split(rows)[0])


def score(rows: Sequence[Row], model: float) -> float:
    """A node: how well a model does."""
    return error(split(rows)[1], model)


def table(scores: Sequence[float]) -> list[str]:
    """A node: the scores as text."""
    return [text_of(number, value) for number, value in enumerate(scores)]


def text_of(number: int, value: float) -> str:
    """One line."""
    return f"{number}: {rounded(value)}"


def rounded(value: float, digits: int = 3) -> float:
    """A readable value."""
    return round(value, digits)


def study() -> Any:
    """The graph."""
    nodes = [workflow(function) for function in (load, prepare, fit, score, table)]
    loads, prepares, fits, scores, tables = nodes
    rows = [prepares(loads(seed), normal) for seed in range(1, 4)]
    return tables([scores(each, fits(each)) for each in rows])


def backend(folder: str) -> LocalWorkflow:
    """The study with a storage."""
    made = LocalWorkflow(study(), workflow_name="study")
    made.set_storage(storage_factory({"kind": "file", "options": {"path": folder}}))
    return made


def seconds_of_plan(folder: str) -> float:
    """How long a plan takes whose results are stored, and fresh: it has all fingerprints."""
    made = backend(folder)
    start = time.perf_counter()
    plan = made.plan()
    taken = time.perf_counter() - start
    assert "load" in str(plan), f"the stored results count as stale: {plan}"
    return taken


def main(action: str, folder: str) -> None:
    """Store all results, or print the seconds of this process's first plan and of another graph's."""
    if action == "run":
        backend(folder).run()
    else:
        print(json.dumps([seconds_of_plan(folder) for _ in range(2)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
