"""Seeds of nodes on Prefect: each try of a node has a new generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prefect_helpers import make

from functionfuse import RNG, workflow

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("server")


@workflow
def start() -> int:
    """A result that the others take."""
    return 3


@workflow
def draw(log: Path, number: int, rng: Any = RNG, *rest: Any, **named: Any) -> Any:
    """Draw from all generators, and fail the first time."""
    generators = [rng, *[each["rng"] for each in (*rest, *named.values())]]
    values = [each.random() for each in generators]
    if not log.exists():
        log.touch()
        message = "not yet"
        raise RuntimeError(message)
    return number, values


def test_each_try_has_a_new_generator(tmp_path: Path) -> None:
    """As a default, an argument, within containers next to results, in `*args` and in `**kwargs`."""
    number = start()
    nodes = {
        "default": draw(tmp_path / "default", number),
        "everywhere": draw(
            tmp_path / "all", number, RNG, {"rng": RNG, "n": number}, a={"rng": RNG}
        ),
    }
    made = make(*[node.set_name(name) for name, node in nodes.items()], workflow_name="seeds")
    made.set_seed(17)
    made.query("default|everywhere").set_task_args({"retries": 1})

    values = dict(zip(nodes, made.run(), strict=True))

    assert made.report is not None
    for name, count in {"default": 1, "everywhere": 3}.items():
        rng = np.random.default_rng(made.report.seeds[name])
        assert (3, [rng.random() for _ in range(count)]) == values[name]
