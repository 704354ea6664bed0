"""No module and no function is longer than a reader can follow."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
MODULE_LINES: Final = {"src": 400, "tests": 500}
FUNCTION_LINES: Final = 45
FUNCTIONS: Final = ast.FunctionDef, ast.AsyncFunctionDef


def long_parts(name: str, text: str, limit: int) -> Iterator[str]:
    """The module, if it has too many lines, and its functions with too many, with their docstrings."""
    lines = text.count("\n")
    if lines > limit:
        yield f"{name}: {lines} lines, more than {limit}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines, more than {FUNCTION_LINES}"


def test_modules_and_functions_are_short() -> None:
    """No module of the library has more than 400 lines, none of the tests more than 500, no function more than 45."""
    found = [
        long
        for folder, limit in MODULE_LINES.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        for long in long_parts(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"), limit)
    ]
    assert [] == found


def test_long_parts_are_found() -> None:
    """The module and the inner method, and nothing of exactly the most lines."""
    method = "    def method(self):\n" + "        self()\n" * 45
    module = "class Long:\n" + method + "def fits():\n" + "    pass\n" * 44
    assert ["m:2: method has 46 lines, more than 45"] == [*long_parts("m", module, 92)]
    assert "m: 92 lines, more than 91" in [*long_parts("m", module, 91)]
