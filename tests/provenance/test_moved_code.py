"""Code that is moved or renamed: its results stay; a function that takes the place of another one did not move."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.errors import StaleResultWarning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELPERS = """
    from dataclasses import dataclass

    @dataclass
    class Config:
        depth: int = 1

    class Scaler:
        factor = 2

    def scale(x):
        return x * DEFAULT.depth

    def double(x):
        return 2 * x

    DEFAULT = Config(3)
    METHODS = {"double": double}
"""
STUDY = """
    from dataclasses import dataclass
    from functionfuse import workflow
    from HELPERS import Config, DEFAULT, METHODS, Scaler, double, scale

    @dataclass
    class Local:
        name: str

    @workflow
    def fit(x, config, method, kind, local):
        from HELPERS import scale as late
        return late(METHODS["double"](scale(method(x)))) * kind.factor

    @workflow
    class Model:
        def __init__(self, config):
            self.config = config
        def score(self, x):
            return scale(x) + self.config.depth

    def graph():
        fitted = fit(1, {"a": Config(2)}, double, Scaler, [Local("a")]).set_name("fit")
        score = Model(Config(5)).set_name("model").score(fitted).set_name("score")
        return score
"""


def study(
    folder: Path, name: str, helpers: str = ".helpers", edit: tuple[str, str] = ("", "")
) -> Any:
    """Write and import a study in a module, with helpers in another one; return its workflow."""
    absolute = importlib.util.resolve_name(helpers, name.rpartition(".")[0])
    sources = {
        name: textwrap.dedent(STUDY).replace("HELPERS", helpers),
        absolute: textwrap.dedent(HELPERS).replace(*edit),
    }
    for module, source in sources.items():
        file = folder.joinpath(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    importlib.invalidate_caches()
    made = LocalWorkflow(importlib.import_module(name).graph(), workflow_name="study")
    made.set_storage(folder.parent / "storage")
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that can be imported."""
    folder = tmp_path / "modules"
    monkeypatch.syspath_prepend(folder)
    known = {*sys.modules}
    yield folder
    for name in {*sys.modules} - known:
        del sys.modules[name]


def forget_modules(folder: Path) -> None:
    """Begin again without the modules of a folder, as another process does after they were moved."""
    for name, module in list(sys.modules.items()):
        if str(folder) in str(getattr(module, "__file__", "")):
            del sys.modules[name]
    for file in folder.rglob("*.py"):
        file.unlink()


@pytest.mark.parametrize("name", ["first.renamed", "second.study", "first.inner.study"])
def test_results_stay_when_modules_are_moved_or_renamed(folder: Path, name: str) -> None:
    """Functions, classes, arguments of the project's classes, global values and relative imports are the same."""
    study(folder, "first.study").run()
    forget_modules(folder)
    made = study(folder, name)
    assert ["load"] == [node.action.value for node in made.plan() if node.name == "score"]
    assert "stored; a target" == made.plan()["score"].reason
    made.run()
    assert "Nothing differs" in str(made.explain("fit"))
    assert [] == made.report.names("computed")


def test_moved_code_with_another_text_is_loaded_with_a_warning(folder: Path) -> None:
    """What changed is named by its name now, and can be accepted."""
    study(folder, "first.study").run()
    forget_modules(folder)
    made = study(folder, "second.study", edit=("2 * x", "x + x"))
    reason = "upstream fit: helper second.helpers.double changed (1 line)"
    assert f"stale code, loaded: {reason}" == made.plan()["score"].reason
    with pytest.warns(StaleResultWarning, match="helper second.helpers.double changed"):
        made.run()
    assert ["fit", "score"] == made.accept(None, cause="second.helpers.double")
    assert "stored; a target" == made.plan()["score"].reason


OF_TWO_MODULES = """
    from functionfuse import workflow

    class Kind:
        power = POWER

    @workflow
    def fit(x):
        return x ** POWER

    @workflow
    class Model:
        def score(self, x):
            return x ** POWER

    @workflow
    def names(kinds):
        return [kind.power for kind in kinds]

    @workflow
    def power(kind):
        return kind.power
"""


@pytest.fixture
def two(folder: Path) -> tuple[Any, Any]:
    """Two modules with the same names, and other code."""
    folder.mkdir()
    for name, value in (("linear", "1"), ("square", "2")):
        source = textwrap.dedent(OF_TWO_MODULES).replace("POWER", value)
        (folder / f"{name}.py").write_text(source)
    return importlib.import_module("linear"), importlib.import_module("square")


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        (
            lambda one, other: [one.fit(3), other.fit(3)],
            "stale: function linear.fit was replaced by square.fit",
        ),
        (
            lambda one, other: [one.Model().score(3), other.Model().score(3)],
            "stale: function linear.Model.score was replaced by square.Model.score",
        ),
        (
            lambda one, other: [one.power(one.Kind), one.power(other.Kind)],
            "stale: kind: linear.Kind was replaced by square.Kind",
        ),
        (
            lambda one, other: [
                one.names([one.Kind(), other.Kind()]),
                one.names([other.Kind(), one.Kind()]),
            ],
            "stale: argument kinds changed",
        ),
    ],
    ids=["function", "method", "class as an argument", "order of objects"],
)
def test_what_another_module_has_under_the_same_name_is_not_moved_code(
    two: tuple[Any, Any], calls: Any, reason: str, tmp_path: Path
) -> None:
    """The graph names another function or class: the node is computed."""
    values = []
    for call, expected in zip(calls(*two), ("not stored; a target", reason), strict=True):
        made = LocalWorkflow(call.set_name("node"), workflow_name="two")
        made.set_storage(tmp_path / "storage")
        assert expected == made.plan()["node"].reason
        values.append(made.run())
    assert values[0] != values[1]


SCRIPT = """
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow

FACTOR = 2

class Point:
    def __init__(self, x):
        self.x = x

def scale(point):
    return point.x * FACTOR

@workflow
def fit(point):
    return scale(point)

def plan(storage):
    made = LocalWorkflow(fit(Point(3)).set_name("fit"), workflow_name="study")
    made.set_storage(storage)
    print(made.plan()["fit"].reason)
    made.run()
"""
NOTEBOOK = """
import linecache
source = open("sub/nb2.py").read()
linecache.cache["<cell 1>"] = len(source), None, source.splitlines(keepends=True), "<cell 1>"
exec(compile(source, "<cell 1>", "exec"))
"""


def test_a_script_becomes_a_module(tmp_path: Path) -> None:
    """A notebook, a script, a module that is run, one that is imported, and a renamed script use the same results."""
    (tmp_path / "sub").mkdir()
    call = "\nif __name__ == '__main__':\n    plan('storage')\n"
    for name in ("nb2", "renamed"):
        (tmp_path / "sub" / f"{name}.py").write_text(SCRIPT + call)
    runs = [
        ["-c", NOTEBOOK],
        ["sub/nb2.py"],
        ["-m", "sub.nb2"],
        ["sub/renamed.py"],
        ["-c", "from sub.nb2 import plan; plan('storage')"],
    ]
    said = [
        subprocess.run(  # noqa: S603 - our own arguments
            [sys.executable, *run],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        for run in runs
    ]
    assert ["not stored; a target\n"] + ["stored; a target\n"] * 4 == [run.stdout for run in said]
    assert [""] * 5 == [run.stderr for run in said]
