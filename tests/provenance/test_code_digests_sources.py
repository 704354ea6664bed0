"""Digests of code that has no file, or whose file was changed: notebook cells, scripts, other interpreters."""

from __future__ import annotations

import json
import linecache
from pathlib import Path
from typing import Any

import pytest
from edited_projects import digest_project, imported, run_python, write_project

import functionfuse
from functionfuse._provenance.code import CodeDigests

SOURCES = Path(functionfuse.__file__).parents[1]
INTERPRETERS = Path.home() / ".pyenv" / "versions"


# ---- notebooks ----


class Notebook:
    """Runs cells in one namespace and keeps their sources, as IPython does."""

    def __init__(self) -> None:
        """Begin without cells."""
        self.space: dict[str, Any] = {"__name__": "__main__"}
        self._cells = 0

    def run(self, source: str, *, keep: bool = True) -> None:
        """Run a cell, and keep its source if asked."""
        self._cells += 1
        file = f"<test-cell-{self._cells}>"
        if keep:
            linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        exec(compile(source, file, "exec"), self.space)  # noqa: S102

    def digest(self) -> str:
        """The digest of the function `fit`."""
        digest = CodeDigests().of(self.space["fit"])
        assert () == digest.unknown == digest.notes
        return digest.digest


@pytest.mark.parametrize("keep", [True, False])
def test_a_cell_that_is_run_again(keep: bool) -> None:  # noqa: FBT001
    """A comment does not count, an edit of a function or of a global in another cell does."""
    notebook = Notebook()
    notebook.run("K = 1\ndef helper(x): return x + K\n", keep=keep)
    notebook.run("def fit(x):\n    return helper(x)\n", keep=keep)
    first = notebook.digest()
    notebook.run("# again\ndef fit(x):\n\n    # a comment\n    return helper(x)\n", keep=keep)
    notebook.run("K = 1", keep=keep)
    assert first == notebook.digest()
    notebook.run("K = 2", keep=keep)
    second = notebook.digest()
    notebook.run("def helper(x): return x - K\n", keep=keep)
    third = notebook.digest()
    notebook.run("def fit(x): return helper(x) + 1\n", keep=keep)
    assert 4 == len({first, second, third, notebook.digest()})


def test_lambdas_without_a_source_are_different() -> None:
    """Bytecode tells them apart."""
    first, second, third = (eval(f"lambda x: x + {n}") for n in (1, 2, 1))  # noqa: S307
    digests = CodeDigests()
    assert digests.of(first).digest != digests.of(second).digest
    assert digests.of(first).digest == digests.of(third).digest


# ---- edits after the import ----


def test_a_file_that_was_edited_after_its_import(tmp_path: Path) -> None:
    """The loaded code counts; functions that were not edited keep their digests."""
    source = "def helper(x): return x + 1\ndef fit(x): return helper(x)\ndef other(x): return x\n"
    write_project(tmp_path, source)
    with imported(tmp_path) as study:
        write_project(tmp_path, "# a comment\n\n" + source.replace("+ 1", "+ 10"))
        digests = CodeDigests()
        edited = digests.of(study.fit)
        other = digests.of(study.other)
    unchanged, _ = digest_project(tmp_path / "copy", source)
    assert ("study.helper: its source has changed since it was imported",) == edited.notes
    assert edited.digest != unchanged.digest
    assert dict(edited.parts)["study.fit"] == dict(unchanged.parts)["study.fit"]
    assert () == other.notes == edited.unknown
    text = digests.texts[dict(edited.parts)["study.helper"]]
    assert text.startswith("# its source has changed since it was imported\n# bytecode of helper")


@pytest.mark.parametrize("content", [None, "def fit(:", "\0", "x = 1\n"])
def test_a_file_that_is_gone_or_broken(content: str | None, tmp_path: Path) -> None:
    """The loaded code still has a digest."""
    write_project(tmp_path, "def fit(x): return x\n")
    with imported(tmp_path) as study:
        file = tmp_path / "study.py"
        file.unlink() if content is None else file.write_text(content)
        digest = CodeDigests().of(study.fit)
    assert bool(content) == bool(digest.notes)
    assert ["study.fit"] == [name for name, _ in digest.parts]


# ---- scripts and processes ----

SCRIPT = """
import sys, json
sys.path.insert(0, {sources!r})
from functionfuse._provenance.code import CodeDigests, function_name
from tools import helper
from enum import Enum

class Color(Enum):
    RED = 1
    def mix(self): return K

K = {{"a", "b", "c"}}

def fit(x, k=Color.RED):
    return helper(x), [y for y in K], Color.BLUE

def show():
    digests = CodeDigests()
    digest = digests.of(fit)
    print(json.dumps([function_name(fit), digest.digest, digest.parts, digest.unknown]))

if __name__ == "__main__":
    show()
--- tools.py
def helper(x): return x + 1
"""


