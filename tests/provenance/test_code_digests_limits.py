"""Digests of code: what has no digest, what is ignored, and where the project ends."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from edited_projects import Edit, digest_project, imported, run_python, write_project

from functionfuse._provenance.code import CodeDigest, CodeDigests, function_name
from functionfuse.errors import OptionError
from functionfuse.workflow import workflow

if TYPE_CHECKING:
    from pathlib import Path

# ---- unknown ----

UNKNOWN = {
    "lock": ("import threading\nX = threading.Lock()", "a lock"),
    "open file": ("X = open(__file__)", "an open file"),
    "socket": ("import socket\nX = socket.socket()", "a socket"),
    "generator": ("X = (x for x in 'abc')", "a generator"),
    "lock in an object": (
        "import threading\nclass A:\n    def __init__(self): self.lock = threading.Lock()\nX = A()",
        "a lock",
    ),
    "lock in a dict": ("import threading\nX = {'a': [threading.Lock()]}", "a lock"),
    "object that refuses": (
        "class A:\n    def __reduce_ex__(self, p): raise ValueError('refused')\nX = A()",
        "refused",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_global_without_a_digest_is_unknown(name: str, tmp_path: Path) -> None:
    """It is named, and everything else still has a digest."""
    definition, words = UNKNOWN[name]
    source = f"{definition}\ndef helper(): return 1\ndef fit(x): return X, helper()\n"
    before = digest_and_close(tmp_path / "before", source)
    after = digest_and_close(tmp_path / "after", source.replace("return 1", "return 2"))
    (unknown,) = before.unknown
    assert unknown.startswith("study.X")
    assert words in unknown
    assert before.unknown == after.unknown
    assert before.digest != after.digest


def digest_and_close(folder: Path, source: str) -> CodeDigest:
    """The digest of a project whose global `X` may be open."""
    write_project(folder, source)
    with imported(folder) as study:
        digest = CodeDigests().of(study.fit)
        if hasattr(study.X, "close"):
            study.X.close()
    return digest


@pytest.mark.parametrize("call", ["globals()[x]", "eval(x)", "exec(f'{x}()')"])
def test_names_that_are_computed_are_unknown(call: str, tmp_path: Path) -> None:
    """Nothing that has no digest passes for the same."""
    digest, _ = digest_project(tmp_path, f"def fit(x): return {call}")
    name = call.partition("(")[0]
    assert (f"study.fit: {name}() finds code by a name that is computed",) == digest.unknown
    digest, _ = digest_project(tmp_path / "text", "def fit(x): return eval('x + 1')")
    assert () == digest.unknown


def test_attributes_that_a_module_makes_are_unknown(tmp_path: Path) -> None:
    """The function `__getattr__` of the module counts, and is not called."""
    source = """
    import lazy
    def fit(x): return lazy.thing(x)
    --- lazy.py
    CALLS = []
    def __getattr__(name):
        CALLS.append(name)
        raise AttributeError(name)
    """
    write_project(tmp_path, source)
    with imported(tmp_path) as study:
        digest = CodeDigests().of(study.fit)
        study.lazy.CALLS.remove("__path__") if "__path__" in study.lazy.CALLS else None
        assert [] == study.lazy.CALLS
    assert ("lazy.thing: made when it is used",) == digest.unknown
    assert "lazy.__getattr__" in dict(digest.parts)


def test_a_module_that_is_loaded_by_its_first_use_is_not_loaded(tmp_path: Path) -> None:
    """Its file counts."""
    source = """
    import importlib.util, sys
    spec = importlib.util.find_spec("slow")
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    slow = importlib.util.module_from_spec(spec)
    sys.modules["slow"] = slow
    loader.exec_module(slow)
    def fit(x): return slow.step(x)
    --- slow.py
    def step(x): return 1
    """
    before, _ = digest_project(tmp_path / "before", source)
    after, _ = digest_project(tmp_path / "after", source.replace("return 1", "return 2"))
    assert {"study.fit", "slow (its file)"} == dict(before.parts).keys()
    assert before.digest != after.digest


# ---- ignored ----

CACHE = """
import tools
from tools import COPY
_CACHE = {"a": 1}
class Model:
    seen = 1
    def train(self): return 2
