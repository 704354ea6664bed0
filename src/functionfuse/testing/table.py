"""Capability table: results of the conformance suite for each engine, in docs/engines.md.

`python -m functionfuse.testing.table docs/engines.md "Ray=tests/backends/ray/test_ray.py::TestWithActors" ...`
runs the suite on these engines and writes their columns; the other columns are unchanged.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from functionfuse.testing.engine.tests import EngineTests

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["behaviours", "columns_of", "rows_of", "with_table"]

#: The values of a cell, the worst first: one behaviour may have several tests.
NO, YES, NOT_CLAIMED, UNKNOWN = "**no**", "yes", "n/a", "?"
_WORST_FIRST: Final = (NO, YES, NOT_CLAIMED, UNKNOWN)
_OUTCOMES: Final = {"passed": YES, "failed": NO, "skipped": NOT_CLAIMED}
_START, _END = "<!-- generated table -->", "<!-- end of the generated table -->"


def behaviours() -> dict[str, dict[str, str]]:
    """The behaviours in the suite, by part: names and sentences of the tests."""
    return {
        str(part.__doc__): {
            name: str(test.__doc__).partition("\n")[0]
            for name, test in vars(part).items()
            if name.startswith("test_")
        }
        for part in EngineTests.__bases__
    }


def rows_of(page: str) -> list[str]:
    """The behaviours in the table of a page, in its order."""
    return [first for first, *_ in _lines(page) if first not in {"", "---"}]


def columns_of(page: str) -> dict[str, dict[str, str]]:
    """The cells of the table in a page: by engine, then by behaviour."""
    columns: dict[str, dict[str, str]] = {}
    engines: list[str] = []
    for first, *cells in _lines(page):
        if not first:
            engines = cells
        elif first != "---":
            for engine, cell in zip(engines, cells, strict=True):
                columns.setdefault(engine, {})[first] = cell
    return columns


def _lines(page: str) -> Iterator[list[str]]:
    table = page.partition(_START)[2].partition(_END)[0]
    for line in table.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def with_table(page: str, results: Mapping[str, Mapping[str, str]]) -> str:
    """Replace the columns of some engines in the page.

    Args:
        page: The page, with two comments around the table.
        results: Cells, by engine and test.
    """
    columns = columns_of(page)
    for engine, cells in results.items():
        columns[engine] = {
            text: cells.get(name, UNKNOWN)
            for part in behaviours().values()
            for name, text in part.items()
        }
    before, _, rest = page.partition(_START)
    after = rest.partition(_END)[2]
    table = "\n".join(_table(columns))
    return f"{before}{_START}\n{table}\n{_END}{after}"


def _table(columns: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for title, part in behaviours().items():
        yield f"\n### {title.rstrip('.')}\n"
        yield _line("", columns)
        yield _line("---", ["---"] * len(columns))
        for text in part.values():
            yield _line(text, [cells.get(text, UNKNOWN) for cells in columns.values()])


def _line(first: str, cells: Sequence[str] | Mapping[str, Any]) -> str:
    return f"| {' | '.join([first, *cells])} |"


class _Results:
    """pytest plugin that runs only tests of the suite and records their outcomes."""

    def __init__(self, engines: Mapping[str, str]) -> None:
        self.cells: dict[str, dict[str, str]] = {engine: {} for engine in engines.values()}
        self._engines = engines  # by the name of the class
        self._names = {name for part in behaviours().values() for name in part}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Deselect tests that are not of the suite."""
        items[:] = [item for item in items if _test(item) in self._names]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Record the worst outcome of a test among its parameters."""
        result: Any = yield
        report = result.get_result()
        if report.when == "call" or report.outcome != "passed":
            cells = self.cells[self._engines[getattr(item, "cls").__name__]]  # noqa: B009 - mypy
            name, cell = _test(item), _OUTCOMES[report.outcome]
            cells[name] = min(cell, cells.get(name, cell), key=_WORST_FIRST.index)


def _test(item: pytest.Item) -> str:
    return item.name.partition("[")[0]


def _main(page: str, *given: str) -> int:
    pairs = [each.split("=", 1) for each in given]
    results = _Results({where.rpartition("::")[2]: engine for engine, where in pairs})
    # the suite has imported hypothesis already, which is fine here
    options = ["-q", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*options, *[where for _, where in pairs]], plugins=[results])
    file = Path(page)
    file.write_text(with_table(file.read_text(encoding="utf-8"), results.cells), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
