"""The examples print the documented output, and nothing else."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def classifiers() -> ModuleType:
    """The scientist's file, imported as the demo imports it."""
    spec = importlib.util.spec_from_file_location("classifiers", EXAMPLES / "classifiers.py")
    assert spec
    assert spec.loader
    module = sys.modules["classifiers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_comparison_of_classifiers(classifiers: ModuleType, tmp_path: Path) -> None:
    """Some 30 nodes give a table and a figure, and a second run reads the same table."""
    figure = tmp_path / "figures" / "classifiers.png"
    storage = storage_factory({"kind": "file", "options": {"path": str(tmp_path / "results")}})

    def run() -> LocalWorkflow:
        workflow = LocalWorkflow(*classifiers.comparison(str(figure)), workflow_name="classifiers")
        workflow.set_storage(storage)
        workflow.always_run("figure")
        tables.append(workflow.run()[0])
        return workflow

    tables: list[str] = []
    first = run()
    assert first.report
    assert 33 == len(first.graph) == len(first.report.names("computed"))
    assert figure.read_bytes().startswith(PNG)
    header, *rows = tables[0].splitlines()
    assert [*classifiers.METHODS, "best"] == header.split()
    assert list(classifiers.LOADERS) == [row.split()[0] for row in rows]
    accuracies = [float(cell) for row in rows for cell in row.split()[1:-1]]
    assert all(0.9 < accuracy <= 1 for accuracy in accuracies)

    second = run()
    assert second.report
    assert ["figure"] == second.report.names("computed")
    assert tables[0] == tables[1]


def test_comparison_is_deterministic(classifiers: ModuleType, tmp_path: Path) -> None:
    """Two runs without a storage give the same table, and need no figure for it."""
    table, _ = classifiers.comparison(str(tmp_path / "figure.png"))
    workflow = LocalWorkflow(table, workflow_name="classifiers")
    assert workflow.run() == workflow.run()
    assert not list(tmp_path.iterdir())


def test_demo(tmp_path: Path) -> None:
    """The demo prints what it did and where everything lies, and nothing on standard error."""
    environment = {key: value for key, value in os.environ.items() if "PREFECT" not in key}
    done = subprocess.run(  # noqa: S603 - our own file
        [sys.executable, EXAMPLES / "demo.py", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "c = 3" in lines
    assert "LocalWorkflow    33 computed" in lines
    assert "PrefectWorkflow  33 computed" in lines
    assert "PrefectWorkflow  1 computed, 14 loaded, 18 skipped" in lines
    assert "the same table each time" in done.stdout
    assert "WARNING" not in done.stdout
    assert (tmp_path / "figure.png").read_bytes().startswith(PNG)
    results = tmp_path / "results" / "classifiers"
    assert 32 == len([path for path in results.iterdir() if path.is_file()])
    assert (tmp_path / "report.html").stat().st_size
