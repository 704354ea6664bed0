"""Changed default values of a function whose text is the same otherwise."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["changed_defaults"]

#: A line of a part's text for the value of a default.
_DEFAULT: Final = re.compile(r"# default ([^:]+): (.*)")
_WITH_ARGUMENTS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def changed_defaults(
    changed: Iterable[tuple[Sequence[str], Sequence[str]]],
) -> list[tuple[str, str, str]]:
    """The parameter and both values of each changed default; empty if anything else differs.

    Args:
        changed: The lines that differ in the text of a function, each group with those in their place.
    """
    before, now = dict[str, str](), dict[str, str]()
    headers: tuple[list[str], list[str]] = [], []
    for groups in changed:
        for lines, values, others in zip(groups, (before, now), headers, strict=True):
            for line in lines:
                found = _DEFAULT.fullmatch(line)
                if found is None:
                    others.append(line)
                else:
                    values[found[1]] = found[2]
    old, new = (_without_defaults("\n".join(lines)) for lines in headers)
    if before.keys() != now.keys() or old is None or old != new:
        return []
    return [(name, before[name], now[name]) for name in now]


def _without_defaults(header: str) -> str | None:
    """The first line of a definition without its default values; None for other lines."""
    header = header.strip()
    if not header:
        return ""
    try:
        tree = ast.parse(f"{header} ..." if header.endswith(":") else header)
    except (SyntaxError, ValueError, RecursionError):
        return None
    function = next((node for node in ast.walk(tree) if isinstance(node, _WITH_ARGUMENTS)), None)
    if function is None:
        return None
    arguments = function.args
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [each and ast.Constant(None) for each in arguments.kw_defaults]
    return ast.dump(tree)
