"""Objects of packages that are other ones each time that they are taken apart: they are unknown, not changed."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse.backends.builtin.localback import LocalWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKAGE = """
import itertools
count = itertools.count()

class Figure:
    def __getstate__(self):
        return {"lines": [next(count)]}

class Axes:
    def __init__(self, title):
        self.title = title
"""
STUDY = """
from functionfuse import workflow
from drawing_package import Axes, Figure

class Holder:
    def __init__(self, name):
        self.name, self.figure = name, Figure()

FIGURES = {"one": Figure()}
HOLDER = Holder("a")
AXES = Axes("x")

@workflow
def of_globals(x):
    return x, FIGURES, HOLDER, AXES

@workflow
def of_arguments(figure, axes, holder):
    return 1

def graph(title="x"):
    return [
        of_globals(1).set_name("globals"),
        of_arguments([Figure()], Axes(title), Holder("a")).set_name("arguments"),
    ]
"""
WORDS = "an object of type 'Figure', whose contents differ each time that they are read"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LocalWorkflow]:
    """Make the workflow of a study that uses an installed package."""
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "drawing_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # sources are of one second

    def make(old: str = "", new: str = "", **options: Any) -> LocalWorkflow:
        (tmp_path / "drawing_study.py").write_text(STUDY.replace(old, new))
        monkeypatch.delitem(sys.modules, "drawing_study", raising=False)
        study: Any = importlib.import_module("drawing_study")
        workflow = LocalWorkflow(*study.graph(**options), workflow_name="drawing")
        workflow.set_storage(tmp_path / "storage")
        return workflow

    return make


def test_they_are_unknown_and_named(made: Callable[..., LocalWorkflow]) -> None:
    """As global values and arguments, also within other objects; nothing is computed again."""
    made().run()
    for workflow in (made(), made()):
        assert {
            "globals": f"unknown: drawing_study.FIGURES['one']: {WORDS}; "
            f"drawing_study.HOLDER.figure: {WORDS}",
            "arguments": f"unknown: argument figure[0]: {WORDS}; argument holder.figure: {WORDS}",
        } == {node.name: node.reason for node in workflow.plan()}
        workflow.run()
        assert workflow.report is not None
        assert [] == workflow.report.names("computed")


def test_everything_else_is_compared(made: Callable[..., LocalWorkflow]) -> None:
    """Other objects of the package, and what else the object that holds an unknown one has."""
    made().run()
    reasons = {node.name: node.reason for node in made('Axes("x")', 'Axes("y")').plan()}
    assert "stale code, loaded: value drawing_study.AXES changed" == reasons["globals"]
    reasons = {node.name: node.reason for node in made(title="y").plan()}
    assert "stale: argument axes changed" == reasons["arguments"]
    reasons = {
        node.name: node.reason
        for node in made('HOLDER = Holder("a")', 'HOLDER = Holder("b")').plan()
    }
    assert "stale code, loaded: value drawing_study.HOLDER changed" == reasons["globals"]
