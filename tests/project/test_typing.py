"""The types that users get, by the installed wheel and two type checkers in strict mode."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = Path(__file__).parents[1] / "typing"
MYPY: Final = """[mypy]
strict = true
plugins = functionfuse.mypy_plugin
"""
#: Each error: the file, the line, and what the type checker calls it.
Errors = set[tuple[str, int, str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the user's project in a folder that no configuration of the library applies to."""
    return shutil.copytree(PROJECT, tmp_path / "project")


def expected(checker: str, project: Path) -> Errors:
    """The errors that comments of the project's files announce."""
    return {
        (path.name, number, code)
        for path in project.glob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for code in re.findall(rf"#.*\b{checker}: ([\w-]+)", line)
    }


def output(project: Path, *command: str) -> str:
    """The errors of a type checker."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, check=False
    )
    assert "" == done.stderr
    assert 1 == done.returncode, done.stdout
    return done.stdout


def test_mypy_finds_the_mistakes_and_nothing_else(project: Path, installed_wheel: Path) -> None:
    """With the plugin, methods of decorated classes are typed as well."""
    (project / "mypy.ini").write_text(MYPY, encoding="utf-8")
    printed = output(project, "mypy", "--python-executable", str(installed_wheel), ".")
    lines = re.findall(r"^([\w.]+):(\d+): error: .*\[([\w-]+)\]$", printed, re.MULTILINE)
    found: Errors = {(file, int(line), code) for file, line, code in lines}
    assert expected("mypy", project) == found, printed


def test_pyright_finds_the_mistakes_and_nothing_else(project: Path, installed_wheel: Path) -> None:
    """Pyright infers the results of decorators; methods of decorated classes are Any for it."""
    (project / "methods.py").unlink()
    (project / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    options = ["--outputjson", "--pythonpath", str(installed_wheel)]
    report = json.loads(output(project, "basedpyright", *options))
    assert expected("pyright", project) == set(found_by_pyright(report)), report


def found_by_pyright(report: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """The errors in its report."""
    for each in report["generalDiagnostics"]:
        line = each["range"]["start"]["line"] + 1
        yield Path(each["file"]).name, line, each.get("rule", each["message"])
