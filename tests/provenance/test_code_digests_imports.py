"""Digests of code in several modules: imports, chains of attributes, and modules that are imported late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from edited_projects import Edit, assert_counts, assert_does_not_count

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = """
import proj.core.maths
import proj.core.maths as aliased
from proj.core import maths as renamed
from proj import helper as imported, tools
from proj.tools import *

def fit(x):
    from proj.late import late, unused
    from . import sibling
    return USED
--- proj/__init__.py
from proj.tools import helper
from .core.maths import reexported
VERSION = 1
--- proj/core/__init__.py
LEVEL = 2
--- proj/core/maths.py
from . import LEVEL
import proj.core as up
def scale(x): return x * 3
def double(x): return x * LEVEL * up.LEVEL
def reexported(x): return x * 5
class Model:
    def train(self): return 6
--- proj/tools.py
TABLE = [7]
def helper(x): return x * 8
def starred(x): return x * 9
def relative(x):
    from .core.maths import scale as local
    from .core import maths
    import proj.core.maths as other
    return local, maths.double, other.reexported
"""


def used(expression: str) -> str:
    """The project, whose function uses something of its modules."""
    source = PACKAGE.replace("USED", expression)
    lines = [
        line
        for line in source.splitlines()
        if "proj.late" not in line and "from . " not in line[4:]
    ]
    return "\n".join(lines)


COUNTS = [
    Edit(
        "chain over modules",
        used("proj.core.maths.scale(x)"),
        "x * 3",
        "x * 30",
        ("proj.core.maths.scale",),
    ),
    Edit(
        "alias of a module", used("aliased.scale(x)"), "x * 3", "x * 30", ("proj.core.maths.scale",)
    ),
    Edit("renamed module", used("renamed.scale(x)"), "x * 3", "x * 30", ("proj.core.maths.scale",)),
    Edit(
        "function under another name",
        used("imported(x)"),
        "x * 8",
        "x * 80",
        ("proj.tools.helper",),
    ),
    Edit("imported by a star", used("starred(x)"), "x * 9", "x * 90", ("proj.tools.starred",)),
    Edit(
        "function of a package",
        used("proj.reexported(x)"),
        "x * 5",
        "x * 50",
        ("proj.core.maths.reexported",),
    ),
    Edit("value of a package", used("proj.VERSION"), "VERSION = 1", "VERSION = 2", ("study.fit",)),
    Edit("value in a module", used("tools.TABLE[0]"), "[7]", "[70]", ("study.fit",)),
    Edit(
        "value behind two modules",
        used("aliased.double(x)"),
        "LEVEL = 2",
        "LEVEL = 3",
        ("proj.core.maths.double",),
    ),
    Edit(
        "class in a module",
        used("aliased.Model().train()"),
        "return 6",
        "return 60",
        ("proj.core.maths.Model.train",),
    ),
    Edit(
        "import inside a function",
        used("tools.relative(x)"),
        "x * 3",
        "x * 30",
        ("proj.core.maths.scale",),
    ),
    Edit(
        "module imported inside",
        used("tools.relative(x)"),
        "x * LEVEL",
        "x + LEVEL",
        ("proj.core.maths.double",),
    ),
    Edit(
        "alias inside",
        used("tools.relative(x)"),
        "x * 5",
        "x * 50",
        ("proj.core.maths.reexported",),
    ),
    Edit(
        "module as a value",
        used("getattr(tools, x)"),
        "x * 8",
        "x * 80",
        ("proj.tools (its file)",),
    ),
    Edit(
        "another function under the same name",
        """
        from tools import first as step
        def fit(x): return step(x)
        --- tools.py
        def first(x): return 1
        def second(x): return 2
        """,
        "first as step",
        "second as step",
        ("study.fit", "tools.first", "tools.second"),
    ),
    Edit(
        "another module under the same name",
        """
        import first as tools
        def fit(x): return tools.step(x)
        --- first.py
        def step(x): return 1
        --- second.py
        def step(x): return 2
        """,
        "import first as",
        "import second as",
        ("first.step", "second.step"),
    ),
    Edit(
        "module that is imported when the function runs",
        """
        def fit(x):
            from late import step
            return step(x)
        --- late.py
        import later
        def step(x): return 1
        --- later.py
        K = 3
        """,
        "return 1",
        "return 2",
        ("late (its file)",),
    ),
    Edit(
        "import of a module that is imported when the function runs",
        """
        def fit(x):
            import pkg.late
            return pkg.late.step(x)
        --- pkg/__init__.py
        --- pkg/late.py
        from .later import K
        --- pkg/later.py
        K = 3
        """,
        "K = 3",
        "K = 4",
        ("pkg.later (its file)",),
    ),
    Edit(
        "submodule that is imported when the function runs",
        """
        import pkg
        def fit(x): return pkg.late.step(x)
        --- pkg/__init__.py
        --- pkg/late.py
        def step(x): return 1
        """,
        "return 1",
        "return 2",
        ("pkg.late (its file)",),
    ),
    Edit(
        "import without a use",
        """
        import registry
        import steps
        def fit(x):
            import steps
            return registry.KNOWN
        --- registry.py
        KNOWN = []
        --- steps.py
        import registry
        registry.KNOWN.append(lambda x: 1)
        """,
        "x: 1",
        "x: 2",
        ("registry.KNOWN", "steps (its file)", "steps.<lambda>"),
    ),
    Edit(
        "mutual recursion",
        """
        import other
        def even(n): return n == 0 or other.odd(n - 1)
        def fit(x): return even(x)
        --- other.py
        import study
        def odd(n): return n != 0 and study.even(n - 1)
        """,
        "n != 0 and",
        "n > 0 and",
        ("other.odd",),
    ),
    Edit(
        "class whose methods name it",
        """
        class Node:
            def child(self): return Node()
            def parent(self): return Tree()
        class Tree:
            root = Node()
            def child(self): return Node()
        def fit(x): return Node()
        """,
        "return Tree()",
        "return Tree(), 1",
        ("study.Node.parent",),
    ),
]

#: A helper that no chain of names leads to.
LATE = """
import importlib
import late_helper
def helper(x): return x + 1
def fit(x): return USED
--- late_helper.py
def late(x): return x * 1
"""
NAMES = (
    ("name for globals", 'globals()["helper"](x)', "x + 1", "study.helper"),
    ("name in the text of eval", 'eval("helper(x)")', "x + 1", "study.helper"),
    (
        "name for import_module",
        'importlib.import_module("late_helper").late(x)',
        "x * 1",
        "late_helper (its file)",
    ),
    ("attributes of a module", 'late_helper.__dict__["late"]', "x * 1", "late_helper (its file)"),
    ("name for __import__", '__import__("late_helper")', "x * 1", "late_helper (its file)"),
)
COUNTS += [
    Edit(name, LATE.replace("USED", used), old, f"{old}0", (part,))
    for name, used, old, part in NAMES
]
COUNTS += [
    Edit(
        "function of a library that the project replaced",
        """
        import json
        import json.decoder
        def mine(x): return 1
        json.decoder.replaced_by_test = mine
        def fit(x): return json.decoder.replaced_by_test(x)
        """,
        "return 1",
        "return 2",
        ("study.mine",),
    ),
    Edit(
        "class in an object that the project put into a library's class, as pandas has accessors",
        """
        import configparser
        import types
        class Accessor:
            def size(self): return 1
        configparser.RawConfigParser.accessor_of_test = types.SimpleNamespace(kind=Accessor)
        def fit(x): return configparser.ConfigParser().accessor_of_test.kind().size()
        """,
        "return 1",
        "return 2",
        ("study.Accessor.size",),
    ),
]

DOES_NOT_COUNT = [
    Edit("unrelated function of a module", used("aliased.scale(x)"), "x * 5", "x * 50"),
    Edit("unrelated value of a module", used("aliased.scale(x)"), "[7]", "[70]"),
    Edit(
        "unrelated import",
        used("aliased.scale(x)"),
        "import proj.core as up",
        "import proj.core as up, os",
    ),
    Edit(
        "comment in a module that is imported when the function runs",
        """
        def fit(x):
            import late_comment
            return late_comment.step(x)
        --- late_comment.py
        def step(x): return 1
        """,
        "def step(x): return 1",
        "# a comment\n        def step(x: int) -> int:\n            '''A docstring.'''\n            return 1",
    ),
    Edit(
        "name of what is not of the project",
        "import numpy as np\ndef fit(x): return np.mean(x)",
        "import numpy as np",
        "import numpy as np, os",
    ),
]


@pytest.mark.parametrize("edit", COUNTS, ids=str)
def test_an_edit_of_an_imported_module_counts(edit: Edit, tmp_path: Path) -> None:
    """The digest differs, and the parts that differ are those that were edited."""
    assert_counts(edit, tmp_path)


@pytest.mark.parametrize("edit", DOES_NOT_COUNT, ids=str)
def test_an_edit_of_an_imported_module_does_not_count(edit: Edit, tmp_path: Path) -> None:
    """What the function does not use may change."""
    assert_does_not_count(edit, tmp_path)
