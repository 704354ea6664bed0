"""The commands and the pytest plugins that developers use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
VERSION: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
SKIPPING: Final = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_with_torch(number):
    pytest.importorskip("torch_of_another_name")

def test_with_a_disk():
    pytest.skip("no disk")
"""
MARKED: Final = """
import pytest

@pytest.fixture
def server():
    raise AssertionError

def test_with_a_server(server): ...

@pytest.mark.parametrize("engine", ["ray", "serial"])
def test_with_engines(engine): ...
"""


def run_pytest(folder: Path, plugin: str, source: str, *options: str) -> str:
    """The output of pytest for a file with one of the project's plugins alone."""
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n slow\n integration\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(  # noqa: S603
        [*command, *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def run_make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make`."""
    make = shutil.which("make") or pytest.skip("make is not installed")
    return subprocess.run(  # noqa: S603
        [make, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_skipped_tests_are_one_line_a_reason(tmp_path: Path) -> None:
    """The line counts the tests, and says what to install where a module is missing."""
    printed = run_pytest(tmp_path, "skip_summary", SKIPPING).splitlines()
    install = "torch_of_another_name is not installed: pip install torch-of-another-name"
    assert [f"skipped 3: {install}", "skipped 1: no disk"] == [
        line for line in printed if line.startswith("skipped")
    ]


def test_the_quick_part_starts_no_server(tmp_path: Path) -> None:
    """Tests that request a server by a fixture or a parameter are deselected; the others run."""
    options = ("-m", "not slow and not integration", "-rp")
    printed = run_pytest(tmp_path, "quick_part", MARKED, *options)
    assert "PASSED test_it.py::test_with_engines[serial]" in printed
    assert "1 passed, 2 deselected" in printed


def test_another_interpreter_has_an_environment_of_its_own() -> None:
    """`make PYTHON=...` never runs in the environment of another version."""
    done = run_make("--dry-run", "check", f"PYTHON={sys.executable}")
    assert f"\n.venv-{VERSION}/bin/ruff" in done.stdout
    assert "\n.venv/bin" not in done.stdout


def test_an_unsuitable_interpreter_is_refused() -> None:
    """The error says which versions are suitable, before anything is made."""
    done = run_make("check", "PYTHON=false")
    assert "FunctionFuse needs Python 3.11 or newer" in done.stdout
    assert 0 != done.returncode
    assert not (ROOT / ".venv-").exists()
