"""Stored objects of a script whose class has gone or changed, or of another script: errors that name both."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 100  # seconds until a program that hangs fails a test
BEFORE = """
import dataclasses, enum, sys, typing
from functionfuse import workflow
from functionfuse.backends.builtin.localback import LocalWorkflow
from functionfuse.storage import storage_factory
"""
AFTER = """
made = LocalWorkflow(size(make().set_name("made")).set_name(sys.argv[1]), workflow_name="w", **options)
storage = storage_factory({"kind": "file", "options": {"path": sys.argv[2]}})
made.set_storage(storage, on_stale="ignore")  # or the result would be computed again
if __name__ == "__main__":
    try:
        print(made.run())
    except Exception as error:
        print(type(error).__name__, error, *error.__notes__)
"""
NODES = """
@workflow
def make():
    return [VALUE]

@workflow
def size(x):
    return len(x)
"""
OPTIONS = {"serial": "options = {}\n", "processes": "options = {'workers': 1}\n"}
#: Of each kind: a class, a value of it, the class later, and words of the error.
CHANGED = {
    "gone": (
        "class Thing: pass",
        "Thing()",
        "Thing = object; del Thing",
        r"it needs 'Thing' of script .*study\.py, which does not define it now",
    ),
    "dataclass": (
        "@dataclasses.dataclass\nclass Thing:\n    a: int",
        "Thing(1)",
        "@dataclasses.dataclass\nclass Thing:\n    b: int",
        r"class 'Thing' of script .*study\.py .*with the fields a, and it has the fields b now",
    ),
    "slots": (
        "class Thing:\n    __slots__ = ('a',)",
        "Thing()",
        "class Thing: pass",
        r"with the fields a, and it has no fields now",
    ),
    "named tuple": (
        "class Thing(typing.NamedTuple):\n    a: int\n    b: int",
        "Thing(1, 2)",
        "class Thing(typing.NamedTuple):\n    b: int\n    a: int",
        r"with the fields a, b, and it has the fields b, a now",
    ),
    "enum": (
        "class Thing(enum.Enum):\n    A = 1\n    B = 2",
        "Thing.A",
        "class Thing(enum.Enum):\n    A = 2\n    B = 1",
        r"with the members A = 1, B = 2, and it has the members A = 2, B = 1 now",
    ),
    "nested": (
        "class Thing:\n    class Inner: pass",
        "Thing.Inner()",
        "class Thing: pass",
        r"it needs 'Thing.Inner' of script",
    ),
    "function": ("def thing(): pass", "thing", "", r"it needs 'thing' of script .*study\.py"),
}
#: Changes that instances survive.
COMPATIBLE = {
    "new member": (
        "class Thing(enum.Enum):\n    A = 1",
        "Thing.A",
        "class Thing(enum.Enum):\n    B = 2\n    A = 1",
    ),
    "order of fields": (
        "@dataclasses.dataclass\nclass Thing:\n    a: int\n    b: int",
        "Thing(1, 2)",
        "@dataclasses.dataclass\nclass Thing:\n    b: int\n    a: int",
    ),
    "its own state": (
        "@dataclasses.dataclass\nclass Thing:\n    a: int",
        "Thing(1)",
        "@dataclasses.dataclass\nclass Thing:\n    b: int\n    def __setstate__(self, s): self.b = s.popitem()",
    ),
    "new method": (
        "class Thing: pass",
        "Thing()",
        "class Thing:\n    def method(self): pass",
    ),
}


def run(folder: Path, script: str, node: str, name: str = "study.py") -> str:
    """Run a script in a process, and return what it prints."""
    (folder / name).write_text(script)
    done = subprocess.run(  # noqa: S603
        [sys.executable, name, node, "results"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def script(definition: str, value: str, engine: str) -> str:
    """A script without a main guard whose node returns a value."""
    return BEFORE + definition + NODES.replace("VALUE", value) + OPTIONS[engine] + AFTER


@pytest.mark.parametrize("engine", OPTIONS)
@pytest.mark.parametrize("kind", CHANGED)
def test_changed(tmp_path: Path, kind: str, engine: str) -> None:
    """The error names the script, the class, the node, what differs, and what to do."""
    before, value, after, words = CHANGED[kind]
    assert "1" == run(tmp_path, script(before, value, "processes"), "first")
    found = run(tmp_path, script(after, value, engine), "second")
    assert found.startswith("StorageError")
    for each in (words, "node 'made'", "remove the result"):
        assert re.search(each, found), found


@pytest.mark.parametrize("engine", OPTIONS)
@pytest.mark.parametrize("kind", COMPATIBLE)
def test_compatible(tmp_path: Path, kind: str, engine: str) -> None:
    """Instances are restored as those of the changed class."""
    before, value, after = COMPATIBLE[kind]
    assert "1" == run(tmp_path, script(before, value, "serial"), "first")
    assert "1" == run(tmp_path, script(after, value, engine), "second")


@pytest.mark.parametrize("engine", OPTIONS)
def test_another_script(tmp_path: Path, engine: str) -> None:
    """A class of the same name in another script is another class."""
    text = script("class Thing: pass", "Thing()", engine)
    assert "1" == run(tmp_path, text, "first")
    found = run(tmp_path, text, "second", "other.py")
    assert "it needs 'Thing' of script" in found
    assert str(tmp_path / "study.py") in found
    assert f"this is {tmp_path / 'other.py'}" in found
    assert "`import study`" in found


def test_moved_script(tmp_path: Path) -> None:
    """A script in another folder reads its results if it was moved, and not those of its copy."""
    text = script("class Thing: pass", "Thing()", "serial").replace(
        "sys.argv[2]", repr(str(tmp_path / "r"))
    )
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    assert "1" == run(one, text, "first")
    assert "it needs 'Thing' of script" in run(two, text, "second")
    (one / "study.py").unlink()
    assert "1" == run(two, text, "second")


def test_script_without_a_file(tmp_path: Path) -> None:
    """A notebook finds its classes by name; a script does not take them for its own."""
    text = script("class Thing: pass", "Thing()", "processes")

    def piped(node: str) -> str:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-", node, str(tmp_path / "results")],
            input=text,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        return done.stdout.strip()

    assert ["1", "1"] == [piped("first"), piped("second")]
    found = run(tmp_path, text, "third")
    assert "it needs 'Thing' of a notebook, or another script without a file" in found
