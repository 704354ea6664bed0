"""Digests of code: edits of functions, globals and imports that count, and edits that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from edited_projects import Edit, assert_counts, assert_does_not_count

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = '''
import math
from typing import List

LIMIT = 3

def helper(x: int) -> int:
    """Add one."""
    return inner(x) + 1

def inner(x):
    return x * LIMIT

def unrelated():
    return 1

# a comment
def fit(x: int, y: "List[int]" = None) -> int:
    """Fit."""
    total: int = helper(x)
    f = f"{total:>3} {x!r}"
    return math.sqrt(total)
'''

FRESH = [
    Edit("comment", PLAIN, "# a comment", "# another comment\n\n"),
    Edit("comment inside", PLAIN, "    total: int", "    # why\n    total: int"),
    Edit("docstring", PLAIN, '"""Fit."""', '"""Fit the model."""'),
    Edit("docstring of a helper", PLAIN, '    """Add one."""\n', ""),
    Edit("formatting", PLAIN, "helper(x)", "helper(\n        x,\n    )"),
    Edit("parentheses", PLAIN, "return math.sqrt(total)", "return (math.sqrt(total))"),
    Edit("annotation", PLAIN, "def fit(x: int", "def fit(x: float"),
    Edit("annotation of a variable", PLAIN, "total: int =", "total ="),
    Edit("annotation of the result", PLAIN, '-> int:\n    """Fit', '-> float:\n    """Fit'),
    Edit("annotation of a helper", PLAIN, "def helper(x: int) -> int:", "def helper(x):"),
    Edit("moved lines", PLAIN, "LIMIT = 3", "\n\n\n\nLIMIT = 3"),
    Edit("unrelated function", PLAIN, "return 1\n", "return 2\n"),
    Edit("removed function", PLAIN, "def unrelated():\n    return 1\n", ""),
    Edit("type-hint imports", PLAIN, "List\n", "List, Dict\n"),
    Edit("future import", PLAIN, "import math", "from __future__ import annotations\nimport math"),
    Edit("reordered definitions", PLAIN, PLAIN, PLAIN.replace("LIMIT = 3", "") + "\nLIMIT = 3\n"),
    Edit("spelling of a number", PLAIN, "LIMIT = 3", "LIMIT = 0b11"),
    Edit("another global of the same value", PLAIN, "LIMIT = 3", "LIMIT = 1 + 2"),
    Edit(
        "annotation of a nested function",
        """
        from typing import List
        def fit(x):
            def inner(y: List) -> List:
                return y
            return inner(x)
        """,
        "(y: List) -> List",
        "(y)",
    ),
    Edit(
        "reordered methods",
        """
        class Model:
            def a(self): return 1
            def b(self): return 2
        def fit(x): return Model().a()
        """,
        "    def a(self): return 1\n            def b(self): return 2",
        "    def b(self): return 2\n            def a(self): return 1",
    ),
    Edit(
        "docstring and annotation of a class",
        """
        class Model:
            '''A model.'''
            size: int = 3
        def fit(x): return Model()
        """,
        "'''A model.'''\n            size: int = 3",
        "size = 3",
    ),
    Edit(
        "annotation of a dataclass field",
        """
        from dataclasses import dataclass
        @dataclass
        class Config:
            size: int = 3
        def fit(x): return Config()
        """,
        "size: int",
        "size: float",
    ),
    Edit(
        "path of the project",
        """
        from pathlib import Path
        DATA = Path(__file__).parent / "data"
        def fit(x): return DATA, __file__
        """,
        "",
        "",
    ),
    Edit(
        "order of a set",
        """
        NAMES = {"a", "b", "c"}
        def fit(x): return x in NAMES
        """,
        '{"a", "b", "c"}',
        '{"c", "b", "a"}',
    ),
    Edit(
        "ignored by logging",
        """
        import logging
        log = logging.getLogger("a")
        def fit(x): return log.info(x)
        """,
        '"a"',
        '"b"',
    ),
]

STALE = [
    Edit("body", PLAIN, "math.sqrt", "math.exp", ("study.fit",)),
    Edit("format", PLAIN, ":>3", ":>4", ("study.fit",)),
    Edit("helper", PLAIN, "inner(x) + 1", "inner(x) + 2", ("study.helper",)),
    Edit("helper of a helper", PLAIN, "x * LIMIT", "x + LIMIT", ("study.inner",)),
    Edit("default", PLAIN, "= None)", "= 1)", ("study.fit",)),
    Edit("global scalar", PLAIN, "LIMIT = 3", "LIMIT = 4", ("study.inner",)),
    Edit("type of a scalar", PLAIN, "LIMIT = 3", "LIMIT = 3.0", ("study.inner",)),
    Edit("missing global", PLAIN, "LIMIT = 3", "", ("study.inner",)),
    Edit(
        "shadowed builtin",
        "def fit(x): return len(x)",
        "def fit",
        "def len(x): pass\ndef fit",
        ("study.fit", "study.len"),
    ),
    Edit(
        "keyword default", "K = 3\ndef fit(x, *, k=K): return x", "K = 3", "K = 4", ("study.fit",)
    ),
    Edit(
        "value of a default", "K = 3\ndef fit(x, k=K): return x", "K = 3", "K = 4", ("study.fit",)
    ),
    Edit("global dict", "D = {'a': 1}\ndef fit(x): return D", "1", "2", ("study.fit",)),
    Edit(
        "order of a dict",
        "D = {'a': 1, 'b': 2}\ndef fit(x): return D",
        "'a': 1, 'b': 2",
        "'b': 2, 'a': 1",
        ("study.fit",),
    ),
    Edit(
        "global array",
        "import numpy as np\nA = np.arange(9)\ndef fit(x): return A",
        "9",
        "8",
        ("study.A",),
    ),
    Edit(
        "compiled pattern",
        "import re\nP = re.compile('a')\ndef fit(x): return P",
        "'a'",
        "'b'",
        ("study.P",),
    ),
    Edit("large list", "D = [*range(10000)]\ndef fit(x): return D", "10000", "10001", ("study.D",)),
    Edit(
        "attribute of a function",
        "def fit(x): return fit.k\nfit.k = 3",
        "= 3",
        "= 4",
        ("study.fit",),
    ),
    Edit(
        "closure",
        """
        def make(n):
            def inner(x): return x + n
            return inner
        fit = make(1)
        """,
        "make(1)",
        "make(2)",
        ("study.make.<locals>.inner",),
    ),
    Edit(
        "swapped closures",
        """
        def make(n):
            def inner(x): return x + n
            return inner
        A, B = make(1), make(2)
        def fit(x): return A(x) - B(x)
        """,
        "make(1), make(2)",
        "make(2), make(1)",
        ("study.make.<locals>.inner", "study.make.<locals>.inner#2"),
    ),
    Edit(
        "partial",
        """
        from functools import partial
        def base(x, k): return x * k
        scaled = partial(base, k=3)
        def fit(x): return scaled(x)
        """,
        "k=3",
        "k=4",
        ("study.scaled (partial)",),
    ),
    Edit(
        "function of a partial",
        """
        from functools import partial
        def base(x, k): return x * k
        scaled = partial(base, k=3)
        def fit(x): return scaled(x)
        """,
        "x * k",
        "x + k",
        ("study.base",),
    ),
    Edit(
        "lambda", "f = lambda x: x + 1\ndef fit(x): return f(x)", "+ 1", "+ 2", ("study.<lambda>",)
    ),
    Edit(
        "second of two lambdas on a line",
        "f, g = lambda x: x + 1, lambda x: x + 2\ndef fit(x): return g(x)",
        "x + 2",
        "x + 3",
        ("study.<lambda>",),
    ),
    Edit(
        "the other lambda of a line",
        "f, g = lambda x: x + 1, lambda x: x + 2\ndef fit(x): return g(x)",
        "f, g",
        "g, f",
        ("study.<lambda>",),
    ),
    Edit(
        "decorator with wraps",
        """
        import functools
        def twice(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args) * 2
            return wrapper
        @twice
        def fit(x): return x
        """,
        "* 2",
        "* 3",
        ("study.twice.<locals>.wrapper",),
    ),
    Edit(
        "function in a decorator without wraps",
        """
        def twice(f):
            def wrapper(*args): return f(*args) * 2
            return wrapper
        @twice
        def fit(x): return x
        """,
        "return x\n",
        "return x + 1\n",
        ("study.fit",),
    ),
    Edit(
        "decorator in a module with a value",
        """
        from tools import scaled
        @scaled(3)
        def fit(x): return x
        --- tools.py
        def scaled(k):
            def decorate(f):
                return lambda *args: f(*args) * k + OFFSET
            return decorate
        OFFSET = 1
        """,
        "OFFSET = 1",
        "OFFSET = 2",
        ("tools.scaled.<locals>.decorate.<locals>.<lambda>",),
    ),
    Edit(
        "chain of wraps",
        """
        import functools
        def plain(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args)
            return wrapper
        @plain
        @functools.lru_cache
        @plain
        def fit(x): return x
        """,
        "return x\n",
        "return -x\n",
        ("study.fit",),
    ),
    Edit(
        "lru_cache",
        """
        from functools import lru_cache
        @lru_cache(maxsize=None)
        def helper(x): return x + 1
        def fit(x): return helper(x)
        """,
        "x + 1",
        "x + 2",
        ("study.helper",),
    ),
    Edit(
        "registry that is a dict",
        """
        REGISTRY = {}
        def register(f): REGISTRY[f.__name__] = f; return f
        @register
        def a(x): return 1
        def fit(x): return REGISTRY[x]()
        """,
        "return 1",
        "return 2",
        ("study.a",),
    ),
    Edit(
        "registry that is a list",
        """
        def a(x): return 1
        STEPS = [a, lambda x: 3]
        def fit(x): return STEPS
        """,
        "x: 3",
        "x: 4",
        ("study.<lambda>", "study.STEPS"),
    ),
    Edit(
        "functions of a registry in another order",
        """
        a, b = (lambda x: 1), (lambda x: 2)
        STEPS = [a, b]
        def fit(x): return a, b, STEPS
        """,
        "[a, b]",
        "[b, a]",
        ("study.STEPS",),
    ),
    Edit(
        "cached function in a registry",
        """
        import functools
        @functools.cache
        def a(x): return 1
        STEPS = [a, functools.partial(a, 3)]
        def fit(x): return STEPS
        """,
        "return 1",
        "return 2",
        ("study.a",),
    ),
    Edit(
        "contextmanager",
        """
        from contextlib import contextmanager
        @contextmanager
        def opened(x): yield x + 1
        def fit(x):
            with opened(x) as y: return y
        """,
        "x + 1",
        "x + 2",
        ("study.opened",),
    ),
    Edit(
        "generator",
        "def rows(n):\n    yield n + 1\ndef fit(x): return [*rows(x)]",
        "n + 1",
        "n + 2",
        ("study.rows",),
    ),
    Edit(
        "async function",
        "async def load(n): return n + 1\nasync def fit(x): return await load(x)",
        "n + 1",
        "n + 2",
        ("study.load",),
    ),
    Edit(
        "global of a nested function",
        """
        K = 1
        def fit(x):
            def inner(y): return y + K
            return inner(x)
        """,
        "K = 1",
        "K = 2",
        ("study.fit",),
    ),
    Edit(
        "comprehension",
        "K = 1\ndef fit(x): return [y + K for y in x]",
        "K = 1",
        "K = 2",
        ("study.fit",),
    ),
    Edit(
        "generator expression",
        "K = 1\ndef fit(x): return sum(y + K for y in x)",
        "K = 1",
        "K = 2",
        ("study.fit",),
    ),
    Edit(
        "singledispatch",
        """
        import functools
        @functools.singledispatch
        def convert(x): return x
        @convert.register
        def _(x: int): return x + 1
        def fit(x): return convert(x)
        """,
        "x + 1",
        "x + 2",
        ("study._",),
    ),
    Edit(
        "registration of singledispatch",
        """
        import functools
        @functools.singledispatch
        def convert(x): return x
        @convert.register(int)
        def _(x): return x + 1
        def fit(x): return convert(x)
        """,
        "register(int)",
        "register(float)",
        ("functools: singledispatch.<locals>.wrapper", "study._"),
    ),
]


@pytest.mark.parametrize("edit", FRESH, ids=str)
def test_an_edit_that_does_not_count(edit: Edit, tmp_path: Path) -> None:
    """The digest is the same, although the project is in another folder."""
    assert_does_not_count(edit, tmp_path)


@pytest.mark.parametrize("edit", STALE, ids=str)
def test_an_edit_that_counts(edit: Edit, tmp_path: Path) -> None:
    """The digest differs, and the parts that differ are those that were edited."""
    assert_counts(edit, tmp_path)
