"""The progress bar."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.observers.progress import ProgressBar


@workflow
def invert(number: int) -> float:
    """Fail for one number."""
    return 1 / number


def drawn(*numbers: int) -> str:
    """The last picture of the bar of a run on a terminal."""
    screen = io.StringIO()
    made = LocalWorkflow(*map(invert, numbers), workflow_name="inversions")
    made.add_observer(ProgressBar(Console(file=screen, force_terminal=True, width=100)))
    if 0 in numbers:
        with pytest.raises(ZeroDivisionError):
            made.run(on_error="continue")
    else:
        made.run()
        made.run()  # a bar can be used again
    return [line for line in screen.getvalue().splitlines() if "inversions" in line][-1]


def test_all_done() -> None:
    """In the end all nodes are done, under the workflow's name."""
    assert "3/3" in drawn(1, 2, 3)


def test_failures() -> None:
    """Nodes that failed are counted and said."""
    last = drawn(1, 0, 3)
    assert "inversions, 1 failed" in last
    assert "3/3" in last