def slow(x): return 3
def fit(x): return _CACHE, tools.TABLE, Model, slow(x), COPY
--- tools.py
TABLE = COPY = [4]
"""
IGNORED = [
    Edit("study._CACHE", CACHE, "1}", "2}"),
    Edit("tools.TABLE", CACHE.replace("COPY = [4]", "COPY = [5]\nTABLE = [4]"), "[4]", "[40]"),
    Edit("study.Model.seen", CACHE, "seen = 1", "seen = 10"),
    Edit("study.Model", CACHE, "return 2", "return 20"),
    Edit("study.Model.train", CACHE, "return 2", "return 20"),
    Edit("study.slow", CACHE, "return 3", "return 30"),
]


@pytest.mark.parametrize("edit", IGNORED, ids=str)
def test_an_ignored_name_does_not_count(edit: Edit, tmp_path: Path) -> None:
    """The explanation says that it is ignored."""
    new = edit.source.replace(edit.old, edit.new)
    before, digests = digest_project(tmp_path / "before", edit.source, ignore=[edit.name])
    after, _ = digest_project(tmp_path / "after", new, ignore=[edit.name])
    counted, _ = digest_project(tmp_path / "counted", new)
    assert before.digest == after.digest != counted.digest
    assert any(": ignored" in text for text in digests.texts.values())


def test_a_name_of_the_script_may_be_ignored() -> None:
    """`__main__` is named after its file."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("CACHE = [1]\ndef fit(): return CACHE", space)  # noqa: S102
    before = CodeDigests(ignore=["__main__.CACHE"]).of(space["fit"])
    space["CACHE"].append(2)
    assert before == CodeDigests(ignore=["__main__.CACHE"]).of(space["fit"])
    assert before != CodeDigests().of(space["fit"])


# ---- the border of the project ----


def test_foreign_distributions_count_by_their_names(tmp_path: Path) -> None:
    """Their versions are in `packages`; none of their code is a part."""
    source = """
    import json
    import numpy as np
    from sklearn.linear_model import LinearRegression
    import functools, rich.table
    class Model(LinearRegression): pass
    def fit(x):
        import sklearn.utils
        from pandas import DataFrame
        return np.mean(x), Model(), functools.reduce, rich.table, json.loads("1")
    """
    digest, _ = digest_project(tmp_path / "a", source)
    assert ["numpy", "pandas", "rich", "scikit-learn"] == [*digest.packages]
    assert all(version[0].isdigit() for version in digest.packages.values())
    # scikit-learn gives each subclass some attributes
    assert {"study.Model", "study.fit"} <= dict(digest.parts).keys()
    assert all(name.startswith(("study.fit", "study.Model")) for name, _ in digest.parts)
    other, _ = digest_project(tmp_path / "b", source.replace("LinearRegression", "Ridge"))
    assert digest.digest != other.digest


def test_code_roots_add_installed_code(tmp_path: Path) -> None:
    """A folder or a package that is installed counts only if it is named."""
    source = """
    import installed_tools, installed_others
    def fit(x): return installed_tools.step(x), installed_others.step(x)
    """
    site = tmp_path / "environment" / "site-packages"
    write_project(
        site,
        "--- installed_tools/__init__.py\ndef step(x): return 1\n--- installed_others.py\ndef step(x): return 2\n",
    )
    write_project(tmp_path, source)
    with imported(site, "installed_tools"), imported(tmp_path) as study:
        plain, folder, package, file = (
            {*dict(CodeDigests(roots).of(study.fit).parts)}
            for roots in ([], [str(site)], ["installed_tools"], [str(site / "installed_others.py")])
        )
    assert {"study.fit"} == plain
    assert {"study.fit", "installed_tools.step", "installed_others.step"} == folder
    assert {"study.fit", "installed_tools.step"} == package
    assert {"study.fit", "installed_others.step"} == file


def test_a_code_root_that_is_nothing_is_refused() -> None:
    """The message says what a root is."""
    with pytest.raises(
        OptionError, match=r"code_roots: 'no_such' is neither a folder or file nor a package"
    ):
        CodeDigests(["no_such"])


def test_an_environment_in_the_folder_of_the_project_is_foreign(tmp_path: Path) -> None:
    """Its packages are not the project's, although they are within a root."""
    site = tmp_path / ".venv" / "lib" / "site-packages"
    write_project(site, "--- environment_tools.py\ndef step(x): return 1\n")
    write_project(
        tmp_path, "import environment_tools\ndef fit(x): return environment_tools.step(x)\n"
    )
    with imported(site, "environment_tools"), imported(tmp_path) as study:
        assert ["study.fit"] == [
            name for name, _ in CodeDigests([str(tmp_path)]).of(study.fit).parts
        ]


def test_an_installed_package_that_decorates_its_functions_is_a_project(tmp_path: Path) -> None:
    """Its functions are nodes: their code counts with all of the package."""
    site = tmp_path / "site-packages"
    write_project(
        site,
        """
        --- installed_study/__init__.py
        from functionfuse import workflow
        from installed_study.tools import helper
        @workflow
        def fit(x): return helper(x)
        --- installed_study/tools.py
        def helper(x): return 1
        """,
    )
    with imported(site, "installed_study") as package:
        digest = CodeDigests().of(package.fit.__wrapped__)
    assert {"installed_study.fit", "installed_study.tools.helper"} == dict(digest.parts).keys()


