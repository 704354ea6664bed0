"""Seeds of nodes on Dask: workers with several threads, and nodes that are tried again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("distributed")

from engine_helpers import QUIET

from functionfuse import RNG, workflow
from functionfuse.backends.builtin.daskback import DaskWorkflow
from functionfuse.errors import SeedError

if TYPE_CHECKING:
    from pathlib import Path


@workflow
def draw_global() -> float:
    """Draw from the generator of the process."""
    return random.random()  # noqa: S311


@workflow
def draw(number: int, rng: np.random.Generator = RNG) -> float:
    """Draw from a generator of the node."""
    return rng.random()


@workflow
def draw_twice(log: Path, rng: np.random.Generator = RNG) -> float:
    """Draw, and fail the first time."""
    value = rng.random()
    if not log.exists():
        log.touch()
        message = "not yet"
        raise RuntimeError(message)
    return value


IN_PROCESS = {"processes": False, "host": None}


@pytest.mark.parametrize(
    "cluster",
    [{"threads_per_worker": 2}, {"threads_per_worker": 2, **IN_PROCESS}, IN_PROCESS],
    ids=["threads of workers", "threads of this process", "one thread of this process"],
)
def test_threads_of_workers(cluster: dict[str, Any], tmp_path: Path) -> None:
    """In a worker that shares its process, global generators are refused; RNG is the same, also on a second try."""
    values = [draw(number).set_name(f"draw-{number}") for number in range(6)]
    made: Any = DaskWorkflow(
        *values,
        draw_twice(tmp_path / "log").set_name("again"),
        draw_global().set_name("global"),
        workflow_name="seeds",
        cluster_kwargs={"n_workers": 1, **QUIET, **cluster},
    )
    made.set_seed(17)
    made.query("again").set_submit_args({"retries": 1})
    drawn: dict[str, Any] = {}
    made.set_storage(tmp_path / "results")

    with pytest.raises(SeedError, match="node 'global' uses the generator of 'random'"):
        made.run(on_error="continue")

    assert ["global"] == made.report.names("failed")
    for name in ("again", *[f"draw-{number}" for number in range(6)]):
        drawn[name] = made._results.read(name)  # noqa: SLF001 - the run has failed
    assert drawn == {
        name: np.random.default_rng(made.report.seeds[name]).random() for name in drawn
    }
