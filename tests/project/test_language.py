"""Words that neither pages nor docstrings nor comments nor messages use: docs/glossary.md has the words instead."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import functionfuse

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Words and phrases that are not used, each with what is used instead; a key is a regular expression.
FORBIDDEN: Final = {
    "anew": "again",
    "as it was|as they were": "unchanged",
    "at once": "immediately, in parallel",
    "beside": "next to, in addition to",
    "by itself": "automatically",
    "for ever": "without end, until ...",
    "(?<!there )is no(?! longer)": "is not a",
    "leaves? out|left out": "skip, skipped",
    "lets? go": "release",
    "nobody": "no node, no process, no user",
    "safe mode": "allowed_types, the restricted unpickler",
    "sealed": "pickled",
    "somebody|whoever": "a user, a node, a process",
    "stands? for": "represents",
    "settles?|settled": "complete, handle, verify",
    "takes? along": "fail together with",
    "this page is for": "after this page you can",
    "told": "reported, passed",
    "travels?|travelled|travelling": "is sent, is passed",
    "who needs": "dependents, consumers",
    "written down|writes? down": "recorded, records",
}

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = Path(functionfuse.__file__).parent
PAGES: Final = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md"),
    *("changelog.d/*.md", "docs/*.md", "docs/decisions/*.md"),
)
#: Parts of pages that are not prose: code, code within a line, and tables that programs write.
NOT_PROSE: Final = (
    r"^```.*?^```",
    r"`[^`\n]*`",
    r"^<!-- generated table -->.*?^<!-- end of the generated table -->",
    r"^<!-- the last table -->.*?^<!-- end of the last table -->",
)


def words_in(text: str) -> Counter[str]:
    """How often a text uses each of the forbidden words."""
    return Counter(
        {
            word: count
            for word in FORBIDDEN
            if (count := len(re.findall(rf"\b(?:{word})\b", text, re.IGNORECASE)))
        }
    )


def prose_of(page: str) -> str:
    """A page without code and tables that programs write; links keep their text, not their target."""
    for pattern in NOT_PROSE:
        page = re.sub(pattern, " ", page, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\]\([^)\s]*\)", "]", page)


def texts_of(module: str) -> Iterator[str]:
    """The docstrings and comments of a module, and the literals of its messages."""
    for node in ast.walk(ast.parse(module)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
        elif is_message(node):
            yield " ".join(literals_of(node))
    for token in tokenize.generate_tokens(io.StringIO(module).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def is_message(node: ast.AST) -> bool:
    """Whether a statement raises, warns, or assigns a text to the name `message`."""
    match node:
        case ast.Raise() | ast.Expr(value=ast.Call(func=ast.Attribute(attr="warn"))):
            return True
        case ast.Assign(targets=[ast.Name(id="message")]):
            return True
    return False


def literals_of(node: ast.AST) -> Iterator[str]:
    """All string literals within a statement, in their order."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def report(found: dict[str, Counter[str]]) -> list[str]:
    """A line for each place of a forbidden word, with the word to use."""
    return [
        f"{place}: {word!r}; use: {FORBIDDEN[word]}"
        for place, counts in sorted(found.items())
        for word in counts
    ]


def test_pages_use_the_words_of_the_glossary() -> None:
    """No page uses a forbidden word in its prose."""
    paths = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    found = {
        str(path.relative_to(ROOT)): words_in(prose_of(path.read_text(encoding="utf-8")))
        for path in paths
    }
    assert [] == report(found)


def test_the_source_uses_the_words_of_the_glossary() -> None:
    """No docstring, comment or message of the package and its tests uses a forbidden word."""
    paths = [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    found = {
        str(path): words_in("\n".join(texts_of(path.read_text(encoding="utf-8")))) for path in paths
    }
    assert [] == report(found)


def test_words_are_found() -> None:
    """The checks find whole words in prose, docstrings, comments, errors, warnings and messages, and no others."""
    page = "# Told\n\nMade anew, not renewed: `beside` [it](beside.md), there is no step.\n\n```text\nat once\n```\n"
    assert {"told": 1, "anew": 1} == words_in(prose_of(page))

    module = '''"""What stands for it."""
class Public:
    """Who needs it."""
    def method(self):
        """It travels."""
    def _hidden(self):
        """Not told."""
def function(value):
    message = f"{value} is no number"
    if value:  # settled
        raise TypeError(message)
    warnings.warn("it is left out", stacklevel=2)
    raise ValueError("beside the " + value)
    return "anew"
'''
    assert {
        "stands? for": 1,
        "who needs": 1,
        "told": 1,
        "settles?|settled": 1,
        "travels?|travelled|travelling": 1,
        "(?<!there )is no(?! longer)": 1,
        "leaves? out|left out": 1,
        "beside": 1,
    } == words_in("\n".join(texts_of(module)))