def test_editable_installs_are_foreign_unless_they_are_the_project(tmp_path: Path) -> None:
    """A function's own package counts, another editable install only if it is a root."""
    site, mine, other = (tmp_path / name for name in ("site-packages", "mine", "other"))
    for folder in (mine, other):
        info = site / f"{folder.name}-1.0.dist-info" / "direct_url.json"
        info.parent.mkdir(parents=True)
        info.write_text(json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}}))
    write_project(
        mine,
        "--- my_study/__init__.py\nimport my_tools, its_tools\ndef fit(x): return my_tools.step(x), its_tools.step(x)\n--- my_tools.py\ndef step(x): return 1\n",
    )
    write_project(other, "--- its_tools.py\ndef step(x): return 2\n")
    program = (
        "import sys, json; sys.path[:0] = json.loads(sys.argv[1]); import my_study\n"
        "from functionfuse._provenance.code import CodeDigests\n"
        "print(json.dumps([[*dict(CodeDigests(roots).of(my_study.fit).parts)] for roots in ([], sys.argv[2:])]))"
    )
    folders = json.dumps([str(folder) for folder in (mine, other, site)])
    plain, added = run_python("-c", program, folders, "its_tools", folder=tmp_path)
    assert ["my_study.fit", "my_tools.step"] == plain
    assert ["its_tools.step", "my_study.fit", "my_tools.step"] == added


# ---- the interface ----


def plain(x: int) -> int:
    """A function."""
    return x


class Model:
    """A class."""

    def train(self) -> int:
        """A method."""
        return 1


def test_names_of_functions() -> None:
    """Wrappers have the name of what they wrap."""
    import functools

    module = __name__
    assert f"{module}.plain" == function_name(plain) == function_name(workflow(plain))
    assert f"{module}.plain" == function_name(functools.partial(functools.partial(plain, 1)))
    assert f"{module}.Model" == function_name(Model) == function_name(workflow(Model))
    assert f"{module}.Model.train" == function_name(Model.train) == function_name(Model().train)
    assert f"{module}.Model" == function_name(Model())
    assert "builtins.len" == function_name(len)
    assert "builtins.str.upper" == function_name(str.upper)


def test_a_decorated_function_has_the_digest_of_the_plain_one() -> None:
    """Also with further functions that its arguments bring, whose order counts."""
    digests = CodeDigests()
    assert digests.of(plain) == digests.of(workflow(plain))
    with_class = digests.of(plain, (Model,))
    assert digests.of(plain).digest != with_class.digest
    assert {f"{__name__}.Model.train"} <= dict(with_class.parts).keys()
    assert all(digest in digests.texts for _, digest in with_class.parts)


def test_values_of_globals_are_those_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan sees one value of a global; the next plan sees the value of its time."""
    monkeypatch.setitem(globals(), "VALUE", [1])
    digests = CodeDigests()
    before = digests.of(reads_value)
    globals()["VALUE"].append(2)
    assert before == digests.of(reads_value)
    assert before != CodeDigests().of(reads_value)


def reads_value() -> Any:
    """A function with a global."""
    return VALUE  # type: ignore[name-defined] # noqa: F821 - set by a test


def test_threads_make_the_same_digests() -> None:
    """Plans of several threads share texts of code."""
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                CodeDigests().of(json.dumps).digest + CodeDigests().of(plain).digest
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 4 == len(found)
    assert 1 == len({*found})
    assert "xxhash" in sys.modules


ODD = """
import functools
class Odd:
    __module__ = property(lambda self: 1 / 0)
    def __getattr__(self, name): raise RuntimeError(name)
class Meta(type):
    def __getattribute__(cls, name):
        if name == "__dict__": raise RuntimeError(name)
        return super().__getattribute__(name)
class Strange(metaclass=Meta): pass
def itself(x): return 1
itself.__wrapped__ = itself
BIG = lambda x: TERMS
odd = Odd()
def fit(x): return odd, Odd, Strange, itself(x), BIG
"""


def test_odd_objects_are_never_an_error(tmp_path: Path) -> None:
    """Attributes that raise, functions that wrap themselves and very long expressions have digests or are unknown."""
    source = ODD.replace("TERMS", "+".join(["x"] * 900))
    before, _ = digest_project(tmp_path / "before", source)
    after, _ = digest_project(tmp_path / "after", source.replace("return 1", "return 2"))
    assert {"study.fit", "study.itself", "study.<lambda>"} <= dict(before.parts).keys()
    assert before.digest != after.digest
    assert before.unknown == after.unknown
