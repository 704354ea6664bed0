"""Small projects before and after an edit, and the digests of their code."""

from __future__ import annotations

import configparser
import contextlib
import importlib
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functionfuse._provenance.code import CodeDigest, CodeDigests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODULE = "study.py"


@dataclass(frozen=True)
class Edit:
    """A change of a project: one text is replaced by another."""

    name: str
    #: The module `study`; lines `--- path` begin further files.
    source: str
    old: str
    new: str
    #: The parts whose digests differ then; empty for an edit that does not count.
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def write_project(folder: Path, source: str) -> None:
    """Write the files of a project."""
    path, lines = _MODULE, dict[str, list[str]]()
    for line in textwrap.dedent(source).lstrip("\n").splitlines():
        if line.startswith("--- "):
            path = line.removeprefix("--- ")
            lines[path] = []
        else:
            lines.setdefault(path, []).append(line)
    for name, content in lines.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(content) + "\n", encoding="utf-8")


@contextlib.contextmanager
def imported(folder: Path, name: str = "study") -> Iterator[Any]:
    """A module of a folder, imported for the first time; what it imports from there is forgotten, too."""
    own = {path.stem for path in folder.iterdir()}
    others = {module: sys.modules.pop(module) for module in own & sys.modules.keys()}
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    # bytecode of an edit of the same size in the same second would count as that of the next
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield importlib.import_module(name)
    finally:
        sys.dont_write_bytecode = writes
        for kind in (configparser.RawConfigParser, configparser.ConfigParser):
            for attribute in [each for each in vars(kind) if each.endswith("_test")]:
                delattr(kind, attribute)  # what a project put into a class of a library
        sys.path.remove(str(folder))
        for module in set(sys.modules) - before:
            if str(getattr(sys.modules[module], "__file__", "")).startswith(str(folder)):
                del sys.modules[module]
        sys.modules.update(others)  # helpers of other tests with the same names


def digest_project(folder: Path, source: str, **options: Any) -> tuple[CodeDigest, CodeDigests]:
    """Write a project and digest its function `study.fit`."""
    write_project(folder, source)
    with imported(folder) as study:
        digests = CodeDigests(**options)
        digest = digests.of(study.fit)
        # a digest leaves nothing on classes that the next plan would find
        assert digest == CodeDigests(**options).of(study.fit)
        return digest, digests


def changed_parts(before: CodeDigest, after: CodeDigest) -> tuple[str, ...]:
    """The names of parts that differ, or are in one of the digests only."""
    return tuple(sorted({name for name, _ in {*before.parts} ^ {*after.parts}}))


def assert_counts(edit: Edit, folder: Path) -> None:
    """The digest differs, and so do the digests of the parts that were edited, and of no others."""
    before, _ = digest_project(folder / "before", edit.source)
    again, _ = digest_project(folder / "again", edit.source)
    after, _ = digest_project(folder / "after", _edited(edit))
    assert before == again
    assert edit.changed == changed_parts(before, after)
    assert before.digest != after.digest
    assert () == before.unknown == before.notes


def assert_does_not_count(edit: Edit, folder: Path) -> None:
    """The digest and all texts are the same."""
    before, digests = digest_project(folder / "before", edit.source)
    after, others = digest_project(folder / "after", _edited(edit))
    assert dict(digests.texts) == dict(others.texts)
    assert before == after
    assert () == after.unknown == after.notes


def _edited(edit: Edit) -> str:
    assert edit.old in edit.source
    return edit.source.replace(edit.old, edit.new)


def run_python(*arguments: str, folder: Path, python: str = sys.executable, seed: str = "0") -> Any:
    """Run a program in a folder and read what it prints."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(  # noqa: S603
        [python, *arguments],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)
