"""The example of docs/writing-a-backend.md is a backend, is quoted there in full, and is short."""

from __future__ import annotations

import sys
from pathlib import Path

from functionfuse.testing import EngineTests

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "pool_backend.py"
sys.path.append(str(FILE.parent))  # also for the processes of its pool

from pool_backend import PoolWorkflow  # noqa: E402 - not before it can be found


class TestPoolBackend(EngineTests):
    """The conformance suite on the example."""

    runs_in_other_processes = True
    copies_values = True
    isolates_crashes = False  # a process that dies breaks the pool of its run
    pickles_literals_once = False  # it sends each unit whole
    max_examples = 5
    make_workflow = staticmethod(PoolWorkflow)


def test_the_page_shows_the_example() -> None:
    """The page shows the whole file."""
    page = (ROOT / "docs" / "writing-a-backend.md").read_text(encoding="utf-8")
    assert f"```python\n{FILE.read_text(encoding='utf-8')}```" in page


def test_the_example_is_short() -> None:
    """Fewer than sixty lines say all, from the first class to the last."""
    _, *code = FILE.read_text(encoding="utf-8").partition("class PoolEngine")
    lines = [line for line in "".join(code).splitlines() if line.strip()]
    assert 60 > len(lines)
