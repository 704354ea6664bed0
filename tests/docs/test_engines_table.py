"""The table of docs/engines.md has the behaviours of the conformance suite, and is generated from its results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from functionfuse.testing.engine.suite import Suite
from functionfuse.testing.table import UNKNOWN, behaviours, columns_of, rows_of, with_table

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
EMPTY = "before\n<!-- generated table -->\n<!-- end of the generated table -->\nafter\n"
TEXTS = [text for part in behaviours().values() for text in part.values()]
NAMES = [name for part in behaviours().values() for name in part]


def test_the_page_has_all_behaviours() -> None:
    """Each behaviour of the suite is a row of the page, in the suite's order: else generate the table again."""
    assert TEXTS == rows_of(PAGE.read_text(encoding="utf-8"))


def test_behaviours_are_distinct() -> None:
    """No two tests of the suite have one name, or hide each other, or say the same; none breaks a table."""
    assert len(NAMES) == len(set(NAMES))
    assert len(TEXTS) == len(set(TEXTS))
    assert [] == [text for text in TEXTS if "|" in text or not text.endswith(".")]


def test_the_page_explains_all_flags() -> None:
    """Each flag of the suite that is a claim is explained."""
    flags = [name for name, value in vars(Suite).items() if isinstance(value, bool)]
    page = PAGE.read_text(encoding="utf-8")
    assert [] == [name for name in flags if f"| `{name}` |" not in page]


def test_columns_are_kept_or_generated_again() -> None:
    """A column is generated from results; tests that did not run are unknown; the other columns stay."""
    first, second = NAMES[:2]
    page = with_table(EMPTY, {"One": {first: "yes"}, "Other": {second: "n/a"}})
    page = with_table(page, {"One": {second: "**no**"}})

    columns = columns_of(page)
    assert ["One", "Other"] == list(columns)
    assert [UNKNOWN, "**no**"] == [columns["One"][text] for text in TEXTS[:2]]
    assert [UNKNOWN, "n/a"] == [columns["Other"][text] for text in TEXTS[:2]]
    assert TEXTS == rows_of(page)
    assert (page[:7], page[-6:]) == ("before\n", "after\n")


def test_running_it(tmp_path: Path) -> None:
    """The program runs the suite's tests of a class, and nothing else, and writes their column."""
    page, tests = tmp_path / "page.md", tmp_path / "test_it.py"
    page.write_text(EMPTY, encoding="utf-8")
    tests.write_text(
        "from functionfuse.backends.builtin.localback import LocalWorkflow\n"
        "from functionfuse.testing.engine.tests import EngineTests\n"
        "class TestIt(EngineTests):\n"
        "    make_workflow = staticmethod(LocalWorkflow)\n"
        "    max_examples = 1\n"
        "    runs_side_by_side = False\n"
        "    def test_none(self):\n"
        "        assert False\n"
        "    def test_own(self):\n"
        "        assert False\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "functionfuse.testing.table", str(page), f"It={tests}::TestIt"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)  # noqa: S603

    assert 1 == done.returncode, done.stdout
    column = columns_of(page.read_text(encoding="utf-8"))["It"]
    by_name = dict(zip(NAMES, [column[text] for text in TEXTS], strict=True))
    assert ["test_none"] == [name for name, cell in by_name.items() if cell == "**no**"]
    assert ("yes", "n/a") == (by_name["test_diamond"], by_name["test_worker_dies"])
    assert UNKNOWN not in by_name.values()