def test_a_script_is_named_after_its_file(tmp_path: Path) -> None:
    """Running it, importing it and another hash seed give one digest; an edit gives another one."""
    write_project(tmp_path, SCRIPT.format(sources=str(SOURCES)))
    ran = run_python("study.py", folder=tmp_path)
    assert "study.fit" == ran[0]
    assert ran == run_python("-m", "study", folder=tmp_path, seed="1")
    assert ran == run_python("-c", "import study; study.show()", folder=tmp_path, seed="2")
    assert [] == ran[3]
    file = tmp_path / "study.py"
    for old, new in (
        ("return K", "return K, 1"),
        ("RED = 1", "RED = 2"),
        ('"c"', '"d"'),
        ("BLUE", "RED"),
    ):
        text = file.read_text()
        file.write_text(text.replace(old, new))
        assert ran[1] != run_python("study.py", folder=tmp_path)[1]
        file.write_text(text)
    (tmp_path / "tools.py").write_text("def helper(x): return x + 2")
    assert ran[1] != run_python("study.py", folder=tmp_path)[1]


# ---- versions of Python ----

#: Digests that Python alone can compute, since these interpreters have no packages.
STAND_IN = """
import hashlib, json, sys
from types import ModuleType

class Hasher:
    def __init__(self, data=b"", seed=0): self._hash = hashlib.md5(data)
    def update(self, data): self._hash.update(data)
    def digest(self): return self._hash.digest()
    def hexdigest(self): return self._hash.hexdigest()

module = sys.modules["xxhash"] = ModuleType("xxhash")
module.xxh3_128 = Hasher
module.xxh3_128_digest = lambda data: Hasher(data).digest()
module.xxh3_128_hexdigest = lambda data: Hasher(data).hexdigest()
sys.path[:0] = json.loads(sys.argv[1])
from functionfuse._provenance.code import CodeDigests
import study
digests = CodeDigests()
digest = digests.of(study.fit)
print(json.dumps([{name: digests.texts[key] for name, key in digest.parts}, digest.digest, digest.unknown]))
"""
EVERYTHING = '''
import abc, enum, functools, re
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
PATTERN = re.compile("a+")
TABLE = {"a": [1, 2.5, None], "b": {3, 4}}
Pair = namedtuple("Pair", "a b", defaults=[2])

class Point(NamedTuple):
    x: int
    y: int = 2

@dataclass(order=True)
class Config(Generic[T]):
    size: int = 3
    names: list = field(default_factory=list, repr=False)

@dataclass(frozen=True, slots=True)
class Frozen:
    size: int = 3

class Color(enum.Flag):
    RED = enum.auto()
    BLUE = enum.auto()
    @property
    def nice(self): return True

class Sized(Protocol):
    def size(self): ...

class Base(abc.ABC):
    __slots__ = ("a",)
    @abc.abstractmethod
    def train(self, x): """Train."""

class Model(Base, Sized):
    """A model."""
    def __init__(self): super().__init__()
    def train(self, x): return [self.size() + y for y in x if (z := y) > 1]
    @functools.cached_property
    def area(self): return __class__

@functools.singledispatch
def convert(x): return x

@convert.register
def _(x: int): return f"{x!r:>{3}}{{}}" f"{TABLE['a']}\\n'{x}\\"" "é"

@functools.lru_cache
def cached(x, *args, k=3, **kwargs):
    """Cached."""
    match x:
        case [1, *rest] | {"a": rest}:
            return {**kwargs}, *args
        case Point(x=0):
            pass
    with open(x) as file, file:
        for line in file: yield line[1:2, ..., ::3]
    try:
        raise ValueError from None
    except* (OSError, ValueError) as error:
        del error
    return lambda a, /, b=1, *, c: (a, b) if a else -b ** 2

async def load(x):
    async with x as y:
        return [z async for z in y], (await y), {a: b for a, b in y}, (c for c in y)

def fit(x):
    def inner(y: Config) -> Point:
        nonlocal x
        global TABLE
        x += 1
        return not (y or x) and 1 < y <= 2
    return cached(x), Model, load, PATTERN, TABLE, Color, Config, Frozen, Pair, convert, inner
'''


@pytest.mark.parametrize("version", ["3.12.1", "3.13.0"])
def test_another_version_of_python_gives_the_same_digest(version: str, tmp_path: Path) -> None:
    """Texts and digests are equal on all versions."""
    python = INTERPRETERS / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"Python {version} is not installed")
    write_project(tmp_path, EVERYTHING)
    arguments = "-c", STAND_IN, json.dumps([str(SOURCES), str(tmp_path)])
    mine = run_python(*arguments, folder=tmp_path)
    others = run_python(*arguments, folder=tmp_path, python=str(python), seed="1")
    assert mine[0] == others[0]
    assert mine == others
    assert [] == mine[2]
    assert len(mine[0]) > 20
