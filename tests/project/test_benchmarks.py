"""Each benchmark still runs, and says what it found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE = "--scale", "1e-9", "--repeats", "1"


def run(folder: Path, name: str, *arguments: str, expected: int = 0) -> str:
    """Run a benchmark in the smallest size that there is."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, folder / f"{name}.py", *SIZE, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected == done.returncode, done.stderr
    return done.stdout


def rows(file: Path) -> list[dict[str, Any]]:
    """The results of a benchmark."""
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return found


@pytest.mark.parametrize(
    ("name", "subjects"),
    [
        ("local", {"local"}),
        ("stored", {"files"}),
        ("provenance", {"provenance"}),
        ("local_workers", {"threads", "processes"}),
    ],
)
def test_runs(name: str, subjects: set[str], tmp_path: Path) -> None:
    """A benchmark that needs no engine runs alone, prints its table and writes its rows."""
    file = tmp_path / "rows.json"
    printed = run(BENCHMARKS, name, "--json", str(file))
    found = rows(file)
    assert subjects == {row["subject"] for row in found}
    assert all(f"{row['subject']}: {row['what']}" in printed for row in found)
    assert all(1 == row["ours"]["runs"] for row in found)


@pytest.mark.parametrize("name", ["engines", "prefect_flows", "memory", "imports", "storage"])
def test_can_be_started(name: str) -> None:
    """A benchmark of what takes long to start can be loaded, and says how it is used."""
    assert "--repeats" in run(BENCHMARKS, name, "--help")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The benchmarks with a page of their own."""
    return shutil.copytree(BENCHMARKS, tmp_path / "benchmarks")


def test_one_table(copied: Path, tmp_path: Path) -> None:
    """Several benchmarks make one table, which replaces the last one on the page."""
    page, file = copied / "README.md", tmp_path / "build" / "rows.json"
    for names in (("stored",), ("stored", "million")):
        table = run(copied, "run", *names, "--write-readme", "--json", str(file))
    assert ["million", "files"] == list(dict.fromkeys(row["subject"] for row in rows(file)))
    assert 1 == page.read_text(encoding="utf-8").count(table)
    assert "targets are met" in table


def test_failure(copied: Path) -> None:
    """A benchmark that fails costs no rows of others, and sets the exit status."""
    (copied / "million.py").write_text("raise SystemExit(3)", encoding="utf-8")
    assert "files: " in run(copied, "run", "stored", "million", expected=1)


def test_unknown_name() -> None:
    """A benchmark that does not exist is refused."""
    run(BENCHMARKS, "run", "storages", expected=2)
